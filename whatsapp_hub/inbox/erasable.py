"""What of our collections belongs to a business, or to one of its customers (pure).

A customer is a phone number or a BSUID, and a message that names both says that they are one person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.messages import conversation_id, customer_of
from whatsapp_hub.inbox.document import Stage, State

ROW_FIELDS: Final = ("conversation", "state", "stage", "owner", "epoch", "done_at", "dead_at")
EVENT_FIELDS: Final = ("phone_number_id", "account_id", "item")
_SEPARATORS: Final = re.compile(r"[\s().-]+")
_PHONE_NUMBER: Final = re.compile(r"\+?[\d\s().-]*")
_SENDER_FIELDS: Final = ("from", "from_user_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose data it is: a business's, or one customer's with that business."""

    business_id: str
    numbers: tuple[str, ...]  #: its phone number ids
    account_id: str | None  #: its WhatsApp Business Account; None where another business has the same
    customer: str | None = field(default=None, repr=False)

    def rows(self) -> dict[str, Any]:
        """Return the query for the business's inbox documents."""
        return {"$or": _ranges(self.numbers)}

    def histories(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the query for the histories: the business's, or of the customer under these names."""
        if self.customer is None:
            return {"$or": [{"business": self.business_id}, *_ranges(self.numbers)]}
        return {"_id": {"$in": [conversation_id(number, name) for name in names for number in self.numbers]}}

    def joined(self) -> dict[str, Any]:
        """Return the query for the business's histories that tell several names of one customer."""
        return {"$or": _ranges(self.numbers), "aliases": {"$exists": True}}

    def events(self) -> dict[str, Any]:
        """Return the query for the events that may be meant; ``is_meant`` looks at each."""
        no_number: list[str | None] = [None]
        if self.account_id is not None:
            no_number.append(self.account_id)
        return {
            "$or": [
                {"phone_number_id": {"$in": list(self.numbers)}},
                {"phone_number_id": None, "account_id": {"$in": no_number}},
            ]
        }

    def is_meant(self, event: Mapping[str, Any], names: Iterable[str]) -> bool:
        """Say whether an event that ``events`` found is to be erased.

        What was stored as a whole names nobody in its fields: it belongs to whoever stands in it.
        """
        item = bytes(event.get("item", b""))  # notes of our own lie there too
        if event.get("phone_number_id") is None and event.get("account_id") is None and not carries(item, self.numbers):
            return False
        return self.customer is None or carries(item, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A history that tells several names of one customer."""

    id: str
    names: frozenset[str] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Joined:
        """Read a document of ``conversations``."""
        return cls(id=document["_id"], names=frozenset({customer_of(document["_id"]), *document["aliases"]}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What has to be known of an inbox document to erase it."""

    id: str
    conversation: str = field(repr=False)
    state: str
    stage: str
    owner: str | None
    epoch: int
    ended_at: Any  #: when it was answered or died; None as long as it is neither
    names: frozenset[str] = field(default=frozenset(), repr=False)  #: its customer's, as far as they were asked for

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Row:
        """Read a document; its names only where it comes with its item."""
        names = {customer_of(document["conversation"]), *_senders(document["item"])} if "item" in document else set()
        return cls(
            id=document["_id"],
            conversation=document["conversation"],
            state=document["state"],
            stage=document["stage"],
            owner=document.get("owner"),
            epoch=document["epoch"],
            ended_at=document.get("done_at") or document.get("dead_at"),
            names=frozenset(names),
        )

    @property
    def may_be_being_sent(self) -> bool:
        """Whether a part of the reply may be on its way to the customer at this moment.

        A turn writes this stage before it sends anything, and every other stage after it knows what became of it.
        """
        return self.state == State.ACTIVE.value and self.stage == Stage.REPLYING.value

    def as_seen(self) -> dict[str, Any]:
        """Return the query for this document as long as nothing was done to it."""
        return {
            "_id": self.id,
            "conversation": self.conversation,
            "state": self.state,
            "stage": self.stage,
            "owner": self.owner if self.owner is not None else {"$exists": False},
            "epoch": self.epoch,
        }


def read_customer(text: str) -> str:
    """Return a customer's id as Meta writes it: a phone number has neither plus nor separators."""
    text = text.strip()
    return _SEPARATORS.sub("", text).removeprefix("+") if _PHONE_NUMBER.fullmatch(text) else text


def carries(item: bytes, names: Iterable[str]) -> bool:
    """Say whether one of these names stands in an item, and not just as a part of a longer one."""
    either = b"|".join(re.escape(name.encode()) for name in names)
    return bool(either) and re.search(rb"(?<![0-9A-Za-z])(?:" + either + rb")(?![0-9A-Za-z])", item) is not None


def _ranges(numbers: Iterable[str]) -> list[dict[str, Any]]:
    """Return a condition for each number on an ``_id`` that begins with it; ``;`` comes after ``:``."""
    return [{"_id": {"$gte": f"{number}:", "$lt": f"{number};"}} for number in numbers]


def _senders(item: bytes) -> set[str]:
    try:
        message = json_text.read(bytes(item))
    except (ValueError, RecursionError):
        return set()
    values = [message.get(name) for name in _SENDER_FIELDS] if isinstance(message, dict) else []
    return {value for value in values if isinstance(value, str) and value}
