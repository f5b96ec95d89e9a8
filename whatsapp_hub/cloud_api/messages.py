"""What Meta tells us, as values (pure).

A webhook is taken apart into items: messages for the inbox, statuses of what we sent, and everything else. Every item
keeps its own JSON as bytes, so that nothing Meta says is lost, whatever we understand of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NewType

#: Phone number id and sender, exactly as the payload names them: the key of order, locks, history and storage.
ConversationId = NewType("ConversationId", str)

#: The greatest rank wins, so a status that comes late never takes one back. ``failed`` ends the matter.
STATUS_RANKS = {"sent": 1, "delivered": 2, "read": 3, "played": 4, "failed": 9}
FAILED_RANK = STATUS_RANKS["failed"]


def conversation_id(phone_number_id: str, customer: str) -> ConversationId:
    """Name the conversation of one customer with one of a business's numbers."""
    return ConversationId(f"{phone_number_id}:{customer}")


def customer_of(conversation: str) -> str:
    """Return the customer's part of a conversation's name: a phone number or a BSUID."""
    return conversation.partition(":")[2]


def phone_number_id_of(key: str) -> str:
    """Return the phone number id that a conversation's name or a message's key begins with."""
    return key.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """One message of a customer."""

    phone_number_id: str
    id: str  #: Meta's message id (wamid)
    sender: str = dataclasses.field(repr=False)  #: the BSUID where there is one, else the phone number
    timestamp: int  #: Meta's, unix seconds
    profile_name: str = dataclasses.field(default="", repr=False)
    item: bytes = dataclasses.field(repr=False)  #: the message as Meta sent it, JSON

    @property
    def key(self) -> str:
        """The ``_id`` of the inbox document: deduplication and durability are one write."""
        return f"{self.phone_number_id}:{self.id}"

    @property
    def conversation(self) -> ConversationId:
        """The conversation this message belongs to."""
        return conversation_id(self.phone_number_id, self.sender)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate:
    """What became of a message that we sent."""

    phone_number_id: str
    id: str  #: the wamid of the message that was sent
    status: str
    timestamp: int  #: Meta's, unix seconds
    #: Our own words, sent along with the message; a hint, never a proof.
    callback_data: str = dataclasses.field(repr=False)
    participant: str = dataclasses.field(default="", repr=False)  #: in groups a status is about one participant
    error_code: int | None
    item: bytes = dataclasses.field(repr=False)

    @property
    def rank(self) -> int:
        """How far the message got; 0 for a status that we do not know."""
        return STATUS_RANKS.get(self.status, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherItem:
    """A verified item that is neither a message for the inbox nor a status of a send: kept raw."""

    key: str  #: the same for a redelivered copy
    field: str  #: Meta's name for the kind of change, "" where there was none
    phone_number_id: str | None
    account_id: str | None  #: the WhatsApp Business Account it is about, where no number is named
    item: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One POST of Meta, taken apart."""

    messages: tuple[InboundMessage, ...]
    statuses: tuple[StatusUpdate, ...]
    others: tuple[OtherItem, ...]

    def __len__(self) -> int:
        return len(self.messages) + len(self.statuses) + len(self.others)
