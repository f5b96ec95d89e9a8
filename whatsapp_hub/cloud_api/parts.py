"""Replies as the messages of WhatsApp that they become (pure).

Every limit of Meta's (``cloud_api.limits``) is kept here, before anything is sent, and what has no room is said in
another way rather than refused. Choices have a module of their own (``cloud_api.choices``), and so has the way back
from Meta's form (``cloud_api.reply_reading``).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import orjson

from whatsapp_hub.cloud_api import limits
from whatsapp_hub.cloud_api.choices import button_messages, link_messages, list_messages, location_request_messages
from whatsapp_hub.cloud_api.message_form import (
    Message,
    is_https,
    plain,
    text_message,
    text_messages,
    write_message,
)
from whatsapp_hub.cloud_api.outgoing import belong_together, split_text, text_part
from whatsapp_hub.cloud_api.replies import (
    Audio,
    Buttons,
    ChoiceList,
    Contacts,
    Document,
    Image,
    LinkButton,
    Location,
    LocationRequest,
    Media,
    Reaction,
    Reply,
    Sticker,
    Template,
    Text,
    Video,
)
from whatsapp_hub.cloud_api.reply_reading import read_reply
from whatsapp_hub.errors import ReplyInvalid

__all__ = ["build_parts", "build_template", "read_reply", "without_media"]

_NAME_FIELDS: Final = ("first_name", "middle_name", "last_name", "prefix", "suffix")
_LINK_STARTS: Final = ("https://", "http://")
_KEYCAP: Final = "\u20e3"


def build_parts(reply: Reply) -> list[bytes]:
    """Return the bodies of the messages that a reply becomes, without their recipient; none if it says nothing.

    Media that has to be uploaded must have its id by now.

    Raises:
        ReplyInvalid: WhatsApp takes nothing like it.

    """
    if isinstance(reply, Text) and not reply.preview_url and not reply.reply_to:
        return [text_part(part) for part in split_text(reply.body)]
    messages = _messages(reply)
    if messages and not isinstance(reply, Reaction) and reply.reply_to:
        messages[0]["context"] = {"message_id": reply.reply_to}
    return [write_message(message) for message in messages]


def build_template(template: Template) -> bytes:
    """Return the one message that a template is. Raises ``ReplyInvalid``."""
    (part,) = build_parts(template)
    return part


def without_media(part: bytes) -> bytes | None:
    """Return what is left to say of a message whose media cannot be used: its caption; None where there is none."""
    message = orjson.loads(part)
    media = message.get(message["type"])
    caption = media.get("caption") if isinstance(media, dict) else None
    if not caption:
        return None
    context = {"context": message["context"]} if "context" in message else {}
    return write_message({**text_message(caption), **context})


def _messages(reply: Reply) -> list[Message]:  # noqa: C901, PLR0912 - one line for each kind
    match reply:
        case Text():
            return _texts(reply)
        case Image():
            return _captioned("image", reply.media, reply.caption)
        case Video():
            return _captioned("video", reply.media, reply.caption)
        case Document():
            named = {"filename": reply.filename.strip()} if reply.filename.strip() else {}
            return _captioned("document", reply.media, reply.caption, named)
        case Audio():
            # A voice note has to be OGG with Opus; anything else is a sound like others.
            voice = reply.voice and (reply.media.mime_type or "audio/ogg").startswith("audio/ogg")
            return _media("audio", reply.media, {"voice": True} if voice else {}, reply.words)
        case Sticker():
            return _media("sticker", reply.media, {})
        case Location():
            return _location(reply)
        case Contacts():
            return _contacts(reply)
        case Reaction():
            return _reaction(reply)
        case Buttons():
            return button_messages(reply)
        case ChoiceList():
            return list_messages(reply)
        case LinkButton():
            return link_messages(reply)
        case Template():
            return [_template(reply)]
        case LocationRequest():
            return location_request_messages(reply)


def _texts(reply: Text) -> list[Message]:
    """Return a text; the part that has its first link shows the preview."""
    parts = split_text(reply.body)
    first = next((n for n, part in enumerate(parts) if any(start in part for start in _LINK_STARTS)), None)
    return [text_message(part, preview=reply.preview_url and n == first) for n, part in enumerate(parts)]


def _captioned(kind: str, media: Media, caption: str, named: Mapping[str, str] | None = None) -> list[Message]:
    caption = caption.strip()
    if len(caption) > limits.CAPTION:
        return [*_media(kind, media, dict(named or {})), *text_messages(caption)]
    return _media(kind, media, {**(named or {}), **({"caption": caption} if caption else {})})


def _media(kind: str, media: Media, also: Mapping[str, object], words: str = "") -> list[Message]:
    """Return media by its id or link; a link that Meta would not fetch becomes one for the customer."""
    if [media.link, media.id, media.data].count(None) != 2:
        raise ReplyInvalid(f"{kind} has to have exactly one of a link, an id and data")
    if media.data is not None:
        raise ReplyInvalid(f"{kind} was not uploaded")
    if media.id is not None:
        if not media.id.strip():
            raise ReplyInvalid(f"{kind} has an empty id")
        return [{"type": kind, kind: {"id": media.id, **also}}]
    link = (media.link or "").strip()
    if is_https(link):
        return [{"type": kind, kind: {"link": link, **also}}]
    if link.startswith("http://"):
        return text_messages(words, str(also.get("caption", "")), str(also.get("filename", "")), link)
    raise ReplyInvalid(f"{kind} has a link that is not https")


def _location(reply: Location) -> list[Message]:
    """Return a place; where there is no such place, what it is called.

    An address is only shown beside a name (Meta's page on location messages), so one without a name becomes the name.
    """
    name, address = reply.name.strip(), reply.address.strip()
    there = all(map(math.isfinite, (reply.latitude, reply.longitude)))
    if not (there and abs(reply.latitude) <= 90 and abs(reply.longitude) <= 180):
        if not (name or address):
            raise ReplyInvalid("a location is out of range: latitude is -90 to 90, longitude -180 to 180")
        return text_messages("\n".join(filter(None, (name, address))))
    words = {"name": name or address, "address": address} if address else {"name": name} if name else {}
    return [{"type": "location", "location": {"latitude": reply.latitude, "longitude": reply.longitude, **words}}]


def _contacts(reply: Contacts) -> list[Message]:
    cards = [_card(card) for card in reply.cards]
    return [
        {"type": "contacts", "contacts": cards[start : start + limits.CARDS]}
        for start in range(0, len(cards), limits.CARDS)
    ]


def _card(card: Mapping[str, object]) -> dict[str, Any]:
    """Return a card whose name Meta takes: the full name, and at least one part of it (page on contacts messages)."""
    values = plain(card)
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, dict):
        raise ReplyInvalid("a contact has no name")
    told = {key: text for key in _NAME_FIELDS if isinstance(text := name.get(key), str) and text.strip()}
    full_name = name.get("formatted_name")
    if not (isinstance(full_name, str) and full_name.strip()):
        full_name = " ".join(told[key] for key in ("prefix", *_NAME_FIELDS[:3], "suffix") if key in told)
    if not full_name:
        raise ReplyInvalid("a contact has no name")
    return {**values, "name": {**name, "formatted_name": full_name, **(told or {"first_name": full_name})}}


def _reaction(reply: Reaction) -> list[Message]:
    """Return a reaction; what is no emoji becomes a text below the message that it is about."""
    if not reply.message_id.strip():
        raise ReplyInvalid("a reaction has to name a message")
    emoji = reply.emoji.strip()
    if not emoji or _is_emoji(emoji):
        return [{"type": "reaction", "reaction": {"message_id": reply.message_id, "emoji": emoji}}]
    first, *rest = text_messages(emoji)
    return [{**first, "context": {"message_id": reply.message_id}}, *rest]


def _is_emoji(text: str) -> bool:
    """Tell whether a text may be one emoji: no letters, digits or spaces, and nothing that is seen as two signs."""
    if text.endswith(_KEYCAP):
        return len(text) <= 3
    wordy = any(unicodedata.category(char)[0] in "LNZ" or char.isascii() for char in text)
    return not wordy and all(belong_together(left, right) for left, right in pairwise(text))


def _template(reply: Template) -> Message:
    if not (reply.name.strip() and reply.language.strip()):
        raise ReplyInvalid("a template needs its name and its language")
    components = plain(reply.components)
    if not all(isinstance(component, dict) for component in components):
        raise ReplyInvalid("a template's components have to be objects")
    template: dict[str, Any] = {"name": reply.name.strip(), "language": {"code": reply.language.strip()}}
    return {"type": "template", "template": template | ({"components": components} if components else {})}
