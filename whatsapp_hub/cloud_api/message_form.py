"""Messages on their way to JSON, and the small forms that all kinds share (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from whatsapp_hub.cloud_api.outgoing import mend_text, split_text
from whatsapp_hub.errors import ReplyInvalid

Message = dict[str, Any]  #: in Meta's form, without its recipient

ELLIPSIS: Final = "…"
_MAX_DEPTH: Final = 16


def text_message(body: str, *, preview: bool = False) -> Message:
    """Return a text that is short enough already."""
    return {"type": "text", "text": {"body": body, "preview_url": True} if preview else {"body": body}}


def text_messages(*texts: str) -> list[Message]:
    """Return texts, a blank line between them, as messages of the length that is allowed; none if they are blank."""
    return [text_message(part) for part in split_text(joined(*texts))]


def joined(*texts: str) -> str:
    """Return the texts that are not blank with a blank line between them."""
    return "\n\n".join(text.strip() for text in texts if text.strip())


def label(text: str) -> str:
    """Return what is shown in one line."""
    return " ".join(text.split())


def shortened(text: str, limit: int) -> str:
    """Return a label that fits, with an ellipsis where something was cut off."""
    return text if len(text) <= limit else split_text(text, limit - 1)[0].rstrip() + ELLIPSIS


def is_https(url: str) -> bool:
    """Tell whether this is an https URL that names a host."""
    if not url.isprintable() or any(map(str.isspace, url)):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def write_message(message: Message) -> bytes:
    """Return the JSON of a message. What UTF-8 cannot hold is replaced.

    Raises:
        ReplyInvalid: there is something in it that JSON cannot say.

    """
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:
        pass
    try:
        return orjson.dumps(plain(message))
    except orjson.JSONEncodeError:
        raise ReplyInvalid("there is a number in it that is too large") from None


def plain(value: object, depth: int = _MAX_DEPTH) -> Any:
    """Return what somebody else's code made as plain values of JSON.

    Raises:
        ReplyInvalid: there is something in it that JSON cannot say, or it is nested too deep.

    """
    if depth == 0:
        raise ReplyInvalid("it is nested too deep")
    match value:
        case str():
            return mend_text(value)
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ReplyInvalid("there is a key in it that is no text")
            return {mend_text(key): plain(item, depth - 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, depth - 1) for item in value]
    raise ReplyInvalid("there is something in it that JSON cannot say")
