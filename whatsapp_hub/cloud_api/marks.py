"""What is told of conversations beside their messages (pure): who answers in them, and who their customer is.

- ``smb_message_echoes``: the owner has answered from the phone app.
  https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/smb_message_echoes
- ``standby``: messages of a conversation that Meta's own agent leads.
  https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/standby
- ``messaging_handovers``: the lead goes from one to another. Meta documents this field for Messenger only. As seen on
  WhatsApp, ``control_passed`` comes when Meta's agent escalates to a human or gets the conversation (back), and
  ``control_taken`` when the business's app takes it. Where roles are named, they count for more.
- ``user_id_update``: a user id has changed. Meta says by now that system messages tell this instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.messages import OtherItem
from whatsapp_hub.cloud_api.names import Names, names_in, sender_names
from whatsapp_hub.cloud_api.payload import read_timestamp
from whatsapp_hub.cloud_api.reading import read_text, wants_reply
from whatsapp_hub.errors import PayloadInvalid

_META_AGENT: Final = frozenset({"ai_agent", "meta_business_agent", "meta_ai"})
_HUMAN: Final = "escalation"


class Lead(Enum):
    """Who answers in a conversation from now on."""

    OTHERS = auto()  #: a human at the phone, or another agent
    HUB = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing told of one conversation."""

    phone_number_id: str
    names: Names
    lead: Lead | None = None
    timestamp: int = 0  #: unix seconds
    message_id: str = ""  #: of the words, if there are any
    customer: str = field(default="", repr=False)  #: what the customer said
    reply: str = field(default="", repr=False)  #: what was answered, but not by the hub


def read_marks(item: OtherItem, *, now: int) -> list[Mark]:
    """Read what an item tells of conversations of its own number. Never raises, whatever it holds."""
    reader = _READERS.get(item.field)
    number = item.phone_number_id
    if reader is None or not number or ":" in number:
        return []
    try:
        change = json_text.read_object(item.item)
    except PayloadInvalid:
        return []
    value = change.get("value") if change else None
    return list(reader(number, value, now)) if isinstance(value, dict) else []


def _read_echoes(number: str, value: dict[str, Any], now: int) -> Iterator[Mark]:
    for echo in _objects(value.get("message_echoes")):
        # What Meta's agent says comes with the message one level deeper.
        (inner,) = _objects([echo.get("message")]) or [echo]
        message = {"id": echo.get("id"), "timestamp": echo.get("timestamp"), **inner}
        names = names_in(message, "to_user_id", "to", "to_parent_user_id")
        if names and "group_id" not in message:
            yield _said(number, names, message, now, by_customer=False)


def _read_standby(number: str, value: dict[str, Any], now: int) -> Iterator[Mark]:
    standby = value.get("standby")
    if not isinstance(standby, dict):
        return
    for message in _objects(standby.get("messages")):
        if (names := sender_names(message)) and "group_id" not in message:
            yield _said(number, names, message, now, by_customer=True)
    yield from _read_echoes(number, standby, now)


def _said(number: str, names: tuple[str, ...], message: dict[str, Any], now: int, *, by_customer: bool) -> Mark:
    kind, words = read_text(json_text.write(message))
    (message_id,) = names_in(message, "id") or [""]
    has_words = message_id and wants_reply(kind)
    return Mark(
        phone_number_id=number,
        names=Names(now=names),
        lead=Lead.OTHERS,
        timestamp=read_timestamp(message.get("timestamp"), now),
        message_id=message_id if has_words else "",
        customer=words if has_words and by_customer else "",
        reply=words if has_words and not by_customer else "",
    )


def _read_handover(number: str, value: dict[str, Any], now: int) -> Iterator[Mark]:
    names = names_in(value.get("sender"), "user_id", "wa_id", "phone_number")
    lead = _new_lead(value)
    if names and lead is not None:
        yield Mark(
            phone_number_id=number,
            names=Names(now=names),
            lead=lead,
            timestamp=read_timestamp(value.get("timestamp"), now),
        )


def _new_lead(value: dict[str, Any]) -> Lead | None:
    kind = value.get("type")
    if kind not in ("control_passed", "control_taken"):
        return None
    old = _role(value.get(kind), "previous_owner_role", "previous_owner_app_role")
    new = _role(value.get(kind), "new_owner_role", "new_owner_app_role")
    if new in _META_AGENT:
        return Lead.OTHERS
    return Lead.HUB if kind == "control_taken" or old == _HUMAN else Lead.OTHERS


def _role(details: object, *keys: str) -> str:
    return next(iter(names_in(details, *keys)), "").lower()


def _read_user_ids(number: str, value: dict[str, Any], now: int) -> Iterator[Mark]:
    for update in _objects(value.get("user_id_update")):
        user_id, parent = update.get("user_id"), update.get("parent_user_id")
        current = (*names_in(user_id, "current"), *names_in(update, "wa_id"), *names_in(parent, "current"))
        former = (*names_in(user_id, "previous"), *names_in(parent, "previous"))
        names = Names(now=current, former=tuple(name for name in former if name not in current))
        yield Mark(phone_number_id=number, names=names, timestamp=read_timestamp(update.get("timestamp"), now))


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


_READERS: Final[dict[str, Callable[[str, dict[str, Any], int], Iterator[Mark]]]] = {
    "smb_message_echoes": _read_echoes,
    "standby": _read_standby,
    "messaging_handovers": _read_handover,
    "user_id_update": _read_user_ids,
}
