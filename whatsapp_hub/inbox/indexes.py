"""The indexes of our own collections. The first one is no optimisation: it is the lock of the conversations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from bson import ObjectId
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from whatsapp_hub.database import Collection, Database
from whatsapp_hub.errors import DatabaseTaken
from whatsapp_hub.inbox.document import State
from whatsapp_hub.inbox.store import unknown_on_error

logger = logging.getLogger("inbox")

DAY_S: Final = 86_400
CONFLICTING_OPTIONS: Final = 85

ONE_ACTIVE: Final = "one_active_per_conversation"
QUEUED: Final = "queued_in_order"
OWNED: Final = "owned"
DEAD: Final = "dead"
DONE: Final = "done_expires"

_LEAST_ID: Final = ObjectId("0" * 24)


def inbox_indexes(*, done_days: int, dead_days: int) -> list[IndexModel]:
    """Return the indexes of ``inbox``. What has an owner is not ended yet."""
    return [
        IndexModel("conversation", name=ONE_ACTIVE, unique=True, partialFilterExpression={"state": State.ACTIVE.value}),
        IndexModel(
            [("conversation", 1), ("place", 1), ("arrival", 1)],
            name=QUEUED,
            partialFilterExpression={"state": State.QUEUED.value},
        ),
        IndexModel([("owner", 1), ("place", 1)], name=OWNED, partialFilterExpression={"owner": {"$exists": True}}),
        IndexModel(
            "dead_at",
            name=DEAD,
            expireAfterSeconds=dead_days * DAY_S,
            partialFilterExpression={"state": State.DEAD.value},
        ),
        # Only what is done expires, and no sooner than Meta stops delivering it again.
        IndexModel(
            "done_at",
            name=DONE,
            expireAfterSeconds=done_days * DAY_S,
            partialFilterExpression={"state": State.DONE.value},
        ),
    ]


async def find_foreign(database: Database) -> list[str]:
    """Return the names of our collections in which another program keeps documents. Raises ``StoreUnavailable``.

    Our ids are texts; the ids that a driver makes are not.
    """
    ours = (database.inbox, database.events, database.conversations, database.nodes)
    with unknown_on_error("look for documents of others"):
        return [
            collection.name
            for collection in ours
            if await collection.find_one({"_id": {"$gte": _LEAST_ID}}, {"_id": 1}) is not None
        ]


def explain_foreign(names: Sequence[str]) -> str:
    """Say in words that another program has these collections."""
    return f"another program keeps documents in {', '.join(names)}, where the hub would delete them when they are old"


async def ensure_inbox_indexes(database: Database, *, done_days: int, dead_days: int, conversation_days: int) -> None:
    """Create what is missing, and bring the retention up to date.

    Raises:
        DatabaseTaken: an index that makes documents expire would take another program's.
        StoreUnavailable: the database does not answer.

    """
    if foreign := await find_foreign(database):
        raise DatabaseTaken(explain_foreign(foreign))
    wanted = [
        (database.inbox, inbox_indexes(done_days=done_days, dead_days=dead_days)),
        (database.events, [IndexModel("at", name="expires", expireAfterSeconds=done_days * DAY_S)]),
        (
            database.conversations,
            [IndexModel("updated_at", name="expires", expireAfterSeconds=conversation_days * DAY_S)],
        ),
    ]
    with unknown_on_error("create indexes"):
        for collection, indexes in wanted:
            for index in indexes:
                await _ensure(collection, index)


async def _ensure(collection: Collection, index: IndexModel) -> None:
    try:
        await collection.create_indexes([index])
    except OperationFailure as error:
        if error.code != CONFLICTING_OPTIONS:
            raise
        options: dict[str, Any] = index.document
        change = {"name": options["name"], "expireAfterSeconds": options["expireAfterSeconds"]}
        await collection.database.command({"collMod": collection.name, "index": change})
        logger.info("retention changed", extra={"collection": collection.name, "index": options["name"]})
