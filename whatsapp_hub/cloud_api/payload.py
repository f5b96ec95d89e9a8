"""A webhook's body taken apart into items (pure).

Meta sends several entries, changes, messages and statuses in one body, adds keys without notice, and now and then sends
a broken item among good ones. So every item stands alone: what is not understood is kept raw and stops no sibling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.messages import InboundMessage, OtherItem, StatusUpdate, Webhook

#: A body with more items is kept raw as a whole. Meta says that it sends at most this many updates at once.
MAX_ITEMS: Final = 1_000
MAX_NAME_LENGTH: Final = 512  #: of ids, senders and the other names that keys are made of
MAX_PROFILE_NAME_LENGTH: Final = 256
_MAX_TIMESTAMP: Final = 10**11  # beyond it, it is not in seconds
_MAX_DIGITS: Final = 16
_MAX_CODE: Final = 2**31

_PAYLOAD_KEYS: Final = frozenset({"object", "entry"})
_ENTRY_KEYS: Final = frozenset({"id", "time", "changes"})
#: What a value of the field ``messages`` may hold; more than that is kept raw.
_VALUE_KEYS: Final = frozenset({"messaging_product", "metadata", "contacts", "messages", "statuses"})

Item = InboundMessage | StatusUpdate | OtherItem
NewId = Callable[[], str] | None


class _TooManyItems(Exception):
    """The body holds more than ``MAX_ITEMS``."""


@dataclass(slots=True)
class _Origin:
    """Where an item was found."""

    field: str = ""
    phone_number_id: str | None = None
    account_id: str | None = None


@dataclass(slots=True)
class _Items:
    """What was found so far."""

    now: int
    new_id: NewId
    messages: list[InboundMessage] = field(default_factory=list)
    statuses: list[StatusUpdate] = field(default_factory=list)
    others: list[OtherItem] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Keep an item. Raises ``_TooManyItems``."""
        if type(item) is InboundMessage:
            self.messages.append(item)
        elif type(item) is StatusUpdate:
            self.statuses.append(item)
        elif type(item) is OtherItem:
            self.others.append(item)
        if len(self.messages) + len(self.statuses) + len(self.others) > MAX_ITEMS:
            raise _TooManyItems


def read_webhook(body: bytes, *, now: int, new_id: NewId) -> Webhook:
    """Take a verified body apart into at least one item.

    ``now``, in unix seconds, stands in for a timestamp that is missing or none. ``new_id`` names messages that came
    without an id, as in unsigned load tests; without it such a message is kept raw, as is all that is not understood.

    Raises:
        PayloadInvalid: the body is not a JSON object. Nothing else is ever refused.

    """
    payload = json_text.read_object(body)
    if payload is None:
        return _unread(body)
    items = _Items(now, new_id)
    try:
        _read_payload(payload, items)
    except _TooManyItems:
        return _unread(body)
    return Webhook(messages=tuple(items.messages), statuses=tuple(items.statuses), others=tuple(items.others))


def status_key(status: StatusUpdate) -> str:
    """Name a status so that a redelivered copy has the same name: Meta sends each once per message and participant."""
    name = f"{status.phone_number_id}:{status.id}:{status.status}"
    return f"{name}:{status.participant}" if status.participant else name


def _unread(body: bytes) -> Webhook:
    key = hashlib.sha256(body).hexdigest()
    whole = OtherItem(key=key, field="", phone_number_id=None, account_id=None, item=body)
    return Webhook(messages=(), statuses=(), others=(whole,))


def _read_payload(payload: dict[str, Any], items: _Items) -> None:
    entries = payload.get("entry")
    if not isinstance(entries, list) or not entries:
        items.add(_other(_Origin(), payload))
        return
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list) or not changes:
            items.add(_other(_Origin(account_id=_account_id(entry, None)), entry))
            continue
        for change in changes:
            _read_change(entry, change, items)
        if not entry.keys() <= _ENTRY_KEYS:
            items.add(_other(_Origin(account_id=_account_id(entry, None)), _without(entry, "changes")))
    if not payload.keys() <= _PAYLOAD_KEYS:
        items.add(_other(_Origin(), _without(payload, "entry")))


def _read_change(entry: dict[str, Any], change: Any, items: _Items) -> None:
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict):
        items.add(_other(_Origin(account_id=_account_id(entry, None)), _timed(entry, change)))
        return
    origin = _origin(entry, change, value)
    messages, statuses = _list(value, "messages"), _list(value, "statuses")
    if origin.field != "messages" or not (messages or statuses):
        items.add(_other(origin, _timed(entry, change)))
        return
    if messages:
        names = _profile_names(value, messages)
        for message in messages:
            items.add(_message(origin, message, names, items))
    for status in statuses:
        items.add(_status(origin, status, items.now))
    # An error report beside a message, or a key that Meta has added: what is left of the change is an item too.
    walked = [key for key in ("messages", "statuses") if isinstance(value.get(key), list)]
    if not value.keys() <= _VALUE_KEYS or len(walked) != ("messages" in value) + ("statuses" in value):
        items.add(_other(origin, _timed(entry, {**change, "value": _without(value, *walked)})))


