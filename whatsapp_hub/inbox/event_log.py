"""What is in ``events``, for operators: how much of which field, and what means trouble. Nothing is on a hot path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from whatsapp_hub.cloud_api.notice_reading import read_notices
from whatsapp_hub.cloud_api.troubles import TROUBLE_FIELDS, trouble_of
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error

MOST_LOOKED_AT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A business, as events name it."""

    phone_number_ids: Sequence[str]
    account_id: str | None

    def query(self) -> dict[str, Any]:
        """Return the condition on an event."""
        of_number: dict[str, Any] = {"phone_number_id": {"$in": list(self.phone_number_ids)}}
        # Items with a number belong to that number's business, whoever the account is shared with.
        of_account = {"phone_number_id": None, "account_id": self.account_id}
        return {"$or": [of_number, of_account]} if self.account_id else of_number


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCount:
    """How many events of one field there are of a number or an account."""

    field: str
    phone_number_id: str | None
    account_id: str | None
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that Meta holds against an account, a number or a template."""

    at: datetime
    phone_number_id: str | None
    account_id: str | None
    words: str = field(repr=False)


class EventLog:
    """Reads ``events``. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database) -> None:
        """Work on this database."""
        self._events = database.events

    async def count(self, scope: Scope | None = None) -> list[FieldCount]:
        """Count by field, of everybody or of one business."""
        names = {"field": "$field", "number": "$phone_number_id", "account": "$account_id"}
        pipeline: list[Mapping[str, Any]] = [
            {"$match": scope.query() if scope else {}},
            {"$group": {"_id": names, "count": {"$sum": 1}, "last_at": {"$max": "$at"}}},
        ]
        with unknown_on_error("count events", timeout_s=60.0):
            found = await self._events.aggregate(pipeline).to_list(None)
        return [
            FieldCount(
                field=row["_id"].get("field") or "",
                phone_number_id=row["_id"].get("number"),
                account_id=row["_id"].get("account"),
                count=row["count"],
                last_at=row["last_at"],
            )
            for row in found
        ]

    async def find_troubles(self, scope: Scope | None = None, *, since: datetime | None = None) -> list[Trouble]:
        """Return what means trouble, the newest first."""
        query: dict[str, Any] = {"field": {"$in": list(TROUBLE_FIELDS)}, **(scope.query() if scope else {})}
        if since is not None:
            query["at"] = {"$gte": since}
        troubles: list[Trouble] = []
        with unknown_on_error("read events", timeout_s=60.0):
            async for event in self._events.find(query).sort("at", -1).limit(MOST_LOOKED_AT):
                troubles += _read(event)
        return troubles


def _read(event: Mapping[str, Any]) -> list[Trouble]:
    said = map(trouble_of, read_notices(event["field"], bytes(event["item"])))
    return [
        Trouble(
            at=event["at"],
            phone_number_id=event.get("phone_number_id"),
            account_id=event.get("account_id"),
            words=words,
        )
        for words in dict.fromkeys(said)
        if words
    ]
