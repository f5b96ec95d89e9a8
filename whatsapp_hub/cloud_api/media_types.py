"""Which media WhatsApp takes, and what Graph answers to an upload (pure).

Types and sizes are those of Meta's page on media (business-phone-numbers/media); Meta writes MB and KB without saying
which, so the larger reading counts here, and Graph has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from whatsapp_hub.cloud_api.errors import SendResult, Verdict, read_response
from whatsapp_hub.cloud_api.replies import Audio, Document, Image, Sticker, Video

MediaReply = Image | Video | Audio | Document | Sticker

_KB: Final = 1024
_MB: Final = 1024 * 1024
_VIDEO: Final = ("video/mp4", "video/3gp", "video/3gpp")  # Meta's page has 3gp, its errors and the registry 3gpp
_OFFICE: Final = ("application/msword", "application/vnd.ms-", "application/vnd.openxmlformats-officedocument.")
#: The types of each kind, or how they begin, and how many bytes it may have.
_ALLOWED: Final[dict[type[MediaReply], tuple[tuple[str, ...], int]]] = {
    Image: (("image/jpeg", "image/png"), 5 * _MB),
    Audio: (("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * _MB),
    Video: (_VIDEO, 16 * _MB),
    Document: (("text/", "application/pdf", *_OFFICE), 100 * _MB),
    Sticker: (("image/webp",), 100 * _KB),
}
_ANIMATED_STICKER_BYTES: Final = 500 * _KB


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """The outcome of one upload. A second one harms nothing, so what is unknown is as good as not done."""

    verdict: Verdict  #: ``SENT``, ``RETRY``, ``HOLD``, or ``DEAD``: this media cannot be used
    media_id: str = ""
    reason: str = ""  #: why not, safe to log and to show
    retry_after_s: float | None = None


def bare_type(mime_type: str | None) -> str:
    """Return a type without its parameters."""
    return (mime_type or "").partition(";")[0].strip().lower()


def find_media_fault(reply: MediaReply) -> str | None:
    """Say why data cannot be uploaded as what it is to be, before anything is sent; None if it can."""
    data, mime_type = reply.media.data or b"", bare_type(reply.media.mime_type)
    types, most_bytes = _ALLOWED[type(reply)]
    if not (mime_type.startswith(types) if isinstance(reply, Document) else mime_type in types):
        return "its type is none that WhatsApp takes for this kind"
    if isinstance(reply, Sticker) and _is_animated(data):
        most_bytes = _ANIMATED_STICKER_BYTES
    if not data:
        return "it is empty"
    return f"it is larger than {most_bytes // _KB} KB" if len(data) > most_bytes else None


def read_upload(status: int, body: bytes, retry_after: str | None) -> UploadResult:
    """Read Graph's answer to an upload. ``body`` may be cut off, ``retry_after`` is the header."""
    if 200 <= status < 300:
        media_id = _read_id(body)
        if media_id is None:
            return UploadResult(verdict=Verdict.RETRY, reason="the answer names no id")
        return UploadResult(verdict=Verdict.SENT, media_id=media_id)
    result = read_response(status, body, retry_after)
    if result.code is None and status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return UploadResult(verdict=Verdict.DEAD, reason="HTTP 413: something in front of Graph takes nothing so large")
    return failed_upload(result)


def failed_upload(result: SendResult) -> UploadResult:
    """Return what a send that went like this would be as an upload."""
    verdict = Verdict.RETRY if result.verdict is Verdict.UNKNOWN else result.verdict
    return UploadResult(verdict=verdict, reason=result.reason, retry_after_s=result.retry_after_s)


def _is_animated(data: bytes) -> bool:
    """Tell whether a WebP has an animation: a flag of its extended header."""
    return data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) > 20 and bool(data[20] & 0x02)


def _read_id(body: bytes) -> str | None:
    try:
        media_id = orjson.loads(body)["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return media_id if isinstance(media_id, str) and media_id.strip() else None
