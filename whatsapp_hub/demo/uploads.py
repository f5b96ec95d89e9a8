"""What was uploaded to the stand-in for Graph: read in pieces, checked as Meta does, and known by its id."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, web

from whatsapp_hub.demo.refused import Refused

#: By the beginning of the type; the numbers are those of Meta's page on media.
_MOST_BYTES: Final = {
    "image/jpeg": 5 << 20,
    "image/png": 5 << 20,
    "image/webp": 500 << 10,
    "audio/": 16 << 20,
    "video/": 16 << 20,
    "text/": 100 << 20,
    "application/": 100 << 20,
}
_MOST_FIELD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file that was uploaded."""

    phone_number_id: str
    mime_type: str
    sha256: str
    size: int


class Uploads:
    """The files by their ids, each bound to the number that it was uploaded for."""

    def __init__(self) -> None:
        self.by_id: dict[str, Upload] = {}

    def add(self, upload: Upload) -> str:
        """Keep a file and return its id."""
        media_id = str(secrets.randbelow(10**15))
        self.by_id[media_id] = upload
        return media_id

    def check(self, media_id: str, phone_number_id: str) -> None:
        """Check that a number may show this. Raises ``Refused``."""
        upload = self.by_id.get(media_id)
        if upload is None or upload.phone_number_id != phone_number_id:
            raise Refused(131009, "Parameter value is not valid: the media id does not exist for this phone number")


async def read_upload(request: web.Request, phone_number_id: str) -> Upload:
    """Read an upload. Raises ``Refused``."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(100, "The parameter file is required.")
    fields: dict[str, str] = {}
    found: Upload | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise Refused(100, "Param file must be a file")
        if part.name == "file":
            found = await _read_file(part, phone_number_id)
        else:
            fields[part.name or ""] = (await part.read_chunk(_MOST_FIELD_BYTES)).decode(errors="replace")
    if fields.get("messaging_product") != "whatsapp":
        raise Refused(100, "The parameter messaging_product is required.")
    if found is None:
        raise Refused(100, "The parameter file is required.")
    if fields.get("type") != found.mime_type:
        raise Refused(100, "Param type must be the type of the file")
    return found


async def _read_file(part: BodyPartReader, phone_number_id: str) -> Upload:
    mime_type = part.headers.get("Content-Type", "application/octet-stream")
    most = next((size for start, size in _MOST_BYTES.items() if mime_type.startswith(start)), 0)
    if not most or mime_type == "application/octet-stream":
        raise Refused(100, f"Param file must be a file with one of the types that are supported, not {mime_type}")
    digest, size = hashlib.sha256(), 0
    while chunk := await part.read_chunk(64 * 1024):
        digest.update(chunk)
        size += len(chunk)
    if not 0 < size <= most:
        raise Refused(131053, "Media upload error: the file is empty or too large")
    return Upload(phone_number_id=phone_number_id, mime_type=mime_type, sha256=digest.hexdigest(), size=size)
