"""What Meta says of a file of a customer (pure)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from whatsapp_hub.cloud_api.json_fields import object_in, text, whole
from whatsapp_hub.errors import MediaUnavailable

_HEX: Final = re.compile(r"[0-9A-Fa-f]{64}")
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """The answer to ``GET /{MEDIA_ID}``."""

    url: str = field(repr=False)  #: lives five minutes
    mime_type: str
    size: int | None
    digest: bytes | None  #: SHA-256


def read_media_info(body: bytes) -> MediaInfo:
    """Read a successful answer. Raises ``MediaUnavailable`` where it names no link."""
    answer = object_in(body)
    url = text(answer, "url")
    if not url:
        raise MediaUnavailable("Meta names no link for it")
    return MediaInfo(
        url=url,
        mime_type=text(answer, "mime_type"),
        size=whole(answer, "file_size"),
        digest=read_digest(text(answer, "sha256")),
    )


def read_digest(written: str) -> bytes | None:
    """Read a SHA-256 in hex, as the Graph API writes it, or in base64, as webhooks do; None for anything else."""
    if _HEX.fullmatch(written):
        return bytes.fromhex(written)
    try:
        digest = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == _DIGEST_BYTES else None
