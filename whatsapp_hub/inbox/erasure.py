"""Erasing what is kept of a business or of a customer, while hubs go on working.

Nothing is locked and nothing is noted down: each pass looks at what is there, so a call that was killed is finished by
the next one. What makes that safe:

- A document goes only as it was seen: state, stage, owner and epoch stand in the filter. Every write of a turn names
  its document, so a turn whose document is gone finds "not ours" and lets go, before it sends.
- A reply that may be on its way is waited for as long as the process that sends it lives. So what was erased sends
  nothing afterwards, and no turn ends after its document is gone, which would write its history anew.
- A history is written beside the outcome and may land a little later. So what was just answered waits a moment, and
  histories go before the documents of their messages.
- A message that names a customer's phone number and BSUID, or a history that tells several names, may be the one proof
  that they are the same person. So events and the other histories go first, then messages and such histories under the
  other names, and last those under the name that was given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo import DeleteOne

from whatsapp_hub.database import Collection, Database
from whatsapp_hub.inbox.erasable import EVENT_FIELDS, ROW_FIELDS, Joined, Row, Whose
from whatsapp_hub.inbox.store import TIMEOUT_S, unknown_on_error

SLICE: Final = 200  # documents erased in one go
PAGE: Final = 1_000  # documents read in one go
SCAN_TIMEOUT_S: Final = 60.0  # of one page: not every query here has an index
POLL_S: Final = 0.5
#: How long a history may land after its outcome: as long as a write may take, and some.
STRAGGLERS_S: Final = TIMEOUT_S + 1.0
#: What was answered longer ago than this has its history for sure, however the clocks of two machines differ.
RECENT: Final = timedelta(minutes=5)
MOST_WAITING_S: Final = 120.0


@dataclass(slots=True, kw_only=True)
class Erased:
    """How much was found or erased, by what it is."""

    messages: int = 0
    histories: int = 0
    events: int = 0
    left: int = 0  #: messages that are being answered and were not erased

    @property
    def total(self) -> int:
        """How much it is in all."""
        return self.messages + self.histories + self.events


class Eraser:
    """Erases once; made anew for each call. Every method raises ``StoreUnavailable``."""

    def __init__(
        self,
        database: Database,
        whose: Whose,
        *,
        lease_s: float,
        stragglers_s: float = STRAGGLERS_S,
        most_waiting_s: float = MOST_WAITING_S,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Erase what is ``whose``; ``progress`` is told how many documents are gone after each slice.

        A process whose counter stood still for ``lease_s`` sends no more.
        """
        self._inbox = database.inbox
        self._conversations = database.conversations
        self._events = database.events
        self._whose = whose
        self._senders = Senders(database, lease_s=lease_s)
        self._stragglers_s = stragglers_s
        self._most_waiting_s = most_waiting_s
        self._progress = progress
        self._names: dict[str, int] = {} if whose.customer is None else {whose.customer: 0}
        self._joined: dict[int, list[str]] = {}  # the ids of histories that tell several names, by level
        self._answered: dict[str, float] = {}  # by the id of a message: since when it was seen as just answered
        self._erased = Erased()

    async def count(self) -> Erased:
        """Count what would be erased."""
        found = Erased()
        async for _, rows in await self._slices():
            found.messages += len(rows)
        async for _ in self._histories():
            found.histories += 1
        async for _ in self._meant_events():
            found.events += 1
        return found

    async def erase(self) -> Erased:
        """Erase everything; return how much it was, and how much had to be left because it is being answered."""
        waited_s = 0.0
        while True:
            before = self._erased.total
            self._erased.left = await self._pass()
            if self._erased.left:
                if waited_s > self._most_waiting_s:
                    return self._erased
                waited_s += POLL_S
                await asyncio.sleep(POLL_S)
            elif self._erased.total == before:
                return self._erased  # a whole pass found nothing

    async def _pass(self) -> int:
        """Erase what can go now; return how many messages have to wait."""
        began = time.monotonic()
        slices = await self._slices()
        self._erased.events += await self._remove(self._events, self._meant_events())
        self._erased.histories += await self._remove(self._conversations, self._histories(tell_names=False))
        left, left_at = 0, 0
        async for level, rows in slices:
            if not rows and not left:  # all of this level is gone
                for history in self._joined.pop(level, ()):
                    self._erased.histories += await self._remove_slice(self._conversations, [history])
            if any(row.may_be_being_sent for row in rows):
                await self._senders.look()  # after the rows: whoever has one now had joined before
            going = [] if left and level < left_at else [row for row in rows if not self._has_to_wait(row, began)]
            waiting = len(rows) - await self._remove_rows(going)
            if waiting:
                left, left_at = left + waiting, level
        return left

    def _has_to_wait(self, row: Row, pass_began: float) -> bool:
        if row.may_be_being_sent:
            return self._senders.may_live(row.owner)
        if row.ended_at is None or datetime.now(UTC) - row.ended_at > RECENT:
            return False
        return pass_began - self._answered.setdefault(row.id, time.monotonic()) < self._stragglers_s

    async def _remove_rows(self, rows: Sequence[Row]) -> int:
        """Erase these as they were seen; return how many that were."""
        if not rows:
            return 0
        with unknown_on_error("erase messages", SCAN_TIMEOUT_S):
            removed = (await self._inbox.bulk_write([DeleteOne(row.as_seen()) for row in rows])).deleted_count
        self._erased.messages += removed
        self._progress(removed)
        return removed

    async def _remove(self, collection: Collection, documents: AsyncIterator[Mapping[str, Any]]) -> int:
        """Erase these documents, slice by slice; return how many there were."""
        removed = 0
        ids: list[Any] = []
        async for document in documents:
            ids.append(document["_id"])
            if len(ids) == SLICE:
                removed += await self._remove_slice(collection, ids)
                ids = []
        return removed + await self._remove_slice(collection, ids)

    async def _remove_slice(self, collection: Collection, ids: Sequence[Any]) -> int:
        if not ids:
            return 0
        with unknown_on_error("erase", SCAN_TIMEOUT_S):
            removed: int = (await collection.delete_many({"_id": {"$in": list(ids)}})).deleted_count
        self._progress(removed)
        return removed

    async def _slices(self) -> AsyncIterator[tuple[int, Sequence[Row]]]:
        """Find the messages. A customer's come with a level; those that tell names of a level come after that level."""
        if self._whose.customer is None:
            return _in_slices(0, self._business_rows())
        return _by_level(await self._trace())

    async def _business_rows(self) -> AsyncIterator[Row]:
        async for document in self._pages(self._inbox, self._whose.rows(), ROW_FIELDS):
            yield Row.from_document(document)

    async def _trace(self) -> dict[int, list[Row]]:
        """Look through what the business has for the customer under every name, until no new name is found."""
        while True:
            known = len(self._names)
            found: dict[int, list[Row]] = {}
            self._joined = {}
            async for document in self._pages(self._inbox, self._whose.rows(), (*ROW_FIELDS, "item")):
                row = Row.from_document(document)
                if (level := self._note_names(row.names)) is not None:
                    found.setdefault(level, []).append(row)
            async for document in self._pages(self._conversations, self._whose.joined(), ("aliases",)):
                history = Joined.from_document(document)
                if (level := self._note_names(history.names)) is not None:
                    self._joined.setdefault(level, []).append(history.id)
                    found.setdefault(level, [])
            if len(self._names) == known:
                return found

    def _note_names(self, names: frozenset[str]) -> int | None:
        """Note the names that stand beside one of the customer's; return its level, None where there is none."""
        level = min((self._names[name] for name in names if name in self._names), default=None)
        if level is not None:
            for name in names:
                self._names.setdefault(name, level + 1)
        return level

    def _histories(self, *, tell_names: bool = True) -> AsyncIterator[Mapping[str, Any]]:
        query = self._whose.histories(self._names)
        if self._whose.customer is not None and not tell_names:
            query["aliases"] = {"$exists": False}
        return self._pages(self._conversations, query, ("_id",))

    async def _meant_events(self) -> AsyncIterator[Mapping[str, Any]]:
        async for event in self._pages(self._events, self._whose.events(), EVENT_FIELDS):
            if self._whose.is_meant(event, self._names):
                yield event

    @staticmethod
    async def _pages(
        collection: Collection, query: Mapping[str, Any], fields: Sequence[str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        cursor = collection.find(query, dict.fromkeys(fields, 1)).batch_size(PAGE)
        while True:
            with unknown_on_error("read what is to be erased", SCAN_TIMEOUT_S):
                page = await cursor.to_list(PAGE)
            for document in page:
                yield document
            if len(page) < PAGE:
                return


class Senders:
    """Which processes may be sending, judged as the hubs judge each other: by counters and our own clock."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._nodes = database.nodes
        self._lease_s = lease_s
        self._counters: dict[str, tuple[int, float]] = {}  # and since when it has been that

    async def look(self) -> None:
        """Read the counters."""
        with unknown_on_error("look at the nodes"):
            nodes = await self._nodes.find({"state": "living"}, {"counter": 1}).to_list(None)
        now = time.monotonic()
        seen = {node["_id"]: node["counter"] for node in nodes}
        stood = {
            node: (counter, since) for node, (counter, since) in self._counters.items() if seen.get(node) == counter
        }
        self._counters = {node: stood.get(node, (counter, now)) for node, counter in seen.items()}

    def may_live(self, node: str | None) -> bool:
        """Say whether a process may still be at work, as far as was seen at the last look."""
        if node not in self._counters:
            return False
        return time.monotonic() - self._counters[node][1] < self._lease_s


async def _by_level(levels: Mapping[int, Sequence[Row]]) -> AsyncIterator[tuple[int, Sequence[Row]]]:
    for level in sorted(levels, reverse=True):
        for start in range(0, len(levels[level]), SLICE):
            yield level, levels[level][start : start + SLICE]
        yield level, ()


async def _in_slices(level: int, rows: AsyncIterator[Row]) -> AsyncIterator[tuple[int, Sequence[Row]]]:
    going: list[Row] = []
    async for row in rows:
        going.append(row)
        if len(going) == SLICE:
            yield level, going
            going = []
    yield level, going
