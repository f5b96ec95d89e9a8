"""When the driver itself did not get to run: whatever it sees late because of that is not late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Final

BEAT_S: Final = 0.02
LEAST_S: Final = 0.05  #: what is shorter is not counted


class Pulse:
    """Beats in the driver's event loop, and takes down when it missed a beat."""

    def __init__(self) -> None:
        self._last = inf  #: the last beat; infinity while nobody beats
        self._gaps: list[tuple[float, float]] = []

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat meanwhile, if nobody does yet."""
        if self._last < inf:
            yield
            return
        self._last = time.monotonic()
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._last = inf

    def lost_s(self, began_at: float, ended_at: float) -> float:
        """Return how long the driver did not run between two moments, the second of which is now."""
        gaps = (*self._gaps, (self._last + BEAT_S, ended_at))
        counted = [(since, until) for since, until in gaps if _counts(since, until)]
        return sum(max(0.0, min(until, ended_at) - max(since, began_at)) for since, until in counted)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            if _counts(self._last + BEAT_S, now):
                self._gaps.append((self._last + BEAT_S, now))
            self._last = now


def _counts(since: float, until: float) -> bool:
    return until - since >= LEAST_S
