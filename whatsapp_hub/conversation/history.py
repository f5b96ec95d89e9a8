"""What was said: the last turns of each conversation, in the database, joined over the names of its customer."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.messages import ConversationId, conversation_id, customer_of, phone_number_id_of
from whatsapp_hub.cloud_api.names import Names
from whatsapp_hub.conversation.remembered import Documents, Remembered, alias_ids, reachable, remember
from whatsapp_hub.database import Collection, Database
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.store import DUPLICATE_KEY, unknown_on_error

FLIGHTS: Final = 2
MAX_READS: Final = 3  # of one batch: a name that leads to a name that leads to a name
FIELDS: Final = ("turns", "aliases", "human_at", "resumed_at", "paused_at", "paused_until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One turn to remember."""

    conversation: ConversationId = field(repr=False)
    turn_id: str
    business_id: str
    customer: str = field(repr=False)
    reply: str = field(repr=False)
    timestamp: int = 0  #: unix seconds, of the customer's message
    arrival: int = 0  #: orders what has the same timestamp: when it came, in nanoseconds
    by_human: bool = False
    names: Sequence[str] = field(default=(), repr=False)  #: further ones of the customer, not known to be theirs yet


class History:
    """The ``conversations`` collection. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database, *, keep_turns: int, batch_interval_s: float) -> None:
        """Remember the last ``keep_turns`` turns of each conversation."""
        self._conversations = database.conversations
        self._keep_turns = keep_turns
        self._reads = GroupCommit(self._find, flights=FLIGHTS, interval_s=batch_interval_s)
        self._writes = GroupCommit(self._write, interval_s=batch_interval_s)

    def read(self, conversation: ConversationId, names: Sequence[str] = ()) -> Awaitable[Remembered]:
        """Return what is known of a conversation, whatever name of the customer it was told for.

        ``names`` are further ones that the message at hand tells.
        """
        return self._reads.submit((conversation, names))

    def append(self, entry: Entry) -> Awaitable[None]:
        """Remember a turn; once, however often it is told."""
        return self._writes.submit(entry)

    async def join(self, phone_number_id: str, names: Iterable[Names]) -> None:
        """Remember, durably, that names are one person's; any number of times."""
        now = datetime.now(UTC)
        updates = [update for one in names for update in join_updates(phone_number_id, one, now)]
        if updates:
            await write_conversations(self._conversations, updates)

    async def answered_at(self, conversation: str) -> datetime | None:
        """Return when the conversation's last turn was remembered; None where none is."""
        with unknown_on_error("read a history's time"):
            found = await self._conversations.find_one({"_id": conversation}, {"updated_at": 1})
        at = found.get("updated_at") if found else None
        return at if isinstance(at, datetime) else None

    async def flush(self) -> None:
        """Wait until everything handed in has been written."""
        await self._writes.flush()

    async def _find(self, asked: Sequence[tuple[ConversationId, Sequence[str]]]) -> list[Remembered]:
        documents: dict[str, dict[str, Any]] = {}
        read: set[str] = set()
        for _ in range(MAX_READS):
            wanted = {key for one in asked for key in reachable(*one, documents)} - read
            if not wanted:
                break
            with unknown_on_error("read histories"):
                found = self._conversations.find({"_id": {"$in": list(wanted)}}, dict.fromkeys(FIELDS, 1))
                documents.update({document["_id"]: document async for document in found})
            read |= wanted
            if not any(alias_ids(documents[key]) - read for key in wanted & documents.keys()):
                break  # nearly always: the names that a message tells are all there are
        return [self._remember(*one, documents) for one in asked]

    def _remember(self, conversation: ConversationId, names: Sequence[str], documents: Documents) -> Remembered:
        return remember(conversation, names, documents, keep_turns=self._keep_turns)

    async def _write(self, entries: Sequence[Entry]) -> list[None]:
        now = datetime.now(UTC)
        updates = [update for entry in entries for update in entry_updates(entry, now, keep_turns=self._keep_turns)]
        await write_conversations(self._conversations, updates)
        return [None] * len(entries)


def entry_updates(entry: Entry, now: datetime, *, keep_turns: int) -> list[UpdateOne]:
    """Return the writes that remember a turn and, where they are new, the customer's names."""
    turn: dict[str, Any] = {
        "id": entry.turn_id,
        "customer": json_text.clean(entry.customer),
        "reply": json_text.clean(entry.reply),
    }
    turn |= {"at": entry.timestamp, "arrival": entry.arrival} | ({"by_human": True} if entry.by_human else {})
    values: dict[str, Any] = {"updated_at": now} | ({"business": entry.business_id} if entry.business_id else {})
    push = UpdateOne(
        # Where the turn is there already the upsert inserts, and the index on ``_id`` refuses it: told before.
        {"_id": entry.conversation, "turns.id": {"$ne": entry.turn_id}},
        {"$push": {"turns": {"$each": [turn], "$slice": -keep_turns}}, "$set": values},
        upsert=True,
    )
    if not entry.names:
        return [push]
    names = Names(now=(customer_of(entry.conversation), *entry.names))
    return [push, *join_updates(phone_number_id_of(entry.conversation), names, now)]


def join_updates(phone_number_id: str, names: Names, now: datetime) -> list[UpdateOne]:
    """Return the writes after which whoever looks under one of these names finds what is known under the others.

    A former name leads nowhere: a number that somebody gave up may be a stranger's tomorrow.
    """
    if not names.tell_something:
        return []
    return [
        UpdateOne(
            {"_id": conversation_id(phone_number_id, name)},
            {"$addToSet": {"aliases": {"$each": others}}, "$set": {"updated_at": now}},
            upsert=True,
        )
        for name in names.now
        if (others := [other for other in (*names.now, *names.former) if other != name])
    ]


async def write_conversations(conversations: Collection, updates: Sequence[UpdateOne]) -> None:
    """Write, each update whatever becomes of the others. Raises ``StoreUnavailable``.

    An insert is refused where a turn was told before, or where somebody else has just inserted the document: what was
    refused is written once more, and the second refusal is the former.
    """
    with unknown_on_error("write histories"):
        refused = await _try_to_write(conversations, updates)
        if refused:
            await _try_to_write(conversations, [updates[index] for index in refused])


async def _try_to_write(conversations: Collection, updates: Sequence[UpdateOne]) -> list[int]:
    try:
        await conversations.bulk_write(list(updates), ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        refusals = details.get("writeErrors", ())
        if details.get("writeConcernErrors") or any(refusal["code"] != DUPLICATE_KEY for refusal in refusals):
            raise
        return [refusal["index"] for refusal in refusals]
    return []
