"""What clients of the API ask for, read from their bodies (pure). What is wrong is said in words, never quoted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.outgoing import is_bsuid
from whatsapp_hub.cloud_api.parts import build_parts, read_reply
from whatsapp_hub.errors import HubError, PayloadInvalid, ReplyInvalid

MAX_IDEMPOTENCY_KEY: Final = 255
MAX_MESSAGE_ID: Final = 256
MAX_PARTS: Final = 20  #: messages that one request may become
MAX_PAUSE_MINUTES: Final = 60 * 24 * 365

#: What the hub itself reads; everything else is the message in Meta's own form.
_ENVELOPE: Final = ("messaging_product", "recipient_type", "to", "recipient", "from", "reply_to")
_BSUID: Final = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}", re.ASCII)  # Meta's page on BSUIDs
_PHONE_NUMBER: Final = re.compile(r"\+?[0-9]{5,15}", re.ASCII)  # E.164 has up to 15 digits
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


class RequestInvalid(HubError):
    """The request cannot be carried out as it is; ``status`` is the answer's."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """One message that shall be sent."""

    customer: str = field(repr=False)  #: a phone number or a BSUID
    phone_number_id: str | None  #: None: the only one that the business has
    parts: tuple[bytes, ...] = field(repr=False)
    digest: str  #: of the whole body, whatever the order of its keys


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """For how long the assistant shall be silent in a conversation."""

    minutes: float  #: 0: no longer
    phone_number_id: str | None


def read_send_request(body: bytes) -> SendRequest:
    """Read the body of a request to send. Raises ``RequestInvalid``."""
    value = _read_object(body)
    message = {key: entry for key, entry in value.items() if key not in _ENVELOPE}
    if value.get("messaging_product", "whatsapp") != "whatsapp":
        raise _invalid("messaging_product is something else than whatsapp")
    if value.get("recipient_type", "individual") != "individual":
        raise _invalid("recipient_type is something else than individual: groups cannot be written to")
    return SendRequest(
        customer=_read_customer(value),
        phone_number_id=_read_id(value, "from", "the id of one of the business's phone numbers"),
        parts=_read_parts(message, _read_id(value, "reply_to", "the id of a message (wamid)")),
        digest=hashlib.sha256(json_text.write_sorted(value)).hexdigest(),
    )


def read_pause_request(body: bytes) -> PauseRequest:
    """Read the body of a request to pause the assistant. Raises ``RequestInvalid``."""
    value = _read_object(body)
    minutes = value.get("minutes")
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes <= MAX_PAUSE_MINUTES:
        raise _invalid(f"minutes is no number from 0 to {MAX_PAUSE_MINUTES}")
    number = _read_id(value, "from", "the id of one of the business's phone numbers")
    return PauseRequest(minutes=minutes, phone_number_id=number)


def read_customer_id(text: str) -> str:
    """Read a customer's id, a phone number or a BSUID. Raises ``RequestInvalid``."""
    return text if _BSUID.fullmatch(text) else _read_phone_number(text, "the customer's id")


def read_idempotency_key(values: list[str]) -> str | None:
    """Read the headers of that name; None where there is none. Raises ``RequestInvalid``."""
    if not values:
        return None
    if len(values) > 1 or len(values[0]) > MAX_IDEMPOTENCY_KEY or not _VISIBLE.fullmatch(values[0]):
        raise RequestInvalid(400, f"Idempotency-Key is not one word of 1 to {MAX_IDEMPOTENCY_KEY} ASCII characters")
    return values[0]


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        value = json_text.read_object(body)
    except PayloadInvalid:
        raise RequestInvalid(400, "the body is not a JSON object") from None
    if value is None:
        raise RequestInvalid(400, f"the body is nested deeper than {json_text.MAX_DEPTH} levels")
    return value


def _read_customer(value: dict[str, Any]) -> str:
    if ("to" in value) is ("recipient" in value):
        raise _invalid("give either to, a phone number, or recipient, a BSUID")
    to, recipient = value.get("to"), value.get("recipient")
    if "to" not in value:
        # Meta answers a phone number in ``recipient`` with an error, and drops a BSUID in ``to`` without one.
        if not isinstance(recipient, str) or not _BSUID.fullmatch(recipient):
            raise _invalid("recipient is no BSUID, such as US.13491208655302741918")
        return recipient
    if isinstance(to, str) and is_bsuid(to):
        raise _invalid("to is a BSUID: that goes in recipient")
    return _read_phone_number(to, "to")


def _read_phone_number(value: object, name: str) -> str:
    """Return a phone number as Meta writes it: without its plus."""
    if not isinstance(value, str) or not _PHONE_NUMBER.fullmatch(value):
        raise _invalid(f"{name} is no phone number with its country code, such as 491700000001")
    return value.removeprefix("+")


def _read_id(value: dict[str, Any], key: str, words: str) -> str | None:
    if key not in value:
        return None
    found = value[key]
    if not isinstance(found, str) or len(found) > MAX_MESSAGE_ID or not _VISIBLE.fullmatch(found):
        raise _invalid(f"{key} is not {words}")
    return found


def _read_parts(message: dict[str, Any], reply_to: str | None) -> tuple[bytes, ...]:
    if reply_to is not None:
        if "context" in message:
            raise _invalid("reply_to and context say the same: give one of them")
        message = {**message, "context": {"message_id": reply_to}}
    try:
        parts = build_parts(read_reply(message))
    except ReplyInvalid as error:
        raise _invalid(f"the message cannot be sent: {error}") from None
    if not parts:
        raise _invalid("the message cannot be sent: it says nothing")
    if len(parts) > MAX_PARTS:
        raise _invalid(f"the message cannot be sent: it would become more than {MAX_PARTS} messages")
    return tuple(parts)


def _invalid(error: str) -> RequestInvalid:
    return RequestInvalid(422, error)
