"""All MongoDB access of the inbox that rides a turn or a webhook.

Every write names the state it leaves and carries ``_id`` and ``conversation``; a write of a turn also carries ``owner``
and ``epoch``. Batched updates return one count, so each leaves a stamp of its own: where the count falls short the
stamps are read back. Any error of the driver becomes ``StoreUnavailable``, which means "unknown", never "failed".
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, Final

import bson
import pymongo
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from whatsapp_hub.cloud_api.messages import FAILED_RANK, StatusUpdate, conversation_id
from whatsapp_hub.cloud_api.outgoing import CallbackData
from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import InboxRow, Outcome, State
from whatsapp_hub.inbox.late_failures import (
    MOST_RESENDS,
    failure_reason,
    is_counted,
    is_worth_another_send,
    reopening,
)

logger = logging.getLogger("inbox")

#: Of one operation. While no server can be found it is the only bound that counts.
TIMEOUT_S: Final = 5.0
DUPLICATE_KEY: Final = 11000
ORDER: Final = [("conversation", 1), ("place", 1), ("arrival", 1)]


class Inserted(StrEnum):
    """What became of an insert."""

    STORED = "stored"
    DUPLICATE = "duplicate"  #: a document with this ``_id`` is there already
    BUSY = "busy"  #: another message of the conversation is active
    REFUSED = "refused"  #: the server does not take this document


@dataclass(slots=True, kw_only=True)
class FencedWrite:
    """One update of a document that this process owns."""

    row: InboxRow
    values: Mapping[str, Any]
    stamp: str  #: unique; tells afterwards whether this write happened
    unset: Sequence[str] = ()
    leaves: State = State.ACTIVE
    increase: Mapping[str, int] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)  #: further conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWrite:
    """A status and the part that its callback data points at."""

    status: StatusUpdate
    target: CallbackData

    @property
    def row_id(self) -> str:
        """The inbox document that the part belongs to, if the hint is right."""
        return f"{self.status.phone_number_id}:{self.target.message_id}"

    @property
    def conversation(self) -> str:
        """The conversation of that document, if the hint is right."""
        return conversation_id(self.status.phone_number_id, self.target.customer)


@contextmanager
def unknown_on_error(doing: str, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Bound what is done inside, and turn whatever the driver raises into ``StoreUnavailable``.

    Nothing but calls of the driver belongs inside: a task that is started there inherits the deadline.
    """
    try:
        with pymongo.timeout(timeout_s):
            yield
    except PyMongoError as error:
        logger.warning("database did not confirm", extra={"doing": doing, "error": type(error).__name__})
        raise StoreUnavailable from error


def encode(document: Mapping[str, Any]) -> RawBSONDocument | None:
    """Encode a document on its own, so that one that cannot be encoded fails nobody else; None if it cannot."""
    try:
        return RawBSONDocument(bson.encode(document))
    except (BSONError, OverflowError, UnicodeError):
        return None


