"""How many turns a business had today, counted by all processes together.

The counters lie in ``events``, whose index lets them expire, and carry the number that erasing looks for. A day is one
of UTC by this machine's clock; around midnight the clocks of two machines may differ.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from pymongo import ReturnDocument

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.inbox.store import unknown_on_error

FIELD: Final = "hub.limits"  #: marks a counter in ``events``


class DailyTurns:
    """The counters. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database."""
        self._events = database.events

    async def count(self, business_id: str, row: InboxRow, now: datetime) -> int:
        """Count one more turn; return how many there were today, this one included.

        A write whose result was unknown may have been counted, so there may be a few turns less than the limit.
        """
        counter = {"_id": f"turns:{business_id}:{_day(now)}"}
        about = {"field": FIELD, "phone_number_id": row.phone_number_id, "account_id": None, "item": b""}
        change = {"$inc": {"count": 1}, "$set": {"at": now}, "$setOnInsert": about}
        with unknown_on_error("count a turn"):
            stored = await self._events.find_one_and_update(
                counter, change, upsert=True, return_document=ReturnDocument.AFTER
            )
        count: int = stored["count"]
        return count

    async def claim_notice(self, business_id: str, row: InboxRow, now: datetime) -> bool:
        """Whether this message is the one of its customer that is told of the limit today; it stays that one."""
        # The customer's id stands where erasing a customer looks for it, and not in a key.
        whose = hashlib.sha256(row.conversation.encode()).hexdigest()[:32]
        claim = {"_id": f"limit:{business_id}:{_day(now)}:{whose}"}
        about = {
            "field": FIELD,
            "phone_number_id": row.phone_number_id,
            "account_id": None,
            "item": row.customer.encode(),
            "at": now,
            "message": row.id,
        }
        with unknown_on_error("claim a notice"):
            stored = await self._events.find_one_and_update(
                claim, {"$setOnInsert": about}, upsert=True, return_document=ReturnDocument.AFTER
            )
        return bool(stored["message"] == row.id)


def _day(now: datetime) -> str:
    return now.astimezone(UTC).date().isoformat()
