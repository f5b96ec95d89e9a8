"""Group commit: many callers, one write.

There is no timer that callers wait for: while one batch is on its way the next one fills. A window can be set for
writes that nobody is in a hurry for, since fewer and larger batches cost less.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS: Final = 500
MAX_BYTES: Final = 8 * 1024 * 1024


class GroupCommit(Generic[Item, Result]):
    """Collects items and writes them in batches, at most ``flights`` at a time."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        flights: int = 1,
        window_s: float = 0.0,
        max_items: int = MAX_ITEMS,
    ) -> None:
        """Set up a lane.

        ``write`` returns one result for each item, in order. What it raises, every caller of that batch gets.
        """
        self._write = write
        self._flights = flights
        self._window_s = window_s
        self._max_items = max_items
        self._waiting: deque[tuple[Item, int, asyncio.Future[Result]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

    def submit(self, item: Item, size_bytes: int = 0) -> asyncio.Future[Result]:
        """Hand in one item; the future gets its result. Cancel it to withdraw the item, unless it is on its way."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, size_bytes, future))
        if self._timer is None and len(self._under_way) < self._flights:
            soon = loop.call_soon if not self._window_s else partial(loop.call_later, self._window_s)
            self._timer = soon(self._take_off)
        return future

    async def flush(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._waiting or self._under_way:
            if self._timer is not None:
                self._timer.cancel()
                self._take_off()
            if self._under_way:
                await asyncio.wait(list(self._under_way))

    def __len__(self) -> int:
        return len(self._waiting)

    def _take_off(self) -> None:
        self._timer = None
        batch: list[tuple[Item, int, asyncio.Future[Result]]] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._max_items and size_bytes < MAX_BYTES:
            entry = self._waiting.popleft()
            if not entry[2].done():  # nobody waits for it any more, so it must not happen
                size_bytes += entry[1]
                batch.append(entry)
        if not batch:
            return
        task = asyncio.get_running_loop().create_task(self._fly(batch), name="group commit")
        self._under_way.add(task)
        task.add_done_callback(self._landed)
        if self._waiting and len(self._under_way) < self._flights:
            self._take_off()

    async def _fly(self, batch: list[tuple[Item, int, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _, _ in batch])
        except asyncio.CancelledError:
            for _, _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for this batch
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # who has stopped waiting need not be told
        else:
            for (_, _, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting and self._timer is None:
            if self._window_s and len(self._waiting) < self._max_items:
                self._timer = asyncio.get_running_loop().call_later(self._window_s, self._take_off)
            else:
                self._take_off()
