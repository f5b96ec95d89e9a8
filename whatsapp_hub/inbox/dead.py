"""Dead letters: listed, shown, retried, discarded. For operators; nothing here is on a hot path."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import FAILED_RANK, phone_number_id_of
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.document import NOBODY, Outcome, PartState, Stage, State
from whatsapp_hub.inbox.message_log import of_numbers
from whatsapp_hub.inbox.store import unknown_on_error
from whatsapp_hub.inbox.timeline import WITHOUT_WORDS, Timeline, build_timeline

MOST_COUNTED: Final = 10_000
MOST_REASONS: Final = 50
MOST_DEATHS: Final = 5  #: of one message are kept
_WITHOUT: Final = {"item": 0, "parts.body": 0, "parts.words": 0, "said": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was not answered, and why. Says neither what was written nor by whom."""

    id: str
    phone_number_id: str
    reason: str
    attempts: int
    received_at: datetime
    died_at: datetime
    members: tuple[str, ...]  #: messages that the same reply would have answered
    parts_sent: int
    parts: int
    retried: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which dead letters are meant: all, as far as nothing is said."""

    reason: str | None = None
    since: datetime | None = None
    before: datetime | None = None


class DeadLetters:
    """The dead letters of all businesses. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database) -> None:
        """Work on this database."""
        self._inbox = database.inbox

    async def find(
        self,
        *,
        phone_number_ids: Sequence[str] | None = None,
        most: int = 100,
        which: Which | None = None,
        oldest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return the newest dead letters, or the oldest, of all numbers or of these."""
        query = _query(phone_number_ids, which or Which())
        with unknown_on_error("list dead letters"):
            found = self._inbox.find(query, _WITHOUT).sort("dead_at", 1 if oldest_first else -1).limit(most)
            return [_read(document) async for document in found]

    async def count_reasons(
        self, *, phone_number_ids: Sequence[str] | None = None, which: Which | None = None
    ) -> list[tuple[str, int]]:
        """Return how many died of what, the most frequent first; of the newest ``MOST_COUNTED``."""
        pipeline: list[Mapping[str, Any]] = [
            {"$match": _query(phone_number_ids, which or Which())},
            {"$sort": {"dead_at": -1}},
            {"$limit": MOST_COUNTED},
            {"$group": {"_id": "$reason", "count": {"$sum": 1}}},
            {"$sort": {"count": -1, "_id": 1}},
            {"$limit": MOST_REASONS},
        ]
        with unknown_on_error("count dead letters"):
            return [(row["_id"] or "", row["count"]) async for row in self._inbox.aggregate(pipeline)]

    async def get(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter; None if there is none with this id."""
        document = await self._get(letter_id)
        return _read(document) if document else None

    async def timeline(self, letter_id: str) -> Timeline | None:
        """Return what happened to a dead letter, in order; None if there is none with this id."""
        query = {"_id": letter_id, "state": State.DEAD.value}
        with unknown_on_error("read dead letter"):
            document = await self._inbox.find_one(query, WITHOUT_WORDS)
        return build_timeline(document) if document else None

    async def retry(self, letter_id: str) -> bool:
        """Put a dead letter back at the end of its conversation's order; False if there is none with this id.

        What it said is decided anew, unless a part of the old reply has reached the customer: then the rest is sent. A
        message that the business sent by itself stays what it is.
        """
        document = await self._get(letter_id)
        if document is None:
            return False
        parts = list(document.get("parts", ()))
        sends = max([document.get("sends", 0), *(part["attempt"] for part in parts)])
        if "origin" not in document and not any(map(_reached, parts)):
            parts = []
        dropped = {} if parts else {"said": "", "times": ""}  # of what was decided then
        values = {
            "state": State.QUEUED.value,
            "stage": (Stage.REPLYING if parts else Stage.NEW).value,
            "owner": NOBODY,
            "attempts": 0,
            "place": int(time.time()),
            "arrival": time.time_ns(),
            "retried": True,
            "sends": sends,
            "first": document.get("first") or {"place": document["place"], "arrival": document["arrival"]},
            "parts": [part if _reached(part) else _to_send_again(part) for part in parts],
        }
        return await self._leave_dead(document, values, increase_epoch=True, unset=dropped)

    async def discard(self, letter_id: str) -> bool:
        """Put a dead letter away; False if there is none with this id. It expires like what is done."""
        document = await self._get(letter_id)
        if document is None:
            return False
        values = {"state": State.DONE.value, "outcome": Outcome.DISCARDED.value, "done_at": datetime.now(UTC)}
        return await self._leave_dead(document, values, increase_epoch=False)

    async def _get(self, letter_id: str) -> dict[str, Any] | None:
        with unknown_on_error("read dead letter"):
            document: dict[str, Any] | None = await self._inbox.find_one({"_id": letter_id, "state": State.DEAD.value})
        return document

    async def _leave_dead(
        self,
        document: Mapping[str, Any],
        values: dict[str, Any],
        *,
        increase_epoch: bool,
        unset: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        update: dict[str, Any] = {"$set": values, "$unset": {"dead_at": "", **unset}}
        if increase_epoch:
            update["$inc"] = {"epoch": 1}
            update["$unset"] |= {"reason": ""}
            death = {"at": document["dead_at"], "reason": document.get("reason", "")}
            update["$push"] = {"deaths": {"$each": [death], "$slice": -MOST_DEATHS}}
        fence = {
            "_id": document["_id"],
            "conversation": document["conversation"],
            "state": State.DEAD.value,
            "epoch": document["epoch"],
        }
        with unknown_on_error("write dead letter"):
            matched: int = (await self._inbox.update_one(fence, update)).matched_count
        return matched == 1


def _query(phone_number_ids: Sequence[str] | None, which: Which) -> dict[str, Any]:
    died_at: dict[str, Any] = {"$exists": True}
    if which.since is not None:
        died_at["$gte"] = which.since
    if which.before is not None:
        died_at["$lt"] = which.before
    query: dict[str, Any] = {"state": State.DEAD.value, "dead_at": died_at}
    if which.reason is not None:
        query["reason"] = which.reason
    return query if phone_number_ids is None else query | of_numbers("_id", phone_number_ids)


def _read(document: Mapping[str, Any]) -> DeadLetter:
    parts = document.get("parts", ())
    return DeadLetter(
        id=document["_id"],
        phone_number_id=phone_number_id_of(document["_id"]),
        reason=document.get("reason", ""),
        attempts=document["attempts"],
        received_at=datetime.fromtimestamp(document["arrival"] / 1e9, UTC),
        died_at=document["dead_at"],
        members=tuple(document.get("members", ())),
        parts_sent=sum(map(_reached, parts)),
        parts=len(parts),
        retried=document.get("retried", False),
    )


def _reached(part: Mapping[str, Any]) -> bool:
    """Whether a part went out, as far as Graph or a status told, and Meta did not report it as failed."""
    told = part["state"] == PartState.SENT.value or part["rank"] > 0
    return bool(told and part["rank"] != FAILED_RANK)


def _to_send_again(part: Mapping[str, Any]) -> dict[str, Any]:
    # Under the next attempt's number, so that a status of this one that comes again does not match.
    again = {"state": PartState.WAITING.value, "attempt": part["attempt"] + 1, "failures": 0, "wamid": "", "rank": 0}
    # What failed is not there, whatever a status of it says that comes late.
    void = {"void_attempts": part["attempt"]} if part["rank"] == FAILED_RANK else {}
    kept = {name: value for name, value in part.items() if name not in {"resends", "heed"}}
    return {**kept, **again, **void}
