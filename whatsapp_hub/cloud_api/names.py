"""The names of one customer, as messages tell them (pure).

A person has a phone number and, at each business portfolio, a user id (BSUID) and perhaps a parent's; what Meta names
differs from message to message. The first name is the one that a conversation's key is made of.
https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.payload import MAX_NAME_LENGTH
from whatsapp_hub.errors import PayloadInvalid

SYSTEM_KIND: Final = "system"  #: WhatsApp's own notices
#: System messages that say that a customer is somebody known under another name; the first is the old word for the
#: second. https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/system
_CHANGES: Final = frozenset({"customer_changed_number", "user_changed_number", "user_changed_user_id"})
_USER_ID_KEY: Final = b'user_id"'  # of from_user_id and from_parent_user_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names that are one person's."""

    now: tuple[str, ...] = field(repr=False)
    former: tuple[str, ...] = field(default=(), repr=False)  #: no longer theirs: who has them next is somebody else

    @property
    def tell_something(self) -> bool:
        """Whether two names are joined by them."""
        return bool(self.now) and len(self.now) + len(self.former) > 1


def sender_names(message: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of who wrote a message."""
    return names_in(message, "from_user_id", "from", "from_parent_user_id")


def names_in(value: object, *keys: str) -> tuple[str, ...]:
    """Return what stands under these keys and can be a name, in their order, each once."""
    if not isinstance(value, dict):
        return ()
    return tuple(dict.fromkeys(found for key in keys if is_name(found := value.get(key))))


def is_name(value: object) -> TypeGuard[str]:
    """Tell whether a value can be a customer's name, by the rule that messages are read by."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH and json_text.is_clean(value)


def other_names(item: bytes, customer: str) -> tuple[str, ...]:
    """Return the further names that a stored message gives the customer. Costs next to nothing where it has none."""
    if _USER_ID_KEY not in item:
        return ()
    message = _read(item)
    return tuple(name for name in sender_names(message) if name != customer)


def changed_names(item: bytes) -> Names | None:
    """Read a system message that says that a number or a user id has changed; None for any other.

    ``from`` is the name that the customer had.
    """
    message = _read(item)
    system = message.get("system")
    kind = system.get("type") if isinstance(system, dict) else None
    if not isinstance(kind, str) or kind not in _CHANGES:
        return None
    now = names_in(system, "user_id", "wa_id", "new_wa_id", "parent_user_id")
    had = (
        *names_in(system, "previous_user_id", "previous_parent_user_id", "customer"),
        *sender_names(message),
    )
    return Names(now=now, former=tuple(dict.fromkeys(name for name in had if name not in now)))


def _read(item: bytes) -> dict[str, Any]:
    try:
        return json_text.read_object(item) or {}
    except PayloadInvalid:
        return {}