class InboxStore:
    """The ``inbox`` and ``events`` collections, as webhooks and turns use them."""

    def __init__(
        self, database: Database, *, on_late_failure: Callable[[StatusWrite, bool], None] = lambda *_: None
    ) -> None:
        """Work on this database.

        ``on_late_failure`` is told once of each status that took an answer back, and whether its message died of that.
        """
        self._inbox = database.inbox
        self._events = database.events
        self._on_late_failure = on_late_failure

    async def insert(self, units: Sequence[Sequence[RawBSONDocument]]) -> list[list[Inserted]]:
        """Insert all documents of all units in one go; return what became of each."""
        flat = list(chain.from_iterable(units))
        refused: dict[int, Inserted] = {}
        with unknown_on_error("insert"):
            try:
                await self._inbox.insert_many(flat, ordered=False)
            except BulkWriteError as error:
                refused = _read_refusals(error)
        outcomes = iter([refused.get(index, Inserted.STORED) for index in range(len(flat))])
        return [[next(outcomes) for _ in unit] for unit in units]

    async def count_deliveries(self, keys: Sequence[tuple[str, str]]) -> list[bool]:
        """Count another delivery of each ``(_id, conversation)`` with a real write; True where the document is there.

        A read would not do: it could see a document that a rollback takes away again.
        """
        writes = [UpdateOne({"_id": i, "conversation": c}, {"$inc": {"deliveries": 1}}) for i, c in keys]
        with unknown_on_error("count deliveries"):
            result = await self._inbox.bulk_write(writes, ordered=False)
            if result.matched_count == len(keys):
                return [True] * len(keys)
            # Which ones are gone? Asked one by one: this happens after a rollback or an expiry only.
            matched = []
            for write_id, conversation in keys:
                one = await self._inbox.update_one(
                    {"_id": write_id, "conversation": conversation}, {"$inc": {"deliveries": 0}}
                )
                if not one.matched_count:
                    # A copy may name its sender otherwise (since 2026 by a BSUID too); its id tells that it is one.
                    one = await self._inbox.update_one({"_id": write_id}, {"$inc": {"deliveries": 1}})
                matched.append(one.matched_count == 1)
            return matched

    async def insert_events(self, documents: Sequence[RawBSONDocument]) -> list[Inserted]:
        """Insert what is not a message for the inbox."""
        refused: dict[int, Inserted] = {}
        with unknown_on_error("insert events"):
            try:
                await self._events.insert_many(list(documents), ordered=False)
            except BulkWriteError as error:
                refused = _read_refusals(error)
        return [refused.get(index, Inserted.STORED) for index in range(len(documents))]

    async def apply_statuses(self, writes: Sequence[StatusWrite]) -> list[bool]:
        """Raise the rank of the part that each status is about; False where no such part was sent for that number."""
        operations = [UpdateOne(_status_filter(write), _status_update(write)) for write in writes]
        failed = [write for write in writes if write.status.rank == FAILED_RANK]
        with unknown_on_error("apply statuses"):
            result = await self._inbox.bulk_write(operations, ordered=False)
            if result.matched_count == len(writes):
                matched = [True] * len(writes)
            else:
                matched = await self._find_matches(writes)
            if failed:
                passing = [write for write in failed if is_worth_another_send(write.status.error_code)]
                await self._take_back(passing, _reopening, died=False)
                await self._take_back(failed, _late_failure, died=True)  # those that are still failed
        return matched

    async def _find_matches(self, writes: Sequence[StatusWrite]) -> list[bool]:
        ids = list({write.row_id for write in writes})
        wanted = {"conversation": 1, "parts.attempt": 1, "parts.void_attempts": 1, "parts.wamid": 1}
        rows = {row["_id"]: row async for row in self._inbox.find({"_id": {"$in": ids}}, wanted)}
        return [_matches(write, rows.get(write.row_id)) for write in writes]

    async def _take_back(
        self, writes: Sequence[StatusWrite], build: Callable[[StatusWrite, str], UpdateOne], *, died: bool
    ) -> None:
        """Do what follows for messages that counted as answered; whose turn is on, that turn sees to it itself."""
        if not writes:
            return
        stamps = {secrets.token_hex(12): write for write in writes}
        updates = [build(write, stamp) for stamp, write in stamps.items()]
        if not (await self._inbox.bulk_write(updates, ordered=False)).modified_count:
            return
        ids = list({write.row_id for write in writes})
        async for row in self._inbox.find({"_id": {"$in": ids}}, {"late": 1}):
            if write := stamps.get(row.get("late", "")):
                self._on_late_failure(write, died)

    async def write_fenced(self, writes: Sequence[FencedWrite]) -> list[bool]:
        """Apply updates of documents that this process owns; False where the document is not ours any more."""
        operations = [_fenced_update(write) for write in writes]
        with unknown_on_error("fenced write"):
            try:
                result = await self._inbox.bulk_write(operations, ordered=False)
                if result.matched_count == len(writes):
                    return [True] * len(writes)
            except BulkWriteError as error:
                _read_refusals(error)
            ids = [write.row.id for write in writes]
            found = self._inbox.find({"_id": {"$in": ids}}, {"stamp": 1})
            stamps = {row["_id"]: row.get("stamp") async for row in found}
        return [stamps.get(write.row.id) == write.stamp for write in writes]

    async def finish_members(self, members: Sequence[tuple[str, str, str, datetime]]) -> list[bool]:
        """Mark queued messages ``(_id, conversation, turn, now)`` as answered by a turn; any number of times."""
        writes = [
            UpdateOne(
                {"_id": i, "conversation": c, "state": State.QUEUED.value},
                {
                    "$set": {"state": State.DONE.value, "outcome": Outcome.IN_TURN.value, "turn": turn, "done_at": now},
                    "$unset": {"owner": ""},
                },
            )
            for i, c, turn, now in members
        ]
        with unknown_on_error("finish members"):
            await self._inbox.bulk_write(writes, ordered=False)
        return [True] * len(members)

    async def find_queued(self, conversations: Sequence[str], most: int) -> dict[str, list[InboxRow]]:
        """Return the first queued messages of each conversation, in order, at most ``most`` of each."""
        rows: dict[str, list[InboxRow]] = {conversation: [] for conversation in conversations}
        limit = max(1_000, most)
        query = {"conversation": {"$in": list(rows)}, "state": State.QUEUED.value}
        with unknown_on_error("find queued"):
            found = await self._inbox.find(query).sort(ORDER).limit(limit).to_list(None)
            for document in found:
                row = InboxRow.from_document(document)
                rows[row.conversation].append(row)
            if len(found) == limit:  # one long queue hid the ones behind it
                seen_whole = found[-1]["conversation"]
                for conversation in [c for c in rows if c >= seen_whole]:
                    alone = self._inbox.find({"conversation": conversation, "state": State.QUEUED.value})
                    documents = await alone.sort(ORDER).limit(most).to_list(None)
                    rows[conversation] = [InboxRow.from_document(document) for document in documents]
        return {conversation: queued[:most] for conversation, queued in rows.items()}

    async def find_rows(self, ids: Sequence[str]) -> dict[str, InboxRow]:
        """Return the documents with these ids."""
        with unknown_on_error("find rows"):
            return {d["_id"]: InboxRow.from_document(d) async for d in self._inbox.find({"_id": {"$in": list(ids)}})}


