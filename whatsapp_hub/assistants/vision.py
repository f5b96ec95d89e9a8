"""Pictures that a model is shown: what is in a turn, as long as it is not too much."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Final

from whatsapp_hub.assistants.base import CustomerMessage, Turn
from whatsapp_hub.errors import MediaUnavailable

MAX_PICTURES: Final = 5
MAX_PICTURE_BYTES: Final = 5 * 1024 * 1024  # WhatsApp takes no larger ones (Meta: business-phone-numbers/media)
MAX_BYTES: Final = 8 * 1024 * 1024  # of all pictures of a turn
_KINDS: Final = frozenset({"image", "sticker"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as a ``data:`` URL."""

    message_id: str
    url: str = field(repr=False)


async def find_pictures(turn: Turn) -> tuple[Picture, ...]:
    """Fetch the pictures of a turn, the newest first to count; what cannot be had is left to its words."""
    pictures: list[Picture] = []
    room = MAX_BYTES
    for message in reversed(turn.messages):
        if message.attachment is None or message.kind not in _KINDS or message.attachment.media.animated:
            continue
        if len(pictures) == MAX_PICTURES:
            break
        data = await _read(message)
        mime_type = sniff(data)
        if mime_type is None or not len(data) <= min(MAX_PICTURE_BYTES, room):
            continue
        room -= len(data)
        url = await asyncio.to_thread(_data_url, mime_type, data)
        pictures.append(Picture(message_id=message.id, url=url))
    return tuple(reversed(pictures))


def sniff(data: bytes) -> str | None:
    """Tell by its first bytes what picture it is, whatever the sender said; None for what no model takes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


async def _read(message: CustomerMessage) -> bytes:
    assert message.attachment is not None  # noqa: S101 - the caller has looked
    try:
        return await message.attachment.read()
    except MediaUnavailable:
        return b""


def _data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
