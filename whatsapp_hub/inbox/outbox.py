"""Sending from outside: a message is kept once, however often it is asked for, and can be asked after."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from whatsapp_hub.database import Database
from whatsapp_hub.errors import HubError, StoreUnavailable
from whatsapp_hub.inbox.outbound import ID_PREFIX, Origin, OutboundMessage, id_of
from whatsapp_hub.inbox.outbound_state import MessageState, read_state
from whatsapp_hub.inbox.store import unknown_on_error

READ_TIMEOUT_S: Final = 2.0
TRIES: Final = 3  # a copy whose first one was rolled back is stored again


class KeyReused(HubError):
    """The idempotency key was used for another message."""


class Journal(Protocol):
    """Who makes messages durable."""

    async def accept_outbound(self, message: OutboundMessage) -> bool:
        """Return when it is durable; False where one with its id is there already. Raises ``StoreUnavailable``."""
        ...

    async def count_copy(self, row_id: str, conversation: str) -> bool:
        """Count another copy of what is there; False where it is gone. Raises ``StoreUnavailable``."""
        ...


class Outbox:
    """The messages that businesses send by themselves. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database, journal: Journal) -> None:
        """Keep them in the inbox of this database, through the journal."""
        self._inbox = database.inbox
        self._journal = journal

    async def send(
        self,
        *,
        customer: str,
        phone_number_id: str,
        phone_number_ids: Sequence[str],
        parts: tuple[bytes, ...],
        origin: Origin,
        idempotency_key: str | None,
    ) -> str:
        """Return the id of a message when it is durable.

        An idempotency key counts for all of the business's ``phone_number_ids``.

        Raises:
            KeyReused: the key was used for something else.

        """
        message = OutboundMessage(
            phone_number_id=phone_number_id,
            id=id_of(origin.business_id, idempotency_key) if idempotency_key else f"{ID_PREFIX}{secrets.token_hex(16)}",
            customer=customer,
            timestamp=int(time.time()),
            parts=parts,
            origin=origin,
        )
        for _ in range(TRIES):
            # Looked for first: under another number, or to another customer, the insert would not find it for sure.
            known = await self._find(phone_number_ids, message.id) if idempotency_key else None
            if known is not None:
                if await self._is_copy(known, origin):
                    return message.id
            elif await self._journal.accept_outbound(message):
                return message.id
        raise StoreUnavailable

    async def state(self, *, business_id: str, phone_number_ids: Sequence[str], message_id: str) -> MessageState | None:
        """Return what became of a message; None where the business sent none with this id."""
        if not message_id.startswith(ID_PREFIX) or not message_id.isascii() or not message_id.isprintable():
            return None
        document = await self._find(phone_number_ids, message_id)
        if document is None or document.get("origin", {}).get("business") != business_id:
            return None
        return read_state(document)

    async def _is_copy(self, known: Mapping[str, Any], origin: Origin) -> bool:
        """Whether what is there is the same message, and there for good: a read could see what a rollback takes away.

        Raises:
            KeyReused: it is another one.

        """
        stored = known.get("origin", {})
        if (stored.get("business"), stored.get("digest")) != (origin.business_id, origin.digest):
            raise KeyReused
        return await self._journal.count_copy(known["_id"], known["conversation"])

    async def _find(self, phone_number_ids: Sequence[str], message_id: str) -> dict[str, Any] | None:
        ids = [f"{number}:{message_id}" for number in phone_number_ids]
        with unknown_on_error("find a message from outside", READ_TIMEOUT_S):
            found: dict[str, Any] | None = await self._inbox.find_one({"_id": {"$in": ids}}, {"parts.body": 0})
        return found
