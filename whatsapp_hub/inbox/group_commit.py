"""Group commit: many callers, one write.

While one batch is on its way the next one fills. A batch costs much the same whatever is in it, so batches can also be
kept an interval apart. That is no delay where little happens: whoever comes after a pause goes at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Final, Generic, NamedTuple, TypeVar

from whatsapp_hub.errors import StoreUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS: Final = 500
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
WATCHES: Final = 20  # how often the clock is looked at in the time that callers have


class _Entry(NamedTuple, Generic[Item, Result]):
    item: Item
    size_bytes: int
    future: asyncio.Future[Result]
    since: float  #: of the loop's clock; from then on its time counts


class GroupCommit(Generic[Item, Result]):
    """Collects items and writes them in batches, at most ``flights`` at a time."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        flights: int = 1,
        interval_s: float = 0.0,
        max_items: int = MAX_ITEMS,
        timeout_s: float | None = None,
    ) -> None:
        """Set up a lane.

        ``write`` returns one result for each item, in order. What it raises, every caller of that batch gets. Batches
        take off ``interval_s`` apart or later; what one has no room for follows at once. After ``timeout_s``, or
        up to a twentieth sooner, callers get ``StoreUnavailable``, and who comes with less than that left up to a
        twentieth later; one timer a lane costs less than one each.
        """
        self._write = write
        self._flights = flights
        self._interval_s = interval_s
        self._next_at = float("-inf")  #: of the loop's clock; the next batch takes off then or later
        self._max_items = max_items
        self._timeout_s = timeout_s
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._waiting_bytes = 0
        self._under_way: dict[asyncio.Task[None], list[_Entry[Item, Result]]] = {}
        self._timer: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def submit(self, item: Item, size_bytes: int = 0, since: float | None = None) -> asyncio.Future[Result]:
        """Hand in one item; the future gets its result. Cancel it to withdraw the item, unless it is on its way.

        Its time runs from ``since`` (of the loop's clock), or from now.

        Raises:
            StoreUnavailable: too much is waiting already.

        """
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreUnavailable
        self._waiting_bytes += size_bytes
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Entry(item, size_bytes, future, loop.time() if since is None else since))
        if self._timer is None and len(self._under_way) < self._flights:
            wait_s = self._wait_s(loop)  # at least until the loop's next round: whoever hands in until then comes along
            self._timer = loop.call_later(wait_s, self._take_off) if wait_s else loop.call_soon(self._take_off)
        if self._watch is None and self._timeout_s is not None:
            self._watch = loop.call_later(self._timeout_s / WATCHES, self._look_at_the_clock)
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

    def _wait_s(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return how long the next batch has to wait."""
        return 0.0 if len(self._waiting) >= self._max_items else max(0.0, self._next_at - loop.time())

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to what is still waiting."""
        if self._timer is None and self._waiting and len(self._under_way) < self._flights:
            if wait_s := self._wait_s(loop):
                self._timer = loop.call_later(wait_s, self._take_off)
            else:
                self._take_off()

    def _take_off(self) -> None:
        self._timer = None
        batch: list[_Entry[Item, Result]] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._max_items and size_bytes < MAX_BYTES:
            entry = self._waiting.popleft()
            self._waiting_bytes -= entry.size_bytes
            if not entry.future.done():  # nobody waits for it any more, so it must not happen
                size_bytes += entry.size_bytes
                batch.append(entry)
        if not batch:
            return
        loop = asyncio.get_running_loop()
        self._next_at = loop.time() + self._interval_s
        task = loop.create_task(self._fly(batch), name="group commit")
        self._under_way[task] = batch
        task.add_done_callback(self._landed)
        self._go_on(loop)

    async def _fly(self, batch: list[_Entry[Item, Result]]) -> None:
        try:
            results = await self._write([entry.item for entry in batch])
        except asyncio.CancelledError:
            for entry in batch:
                entry.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for this batch
            for entry in batch:
                _fail(entry.future, error)
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.future.done():
                    entry.future.set_result(result)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._go_on(asyncio.get_running_loop())

    def _look_at_the_clock(self) -> None:
        """Tell those whose time will be over at the next look, and come back while there is anything."""
        assert self._timeout_s is not None  # noqa: S101 - nobody else sets the watch
        self._watch = None
        loop = asyncio.get_running_loop()
        next_look = loop.time() + self._timeout_s / WATCHES
        for entry in chain(self._waiting, *self._under_way.values()):
            if entry.since + self._timeout_s <= next_look:
                _fail(entry.future, StoreUnavailable())
        if self._waiting or self._under_way:
            self._watch = loop.call_at(next_look, self._look_at_the_clock)


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # who has stopped waiting need not be told
