"""One clock for all processes: the database's, as far as each has heard of it.

Meta's timestamps are seconds. What several processes receive within the same second is put into order by when it
arrived, and by their own clocks, which may differ by more than that, it would not be the right order.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error

TIMEOUT_S: Final = 2.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DatabaseClock:
    """The database's time, carried on by this machine's monotonic clock, so that no jump of its own shows."""

    def __init__(self, database: Database) -> None:
        """Start with this machine's time; the first ``read`` corrects it."""
        self._database = database
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._last_ns = 0

    async def read(self) -> None:
        """Ask the database for its time. Raises ``StoreUnavailable``."""
        began_ns = time.monotonic_ns()
        with unknown_on_error("read the clock", TIMEOUT_S):
            hello = await self._database.hello()
        if (server_time := hello.get("localTime")) is not None:
            server_ns = (server_time.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) * 1000
            self._offset_ns = server_ns - (began_ns + time.monotonic_ns()) // 2

    def now_ns(self) -> int:
        """Return the time in nanoseconds since 1970; never the same twice, never less than before."""
        self._last_ns = max(self._last_ns + 1, time.monotonic_ns() + self._offset_ns)
        return self._last_ns
