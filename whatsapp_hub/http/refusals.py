"""The log of refused webhooks: it counts every one, and a flood of them writes a line a second, not thousands."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

logger = logging.getLogger("webhook")

WINDOW_S: Final = 1.0


class RefusalLog:
    """Writes the first refusal at once and then, for each kind, how many there were in every further second."""

    def __init__(self, window_s: float = WINDOW_S, *, what: str = "webhooks") -> None:
        """Write at most one line of each kind in ``window_s``."""
        self._what = what
        self._window_s = window_s
        self._counts: Counter[tuple[int, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, status: int, reason: str) -> None:
        """Note a refusal; the reason is one of our own fixed words, never the client's."""
        self._counts[status, reason] += 1
        if self._timer is None:
            self._write()

    def _write(self) -> None:
        """Write what has come together, until a window passes in which nothing did."""
        counts, self._counts = self._counts, Counter()
        for (status, reason), count in counts.items():
            logger.warning("%s refused", self._what, extra={"status": status, "reason": reason, "count": count})
        self._timer = asyncio.get_running_loop().call_later(self._window_s, self._write) if counts else None
