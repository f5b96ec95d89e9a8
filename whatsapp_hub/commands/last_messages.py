"""When each number last had a message: looked up from the newest on, and no further back than is quick."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import DESCENDING

from whatsapp_hub.cloud_api.messages import phone_number_id_of
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.document import State

#: So many messages are looked at; a number that has none among them had none lately.
MOST: Final = 20_000
#: Each with an index that has its order: what is done, what is dead, and what is under way.
_LOOKS: Final[tuple[tuple[Mapping[str, Any], str], ...]] = (
    ({"state": State.DONE.value}, "done_at"),
    ({"state": State.DEAD.value}, "dead_at"),
    ({"owner": {"$exists": True}}, "place"),
)


async def find_last_messages(database: Database, numbers: Collection[str]) -> dict[str, datetime]:
    """Return when each of these numbers last received a message, or sent one by itself. Raises ``DatabaseError``."""
    found: dict[str, datetime] = {}
    for query, order in _LOOKS:
        waiting = set(numbers)
        cursor = database.inbox.find(query, {"arrival": 1}).sort(order, DESCENDING).limit(MOST)
        async for document in cursor:
            number = phone_number_id_of(document["_id"])
            if number in waiting:
                waiting.remove(number)
                at = datetime.fromtimestamp(document["arrival"] / 1e9, UTC)
                found[number] = max(at, found.get(number, at))
            if not waiting:
                break
    return found
