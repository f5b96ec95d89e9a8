"""How the limits count: exactly once for each request and, in memory, for a bounded number of addresses."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

MAX_KEYS: Final = 20_000


class CountOnce(MovingWindowRateLimiter):
    """A moving window in which testing is counting.

    The library tests first and counts afterwards, so that requests which come at the same time all pass the test.
    """

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Count, unless that would exceed the limit; tell whether it was counted."""
        return await super().hit(item, *identifiers, cost=cost)

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:  # noqa: ARG002 - the library's
        """Do nothing: ``test`` has counted."""
        return True


class BoundedMemory(MemoryStorage):
    """The times of the last requests of at most ``max_keys`` addresses and routes; the longest quiet one goes first.

    The library's own has no bound, and to count one address it looks at every other, each in a thread. Whoever has
    more than ``max_keys`` addresses is not to be held by counting addresses anyway.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        """Start empty."""
        super().__init__()
        self._max_keys = max_keys
        self._times: OrderedDict[str, array[float]] = OrderedDict()  # monotonic seconds, oldest first

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._times)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` requests, unless there would be more than ``limit`` in ``expiry`` seconds."""
        now = time.monotonic()
        times = self._times.setdefault(key, array("d"))
        self._times.move_to_end(key)
        expired = bisect_right(times, now - expiry)
        if len(times) - expired + amount > limit:
            return False
        if expired > len(times) // 2:  # not each time: it moves what remains
            del times[:expired]
        times.extend([now] * amount)
        if len(self._times) > self._max_keys:
            self._times.popitem(last=False)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - likewise
        """Return when the oldest request that still counts came (unix seconds), and how many count."""
        now, wall = time.monotonic(), time.time()
        times = self._times.get(key)
        expired = bisect_right(times, now - expiry) if times else 0
        if not times or expired == len(times):
            return wall, 0
        return wall - (now - times[expired]), len(times) - expired

    async def reset(self) -> int | None:
        """Forget everything; return how much that was."""
        count = len(self._times)
        self._times.clear()
        return count
