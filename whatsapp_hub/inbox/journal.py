"""The journal: nothing is acknowledged before it is durable.

Webhooks do not write on their own. They hand in their items and wait; the lanes write what is there in one go. Whatever
the database does not confirm in time is unknown: it may be there, or land later, so it is let go of and adopted again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from bson.raw_bson import RawBSONDocument

from whatsapp_hub.cloud_api.fields import KNOWN_FIELDS, UNKNOWN_FIELD
from whatsapp_hub.cloud_api.messages import InboundMessage, OtherItem, StatusUpdate, Webhook
from whatsapp_hub.cloud_api.outgoing import CallbackData, read_callback_data
from whatsapp_hub.cloud_api.payload import status_key
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.outbound import OutboundMessage
from whatsapp_hub.inbox.store import InboxStore, Inserted, StatusWrite, encode
from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("inbox")

STATUS_FIELD: Final = "messages.statuses"  #: marks a status in ``events``
INSERT_TRIES: Final = 3  # a duplicate whose first copy was rolled back is inserted again
FLIGHTS: Final = 1


class Intake(Protocol):
    """Who takes over what the journal has stored: the dispatcher."""

    def enter(self, message: InboundMessage | OutboundMessage) -> InboxRow:
        """Make the row of a message, before it is written."""
        ...

    def busy(self, row: InboxRow) -> None:
        """The conversation is busy elsewhere: the row is going to be stored as queued."""
        ...

    def stored(self, row: InboxRow) -> None:
        """The row is durable and ours."""
        ...

    def gone(self, row: InboxRow, *, unknown: bool) -> None:
        """The row is not ours to answer: it is a copy or, if ``unknown``, nobody knows whether it was stored."""
        ...

    def status_arrived(self, row_id: str) -> None:
        """A status told something about a reply of this message."""
        ...


class Journal:
    """Makes webhooks and outcomes durable, many in one write."""

    def __init__(
        self,
        store: InboxStore,
        intake: Intake,
        metrics: Metrics,
        *,
        is_open: Callable[[], bool],
        ack_timeout_s: float,
        note: Callable[[Sequence[OtherItem], float], Awaitable[None]] | None = None,
    ) -> None:
        """Set up the lanes. Meta waits for all of them, so no batch keeps apart from the one before.

        Nothing is taken in before ``is_open``: without its indexes the database holds no locks, and what has no living
        owner is taken over at once. ``note`` makes durable what other items than messages say of conversations, any
        number of times.
        """
        self._note = note
        self._intake = intake
        self._metrics = metrics
        self._is_open = is_open
        self._insert_units = store.insert
        self._inserts = GroupCommit(self._insert_batch, flights=FLIGHTS, timeout_s=ack_timeout_s)
        self._deliveries = GroupCommit(store.count_deliveries, timeout_s=ack_timeout_s)
        self._events = GroupCommit(store.insert_events, timeout_s=ack_timeout_s)
        self._statuses = GroupCommit(store.apply_statuses, flights=FLIGHTS, timeout_s=ack_timeout_s)

    async def accept(self, webhook: Webhook) -> None:
        """Return when everything in the webhook is durable.

        Raises:
            StoreUnavailable: not confirmed in time; Meta will deliver it again.

        """
        if not self._is_open():
            raise StoreUnavailable
        since = asyncio.get_running_loop().time()
        if webhook.messages:
            await self._accept_messages(webhook.messages, since)
        if webhook.statuses or webhook.others:
            await self._accept_rest(webhook, since)

    async def accept_outbound(self, message: OutboundMessage) -> bool:
        """Return when a message from outside is durable; False where one with its id is there already.

        Raises:
            StoreUnavailable: not confirmed in time; nobody knows whether it will be sent.

        """
        if not self._is_open():
            raise StoreUnavailable
        since = asyncio.get_running_loop().time()
        row = self._intake.enter(message)
        result: Inserted | None = None
        try:
            for _ in range(2):  # once more as queued, where the conversation is busy
                result = await self._insert_one(row, since)
                if result is not Inserted.BUSY:
                    break
                self._intake.busy(row)
        finally:
            if result is Inserted.STORED:
                self._intake.stored(row)
            else:
                self._intake.gone(row, unknown=result is not Inserted.DUPLICATE)
        if result in {Inserted.STORED, Inserted.DUPLICATE}:
            return result is Inserted.STORED
        raise StoreUnavailable

    async def count_copy(self, row_id: str, conversation: str) -> bool:
        """Count another copy of what is there, with a real write; False where it is gone. Raises as ``accept`` does."""
        return await self._deliveries.submit((row_id, conversation), since=asyncio.get_running_loop().time())

    async def flush(self) -> None:
        """Wait until everything handed in has been written."""
        for lane in (self._inserts, self._deliveries, self._events, self._statuses):
            await lane.flush()

    async def _insert_batch(self, units: Sequence[Sequence[RawBSONDocument]]) -> list[list[Inserted]]:
        began = time.perf_counter()
        results = await self._insert_units(units)
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        self._metrics.commit_rows.observe(sum(map(len, units)))
        return results

    async def _accept_messages(self, messages: Sequence[InboundMessage], since: float) -> None:
        rows = [self._intake.enter(message) for message in messages]
        settled: list[Inserted | None] = [None] * len(rows)  # what became of each, in the end
        try:
            for _ in range(INSERT_TRIES):
                await self._insert(rows, settled, since)
                if None not in settled:
                    return
            raise StoreUnavailable
        finally:
            for row, result in zip(rows, settled, strict=True):
                # In their order, and no sooner: a later one must not overtake one that is still open.
                if result is Inserted.STORED:
                    self._intake.stored(row)
                else:
                    self._intake.gone(row, unknown=result is None)

    async def _insert(self, rows: Sequence[InboxRow], settled: list[Inserted | None], since: float) -> None:
        """Insert once what is not settled yet, and note what is now."""
        numbers: list[int] = []
        documents: list[RawBSONDocument] = []
        size_bytes = 0
        for number, row in enumerate(rows):
            if settled[number] is not None:
                continue
            document = encode(row.to_document())
            if document is None:
                await self._store_raw(row, since)
                settled[number] = Inserted.REFUSED
                continue
            numbers.append(number)
            documents.append(document)
            size_bytes += len(document.raw)
        if not documents:
            return
        copies: list[int] = []
        for number, result in zip(numbers, await self._inserts.submit(documents, size_bytes, since), strict=True):
            if result is Inserted.STORED:
                settled[number] = result
                self._metrics.count_item("message", "new")
            elif result is Inserted.BUSY:
                self._intake.busy(rows[number])
            elif result is Inserted.DUPLICATE:
                copies.append(number)
        for number in copies:
            # Acknowledged only if the write matched: a rollback may have taken the first copy, and this one is needed.
            if await self._deliveries.submit((rows[number].id, rows[number].conversation), since=since):
                settled[number] = Inserted.DUPLICATE
                self._metrics.count_item("message", "duplicate")

    async def _insert_one(self, row: InboxRow, since: float) -> Inserted:
        document = encode(row.to_document())
        if document is None:
            raise StoreUnavailable
        [result] = await self._inserts.submit([document], len(document.raw), since)
        return result

    async def _store_raw(self, row: InboxRow, since: float) -> None:
        """Keep the bytes of a message whose names the database cannot hold. It is not answered."""
        logger.warning("message cannot be encoded, stored raw")
        key = hashlib.sha256(row.item).hexdigest()
        nameless = OtherItem(key=key, field="messages", phone_number_id=None, account_id=None, item=row.item)
        await self._store_events([nameless], since)

    async def _accept_rest(self, webhook: Webhook, since: float) -> None:
        targets = [(status, _target_of(status)) for status in webhook.statuses]
        known = [StatusWrite(status=status, target=target) for status, target in targets if target is not None]
        matched = await asyncio.gather(*(self._statuses.submit(write, since=since) for write in known)) if known else []
        strays = [status for status, target in targets if target is None]
        for write, found in zip(known, matched, strict=True):
            if found:
                self._metrics.count_item("status", "new")
                self._intake.status_arrived(write.row_id)
            else:
                strays.append(write.status)
        if webhook.others and self._note:
            await self._note(webhook.others, since)
        if strays or webhook.others:
            await self._store_events([*map(_event_of, strays), *webhook.others], since)

    async def _store_events(self, items: Sequence[OtherItem], since: float) -> None:
        now = datetime.now(UTC)
        documents = [_encode_event(item, now) for item in items]
        submitted = [self._events.submit(document, len(document.raw), since) for document in documents]
        for item, inserted in zip(items, await asyncio.gather(*submitted), strict=True):
            if inserted is Inserted.REFUSED:
                raise StoreUnavailable
            kind = "status" if item.field == STATUS_FIELD else "other"
            self._metrics.count_item(kind, "duplicate" if inserted is Inserted.DUPLICATE else "ignored")
            if kind == "other" and inserted is not Inserted.DUPLICATE:
                self._count_event(item.field)

    def _count_event(self, field: str) -> None:
        """Count by Meta's field; what is not known yet under one name, since a payload may name anything."""
        known = field in KNOWN_FIELDS
        self._metrics.count_event(field if known else UNKNOWN_FIELD)
        if not known:
            self._metrics.count_unknown("field")


def _target_of(status: StatusUpdate) -> CallbackData | None:
    """Return the part that a status is about, as far as its callback data tells; None for one that we cannot place."""
    return read_callback_data(status.callback_data) if status.rank else None


def _event_of(status: StatusUpdate) -> OtherItem:
    return OtherItem(
        key=status_key(status),
        field=STATUS_FIELD,
        phone_number_id=status.phone_number_id,
        account_id=None,
        item=status.item,
    )


def _encode_event(item: OtherItem, now: datetime) -> RawBSONDocument:
    document = {
        "_id": item.key,
        "field": item.field,
        "phone_number_id": item.phone_number_id,
        "account_id": item.account_id,
        "item": item.item,
        "at": now,
    }
    if encoded := encode(document):
        return encoded
    # A name that the database cannot hold: the bytes alone, which say it all.
    bare = encode({"_id": hashlib.sha256(item.item).hexdigest(), "field": "", "item": item.item, "at": now})
    assert bare is not None  # noqa: S101 - bytes, a digest and a date always encode
    return bare