def _read_refusals(error: BulkWriteError) -> dict[int, Inserted]:
    """Tell which documents of a batch were refused and why. Raises ``error`` where the whole batch is in doubt."""
    details = error.details or {}
    if details.get("writeConcernErrors"):
        raise error
    refusals: dict[int, Inserted] = {}
    for refusal in details.get("writeErrors", ()):
        if refusal["code"] != DUPLICATE_KEY:
            logger.error("database refused a document", extra={"code": refusal["code"]})
            refusals[refusal["index"]] = Inserted.REFUSED
        elif "_id" in refusal.get("keyPattern", {}) or " index: _id_ " in refusal.get("errmsg", ""):
            refusals[refusal["index"]] = Inserted.DUPLICATE
        else:
            refusals[refusal["index"]] = Inserted.BUSY
    return refusals


def _fenced_update(write: FencedWrite) -> UpdateOne:
    row = write.row
    update: dict[str, Any] = {"$set": {**write.values, "stamp": write.stamp}}
    if write.unset:
        update["$unset"] = dict.fromkeys(write.unset, "")
    if write.increase:
        update["$inc"] = write.increase
    return UpdateOne(
        {
            "_id": row.id,
            "conversation": row.conversation,
            "state": write.leaves.value,
            "owner": row.owner,
            "epoch": row.epoch,
            **write.also,
        },
        update,
    )


def _status_filter(write: StatusWrite) -> dict[str, Any]:
    part = f"parts.{write.target.part}"
    # A failure of an earlier attempt says nothing of the present one; a delivery does.
    attempt: Any = write.target.attempt if write.status.rank == FAILED_RANK else {"$gte": write.target.attempt}
    return {
        "_id": write.row_id,
        "conversation": write.conversation,
        f"{part}.attempt": attempt,
        f"{part}.void_attempts": {"$not": {"$gte": write.target.attempt}},
        # Not null for "not known": the server also looks for a field "0" in every part, and finds null there.
        f"{part}.wamid": {"$in": [write.status.id, ""]},
    }


def _matches(write: StatusWrite, row: Mapping[str, Any] | None) -> bool:
    """Whether ``_status_filter`` holds for a row; it does whenever it did when the status was applied."""
    if row is None or row["conversation"] != write.conversation or write.target.part >= len(row.get("parts", ())):
        return False
    part = row["parts"][write.target.part]
    attempt_fits = (
        part["attempt"] == write.target.attempt
        if write.status.rank == FAILED_RANK
        else part["attempt"] >= write.target.attempt
    )
    is_void = part.get("void_attempts", 0) >= write.target.attempt
    return attempt_fits and not is_void and part["wamid"] in (write.status.id, "")


def _status_update(write: StatusWrite) -> dict[str, Any]:
    part = f"parts.{write.target.part}"
    values: dict[str, Any] = {
        f"{part}.wamid": write.status.id,
        f"{part}.times.{write.status.status}": write.status.timestamp,
    }
    if write.status.rank == FAILED_RANK:
        values[f"{part}.error"] = write.status.error_code
    return {"$max": {f"{part}.rank": write.status.rank}, "$set": values}


def _reopening(write: StatusWrite, stamp: str) -> UpdateOne:
    """Send a part again that was not delivered for a reason that may pass."""
    index, attempt, code = write.target.part, write.target.attempt, write.status.error_code
    assert code is not None  # noqa: S101 - only those with a code get here
    query = _answered_and_failed(write) | {f"parts.{index}.attempt": attempt}
    if is_counted(code):
        query[f"parts.{index}.resends"] = {"$not": {"$gte": MOST_RESENDS}}
    return UpdateOne(query, reopening(index, attempt=attempt, code=code, stamp=stamp))


def _late_failure(write: StatusWrite, stamp: str) -> UpdateOne:
    """Give up a message that counted as answered and was not delivered after all."""
    values = {"state": State.DEAD.value, "reason": failure_reason(write.status.error_code), "late": stamp}
    return UpdateOne(
        _answered_and_failed(write),
        {"$set": values, "$currentDate": {"dead_at": True}, "$unset": {"done_at": "", "outcome": ""}},
    )


def _answered_and_failed(write: StatusWrite) -> dict[str, Any]:
    return {
        "_id": write.row_id,
        "conversation": write.conversation,
        "state": State.DONE.value,
        "outcome": Outcome.REPLIED.value,
        f"parts.{write.target.part}.rank": FAILED_RANK,
    }