def _origin(entry: dict[str, Any], change: dict[str, Any], value: dict[str, Any]) -> _Origin:
    field = change.get("field")
    # A handover has no metadata; the number stands in its recipient.
    metadata = value.get("recipient" if field == "messaging_handovers" else "metadata")
    if field is None and ("messages" in value or "statuses" in value):
        field = "messages"
    return _Origin(
        field=_name(field) or "",
        phone_number_id=_name(metadata.get("phone_number_id")) if isinstance(metadata, dict) else None,
        account_id=_account_id(entry, value),
    )


def _account_id(entry: Any, value: dict[str, Any] | None) -> str | None:
    """Find the WhatsApp Business Account. In partner events ``entry.id`` is the partner, ``waba_info`` the customer."""
    info = value.get("waba_info") if value else None
    named = _name(info.get("waba_id")) if isinstance(info, dict) else None
    return named or (_name(entry.get("id")) if isinstance(entry, dict) else None)


def _message(origin: _Origin, message: Any, names: dict[str, str], items: _Items) -> Item:
    if not isinstance(message, dict):
        return _other(origin, message)
    number = origin.phone_number_id
    given_id = message.get("id")
    message_id = items.new_id() if given_id is None and items.new_id else _name(given_id)
    phone = _name(message.get("from"))
    sender = _name(message.get("from_user_id")) or phone
    # Keys are joined with colons, so a number with one could reach into another's.
    if not number or ":" in number or not message_id or not sender:
        return _other(origin, message)
    return InboundMessage(
        phone_number_id=number,
        id=message_id,
        sender=sender,
        timestamp=read_timestamp(message.get("timestamp"), items.now),
        profile_name=names.get(sender) or names.get(phone or "") or names.get("", ""),
        item=json_text.write(message),
    )


def _status(origin: _Origin, status: Any, now: int) -> Item:
    if not isinstance(status, dict):
        return _other(origin, status)
    number, message_id, name = origin.phone_number_id, _name(status.get("id")), _name(status.get("status"))
    if not number or ":" in number or not message_id or not name:
        return _other(origin, status)
    participant = _name(status.get("recipient_participant_user_id")) or _name(status.get("recipient_participant_id"))
    return StatusUpdate(
        phone_number_id=number,
        id=message_id,
        status=name,
        timestamp=read_timestamp(status.get("timestamp"), now),
        callback_data=_name(status.get("biz_opaque_callback_data")) or "",
        participant=participant or "",
        error_code=_error_code(status.get("errors")),
        item=json_text.write(status),
    )


def _other(origin: _Origin, value: Any) -> OtherItem:
    names = (origin.phone_number_id or "", origin.account_id or "", origin.field)
    digest = hashlib.sha256("\0".join(names).encode())
    digest.update(b"\0" + json_text.write_sorted(value))
    return OtherItem(
        key=digest.hexdigest(),
        field=origin.field,
        phone_number_id=origin.phone_number_id,
        account_id=origin.account_id,
        item=json_text.write(value),
    )


def _profile_names(value: dict[str, Any], messages: list[Any]) -> dict[str, str]:
    """Map senders to their names; an only contact beside an only message stands under "" as well."""
    names: dict[str, str] = {}
    contacts = _list(value, "contacts")
    for contact in contacts:
        profile = contact.get("profile") if isinstance(contact, dict) else None
        name = profile.get("name") if isinstance(profile, dict) else None
        if not isinstance(name, str):
            continue
        name = json_text.clean(name[:MAX_PROFILE_NAME_LENGTH])
        for key in (contact.get("user_id"), contact.get("wa_id")):
            if isinstance(key, str):
                names[key] = name
        if len(contacts) == len(messages) == 1:
            names[""] = name
    return names


def _timed(entry: Any, change: Any) -> Any:
    """Keep the time of the entry with the change: account and template updates have no other."""
    if isinstance(change, dict) and isinstance(entry, dict) and "time" in entry:
        return {"time": entry["time"], **change}
    return change


def read_timestamp(value: Any, now: int) -> int:
    """Read unix seconds, as a number or in digits; ``now`` where it is neither."""
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and value is not True and 0 < value < _MAX_TIMESTAMP:
        return value
    return now


def _error_code(errors: Any) -> int | None:
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) and abs(code) < _MAX_CODE else None


def _name(value: Any) -> str | None:
    """Return a text that can be a name or a part of a key; None for everything else."""
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH and (value.isascii() or json_text.is_clean(value)):
        return value
    return None


def _list(value: dict[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}
