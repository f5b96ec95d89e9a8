"""What was said: the last turns of each conversation, in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from whatsapp_hub.assistants.base import PastTurn
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.store import DUPLICATE_KEY, unknown_on_error

FLIGHTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One turn to remember."""

    conversation: str = field(repr=False)
    turn_id: str
    business_id: str
    customer: str = field(repr=False)
    reply: str = field(repr=False)


class History:
    """The ``conversations`` collection. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database, *, keep_turns: int, batch_window_s: float) -> None:
        """Remember the last ``keep_turns`` turns of each conversation."""
        self._conversations = database.conversations
        self._keep_turns = keep_turns
        self._reads = GroupCommit(self._find, flights=FLIGHTS, window_s=batch_window_s)
        self._writes = GroupCommit(self._push, window_s=batch_window_s)

    def read(self, conversation: str) -> Awaitable[tuple[PastTurn, ...]]:
        """Return the turns remembered, oldest first."""
        return self._reads.submit(conversation)

    def append(self, entry: Entry) -> Awaitable[None]:
        """Remember a turn; once, however often it is told."""
        return self._writes.submit(entry)

    async def answered_at(self, conversation: str) -> datetime | None:
        """Return when the conversation's last turn was remembered; None where none is."""
        with unknown_on_error("read a history's time"):
            found = await self._conversations.find_one({"_id": conversation}, {"updated_at": 1})
        at = found.get("updated_at") if found else None
        return at if isinstance(at, datetime) else None

    async def flush(self) -> None:
        """Wait until everything handed in has been written."""
        await self._writes.flush()

    async def _find(self, conversations: Sequence[str]) -> list[tuple[PastTurn, ...]]:
        with unknown_on_error("read histories"):
            found = self._conversations.find({"_id": {"$in": list(conversations)}}, {"turns": 1})
            turns = {document["_id"]: _past_turns(document) async for document in found}
        return [turns.get(conversation, ()) for conversation in conversations]

    async def _push(self, entries: Sequence[Entry]) -> list[None]:
        now = datetime.now(UTC)
        updates = [self._update(entry, now) for entry in entries]
        with unknown_on_error("write histories"):
            try:
                await self._conversations.bulk_write(updates, ordered=False)
            except BulkWriteError as error:
                _raise_unless_told_before(error)
        return [None] * len(entries)

    def _update(self, entry: Entry, now: datetime) -> UpdateOne:
        turn = {"id": entry.turn_id, "customer": _storable(entry.customer), "reply": _storable(entry.reply)}
        return UpdateOne(
            # Where the turn is there already the upsert inserts, and the index on ``_id`` refuses it: told before.
            {"_id": entry.conversation, "turns.id": {"$ne": entry.turn_id}},
            {
                "$push": {"turns": {"$each": [turn], "$slice": -self._keep_turns}},
                "$set": {"business": entry.business_id, "updated_at": now},
            },
            upsert=True,
        )


def _past_turns(document: dict[str, Any]) -> tuple[PastTurn, ...]:
    return tuple(PastTurn(customer=turn["customer"], reply=turn["reply"]) for turn in document.get("turns", ()))


def _raise_unless_told_before(error: BulkWriteError) -> None:
    details = error.details or {}
    codes = {refusal["code"] for refusal in details.get("writeErrors", ())}
    if details.get("writeConcernErrors") or codes != {DUPLICATE_KEY}:
        raise error


def _storable(text: str) -> str:
    """Replace what UTF-8 cannot hold: one such text would fail its whole batch."""
    return text.encode("utf-8", "replace").decode("utf-8")
