"""Which process tells of an alert: a document for each, with the time when it was told last.

They lie in ``events``, whose index lets them expire. The clocks of processes are compared: a minute does not matter.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pymongo
from pymongo.errors import DuplicateKeyError

from whatsapp_hub.database import Database, DatabaseError

TIMEOUT_S: Final = 2.0
_PREFIX: Final = "alert:"


class AlertClaims:
    """Lets one of several processes tell, and a process that was started anew not again."""

    def __init__(self, database: Database) -> None:
        """Keep the claims in this database."""
        self._events = database.events

    async def claim(self, key: str, interval_s: float) -> datetime | None:
        """Return when somebody told of this within the interval; None: nobody did, and from now on we have.

        A database that does not answer cannot say no: rather told twice than never.
        """
        now = datetime.now(UTC)
        untold = {"_id": f"{_PREFIX}{key}", "at": {"$lte": now - timedelta(seconds=interval_s)}}
        try:
            with pymongo.timeout(TIMEOUT_S):
                try:
                    await self._events.update_one(untold, {"$set": {"at": now, "kind": "alert"}}, upsert=True)
                except DuplicateKeyError:
                    told = await self._events.find_one({"_id": untold["_id"]}, {"at": 1})
                    return told["at"] if told else now
        except DatabaseError:
            return None
        return None

    async def give_up(self, key: str) -> None:
        """Let anybody tell of it again; the claim of a database that does not answer ends by itself."""
        try:
            with pymongo.timeout(TIMEOUT_S):
                await self._events.delete_one({"_id": f"{_PREFIX}{key}"})
        except DatabaseError:
            return
