"""The database's clock: a second opinion on what time it is, for when our own may have jumped."""

from __future__ import annotations

import time
from typing import Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error

TRUSTED_FOR_S: Final = 5.0


class DatabaseClock:
    """Tells the database's time without asking it each time. Right to within the time that an answer takes."""

    def __init__(self, database: Database) -> None:
        """Ask nothing yet."""
        self._database = database
        self._told = 0.0
        self._told_at = float("-inf")  # monotonic seconds

    async def now(self) -> float:
        """Return the unix time by the database's clock. Raises ``StoreUnavailable``."""
        if time.monotonic() - self._told_at > TRUSTED_FOR_S:
            with unknown_on_error("ask for the time"):
                answer = await self._database.hello()
            self._told, self._told_at = answer["localTime"].timestamp(), time.monotonic()
        return self._told + time.monotonic() - self._told_at
