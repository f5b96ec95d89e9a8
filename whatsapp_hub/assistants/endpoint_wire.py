"""A turn as JSON for a business's own endpoint, and the endpoint's answer (pure). ``docs/assistants.md`` has both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from whatsapp_hub.assistants.base import CustomerMessage, PastTurn, Reply, Text, Turn
from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.parts import build_parts, read_reply
from whatsapp_hub.errors import AssistantFailed, ReplyInvalid

VERSION: Final = 1  #: fields are added without a new one; none is taken away or changes its meaning
MAX_REPLIES: Final = 10
MAX_TEXT_CHARACTERS: Final = 65_536  #: of all texts together, sixteen messages of WhatsApp's length


def build_turn(turn: Turn, *, turn_id: str) -> bytes:
    """Write the body of a request."""
    return orjson.dumps(
        {
            "version": VERSION,
            "type": "turn",
            "id": turn_id,
            "business": {"id": turn.business_id, "name": _text(turn.business_name), "subDomain": turn.sub_domain},
            "phoneNumberId": turn.phone_number_id,
            "customer": {"id": turn.customer, "name": _text(turn.customer_name)},
            "messages": [_message(message) for message in turn.messages],
            "history": [_past_turn(past) for past in turn.history],
        }
    )


def _message(message: CustomerMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "kind": _text(message.kind),
        "text": _text(message.text),
        "timestamp": message.timestamp,
        # As Meta sent it. It stands as text in the inbox; only what is JSON there is written into JSON here.
        "raw": orjson.Fragment(message.raw or b"null"),
    }


def _past_turn(past: PastTurn) -> dict[str, Any]:
    return {
        "customer": _text(past.customer),
        "reply": _text(past.reply),
        "timestamp": past.timestamp or None,
        "byHuman": past.by_human,
    }


def read_replies(body: bytes) -> tuple[Reply, ...]:
    """Read the answer: ``{"replies": [...]}``, each a text or a message in Meta's form without recipient.

    Raises:
        AssistantFailed: it is none, in words that quote nothing of it.

    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise AssistantFailed("the endpoint's answer is not JSON") from None
    match answer:
        case {"replies": [*values]}:
            pass
        case _:
            raise AssistantFailed('the endpoint\'s answer is not {"replies": [...]}')
    if len(values) > MAX_REPLIES:
        raise AssistantFailed(f"the endpoint's answer has more than {MAX_REPLIES} replies")
    replies = tuple(_read_all(values))
    if sum(len(reply.body) for reply in replies if isinstance(reply, Text)) > MAX_TEXT_CHARACTERS:
        raise AssistantFailed(f"the texts of the endpoint's answer have more than {MAX_TEXT_CHARACTERS:,} characters")
    return replies


def _read_all(values: list[Any]) -> Iterator[Reply]:
    for place, value in enumerate(values, start=1):
        try:
            reply = Text(body=value) if isinstance(value, str) else read_reply(value)
            # A reply that nobody can send is found here, where there is a fallback, and not after the commit point.
            if build_parts(reply):
                yield reply
        except ReplyInvalid as error:
            raise AssistantFailed(f"reply {place} of the endpoint's answer cannot be sent: {error}") from None


def _text(text: str) -> str:
    return json_text.clean(text)
