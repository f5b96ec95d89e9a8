"""How much there is of a phone number: bounded reads, for the businesses that a page shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pymongo

from whatsapp_hub.database import Database, DatabaseError

MOST_NUMBERS: Final = 100
MOST_COUNTED: Final = 10_000  #: messages of a number
AT_ONCE: Final = 4  #: each holds one of the driver's threads, which the inbox needs too
READ_TIMEOUT_S: Final = 1.0


async def find_activity(database: Database, phone_number_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each number how many messages are kept, at most ``MOST_COUNTED``, and when it was heard of last.

    What the database could not say in time is null.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def look(number: str) -> dict[str, Any]:
        own = {"_id": {"$gte": f"{number}:", "$lt": f"{number};"}}  # ";" comes right after ":"
        async with slots:
            return {
                "phone_number_id": number,
                "messages": await _count(database, own),
                "last_at": await _find_last(database, own),
            }

    return await asyncio.gather(*map(look, dict.fromkeys(filter(str.isprintable, phone_number_ids))))


async def _count(database: Database, own: dict[str, Any]) -> int | None:
    try:
        with pymongo.timeout(READ_TIMEOUT_S):
            return await database.inbox.count_documents(own, limit=MOST_COUNTED, hint="_id_")
    except DatabaseError:
        return None


async def _find_last(database: Database, own: dict[str, Any]) -> str | None:
    try:
        with pymongo.timeout(READ_TIMEOUT_S):
            found = database.conversations.find(own, {"updated_at": 1}).sort("updated_at", -1).limit(1)
            newest = await found.to_list(1)
    except DatabaseError:
        return None
    at = newest[0].get("updated_at") if newest else None
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(at, datetime) else None
