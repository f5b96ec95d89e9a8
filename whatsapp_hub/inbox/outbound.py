"""What a business sends by itself, as values (pure): a message of the inbox whose parts are decided from the start.

It waits in the same queue as the replies, under a lock of the same kind, and is sent by the same turns. Its id is ours:
where the client gave an idempotency key it follows from that, so that to keep it and to know it again are one write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import ConversationId, conversation_id

#: What our ids begin with; Meta's begin with ``wamid.``.
ID_PREFIX: Final = "api."
#: Stands where others have what the customer wrote.
NO_ITEM: Final = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sent it, and what was asked for."""

    business_id: str
    key_id: str  #: of the API key that was used
    digest: str  #: of the request, to tell a copy from another one under the same idempotency key

    def to_document(self) -> dict[str, Any]:
        """Return the origin as it is stored."""
        return {"business": self.business_id, "key": self.key_id, "digest": self.digest}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Origin:
        """Read a stored origin."""
        return cls(business_id=document["business"], key_id=document["key"], digest=document["digest"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """One message to a customer that answers nothing, ready to be stored."""

    phone_number_id: str
    id: str
    customer: str = field(repr=False)  #: a phone number or a BSUID
    timestamp: int  #: when it was asked for, unix seconds
    parts: tuple[bytes, ...] = field(repr=False)  #: JSON, without the recipient, at least one
    origin: Origin

    @property
    def key(self) -> str:
        """The ``_id`` of the inbox document."""
        return f"{self.phone_number_id}:{self.id}"

    @property
    def conversation(self) -> ConversationId:
        """The conversation it belongs to."""
        return conversation_id(self.phone_number_id, self.customer)

    @property
    def item(self) -> bytes:
        """What stands where others have the customer's words."""
        return NO_ITEM

    @property
    def profile_name(self) -> str:
        """Nobody has introduced themselves."""
        return ""


def id_of(business_id: str, idempotency_key: str) -> str:
    """Name the message of an idempotency key: always the same, for nobody else, and no word of the key in it."""
    name = f"{business_id}\0{idempotency_key}".encode()
    return f"{ID_PREFIX}{hashlib.sha256(name).hexdigest()[:32]}"
