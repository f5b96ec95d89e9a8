"""Shares a fixed number of slots fairly between keys: the longer queue does not get the larger share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from types import TracebackType
from typing import Final

#: Of those who wait under one key, in order of arrival.
_Queue = OrderedDict[asyncio.Future[None], None]


class FairGate:
    """A semaphore whose free slots go round the keys that wait, each getting one in turn.

    Under one key the order is that of arrival. Every operation takes constant time, and a key that neither holds a slot
    nor waits leaves nothing behind. For one event loop.

    Args:
        limit: slots in all.
        per_key: the most that one key may hold; None: all of them.

    """

    def __init__(self, limit: int, *, per_key: int | None = None) -> None:
        self._free = limit
        self._per_key: Final = limit if per_key is None else per_key
        self._held: dict[str, int] = {}
        self._turns: OrderedDict[str, _Queue] = OrderedDict()  # whose turn it is: keys that wait and may have more
        self._full: dict[str, _Queue] = {}  # keys that wait and hold as many as they may

    def slot(self, key: str) -> Slot:
        """Return a context manager that waits for a slot and gives it back."""
        return Slot(self, key)

    def free(self) -> int:
        """Return how many slots nobody holds."""
        return self._free

    def waiting(self) -> int:
        """Return how many wait for a slot. Takes time by the number of keys."""
        return sum(map(len, (*self._turns.values(), *self._full.values())))

    async def acquire(self, key: str) -> None:
        """Wait for a slot. Whoever is cancelled meanwhile holds none."""
        if self._free and self._held.get(key, 0) < self._per_key:
            self._take(key)
            return
        future = asyncio.get_running_loop().create_future()
        self._line_up(key, future)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._leave(key, future)
            else:  # given a slot and cancelled in the same moment
                self.release(key)
            raise

    def release(self, key: str) -> None:
        """Give a slot back and pass it on."""
        self._free += 1
        held = self._held[key] - 1
        if held:
            self._held[key] = held
        else:
            del self._held[key]
        if key in self._full:
            self._turns[key] = self._full.pop(key)
        self._pass_on()

    def _take(self, key: str) -> None:
        self._free -= 1
        self._held[key] = self._held.get(key, 0) + 1

    def _line_up(self, key: str, future: asyncio.Future[None]) -> None:
        queues = self._turns if self._held.get(key, 0) < self._per_key else self._full
        queues.setdefault(key, OrderedDict())[future] = None

    def _leave(self, key: str, future: asyncio.Future[None]) -> None:
        queues = self._turns if key in self._turns else self._full
        queue = queues.get(key)
        if queue is not None:
            queue.pop(future, None)
            if not queue:
                del queues[key]

    def _pass_on(self) -> None:
        while self._free and self._turns:
            key, queue = self._turns.popitem(last=False)
            future, _ = queue.popitem(last=False)
            if future.cancelled():  # its task has not run yet; it finds itself gone
                if queue:
                    self._turns[key] = queue
                    self._turns.move_to_end(key, last=False)
                continue
            self._take(key)
            future.set_result(None)
            if queue:
                (self._turns if self._held[key] < self._per_key else self._full)[key] = queue


class Slot:
    """One slot of a gate, held inside ``async with``."""

    __slots__ = ("_gate", "_key")

    def __init__(self, gate: FairGate, key: str) -> None:
        self._gate = gate
        self._key = key

    async def __aenter__(self) -> None:
        await self._gate.acquire(self._key)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.release(self._key)
