"""What the probes answer from: verdicts that others pass, so that a probe never waits for anything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("hub")

VERDICT_MAX_AGE_S: Final = 2.5  # older ones are no verdict; readiness has to tell the truth within 3 s
LAG_CHECK_S: Final = 0.02
LATE_S: Final = 0.05  # webhooks feel it
LAG_LIMIT_S: Final = 2.0
LAG_MEMORY_S: Final = 15.0  # longer than the usual time between two probes


class Health:
    """The state of the process and of its database, as last heard. ``metrics.ready`` follows it."""

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing of the database yet; ``clock`` counts seconds."""
        self._clock = clock
        self._database_fault: str | None = "database not yet reached"
        self._heard_at = clock()
        self._lag_s = 0.0  # the worst of late
        self._lagged_at = clock()
        self._lag_now_s = 0.0
        self._due_at: float | None = None  # when the watch of the loop should have its next turn
        self.stopping = False
        self.outage_ended_at = float("-inf")  #: when the database came back last, by ``clock``
        metrics.ready.set_function(lambda: float(not self.reasons()))

    def database_answered(self) -> None:
        """Note that the database confirmed something durable. Has to come about every second."""
        if self._find_database_fault() is not None:
            self.outage_ended_at = self._clock()
        self._database_fault = None
        self._heard_at = self._clock()

    def database_failed(self, reason: str) -> None:
        """Note that the database did not, and why, in words for the operator without any address or secret."""
        self._database_fault = reason
        self._heard_at = self._clock()

    def stop(self) -> None:
        """Note that the process takes no more work."""
        self.stopping = True

    @property
    def database_fault(self) -> str | None:
        """Why the database counts as down, in words; None if it answered lately."""
        return self._find_database_fault()

    @property
    def database_ok(self) -> bool:
        """Whether the database answered lately."""
        return self._find_database_fault() is None

    @property
    def loop_lag_s(self) -> float:
        """How late the event loop was at its worst in the last seconds, including now."""
        now = self._clock()
        overdue_s = max(0.0, now - self._due_at) if self._due_at is not None else 0.0
        remembered_s = self._lag_s if now - self._lagged_at < LAG_MEMORY_S else 0.0
        return max(overdue_s, remembered_s)

    @property
    def loop_is_late(self) -> bool:
        """Whether the event loop has more to do at this moment than it can do in time."""
        return self._lag_now_s > LATE_S

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping: not stopping, and its loop turns."""
        return not self.stopping and self.loop_lag_s < LAG_LIMIT_S

    def reasons(self) -> list[str]:
        """Return why webhooks cannot be stored now; nothing if they can."""
        fault = self._find_database_fault()
        return [*(["stopping"] if self.stopping else []), *([fault] if fault is not None else [])]

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        try:
            while True:
                self._due_at = self._clock() + LAG_CHECK_S
                await asyncio.sleep(LAG_CHECK_S)
                self._note_lag(self._clock() - self._due_at)
        finally:
            self._due_at = None

    def _note_lag(self, lag_s: float) -> None:
        self._lag_now_s = lag_s
        if lag_s >= LAG_LIMIT_S:
            logger.warning("event loop lagged", extra={"lag_s": round(lag_s, 1)})
        now = self._clock()
        if lag_s >= self._lag_s or now - self._lagged_at >= LAG_MEMORY_S:
            self._lag_s, self._lagged_at = lag_s, now

    def _find_database_fault(self) -> str | None:
        if self._database_fault is not None:
            return self._database_fault
        silent_s = self._clock() - self._heard_at
        return f"database silent for {silent_s:.0f} s" if silent_s > VERDICT_MAX_AGE_S else None
