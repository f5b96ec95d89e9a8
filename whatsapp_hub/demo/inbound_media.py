"""What customers of the stand-in for Graph have sent along: ``GET /{MEDIA_ID}``, and the download behind its link."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from whatsapp_hub.demo.faults import Faults, json_answer, misbehave
from whatsapp_hub.demo.refused import Refused
from whatsapp_hub.demo.wire import error_body

_NO_OBJECT: Final = "Object does not exist, or cannot be loaded due to missing permissions"


@dataclass(slots=True, kw_only=True)
class StoredMedia:
    """One file, for the number that it came to. The attributes may be changed to make the stand-in lie."""

    id: str
    phone_number_id: str
    data: bytes = field(repr=False)
    mime_type: str
    sha256: str
    file_size: int | None
    url: str | None = None  #: instead of the stand-in's own link
    redirect: str | None = None  #: where the download leads instead
    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def part(self, **more: Any) -> dict[str, Any]:
        """Return what a webhook says of it."""
        return {"id": self.id, "mime_type": self.mime_type, "sha256": self.sha256, **more}


class InboundMedia:
    """Holds the files. Each is bound to its number: only that number's token and id get it."""

    def __init__(self, faults: Faults, check_token: Callable[[str, str], None]) -> None:
        """Take what raises ``Refused`` if a token is not that of a number."""
        self._faults = faults
        self._check_token = check_token
        self._files: dict[str, StoredMedia] = {}
        self.asked: list[str] = []  #: the ids whose links were asked for
        self.downloads: list[tuple[str, str]] = []  #: ids, and the tokens with which they were downloaded

    def add(self, number: str, data: bytes, mime_type: str) -> StoredMedia:
        """Keep a file that a customer has sent to this number."""
        media = StoredMedia(
            id=f"{secrets.randbelow(10**16):016}",
            phone_number_id=number,
            data=data,
            mime_type=mime_type,
            sha256=hashlib.sha256(data).hexdigest(),
            file_size=len(data),
        )
        self._files[media.id] = media
        return media

    def add_routes(self, app: web.Application) -> None:
        """Add the route that links lead to."""
        app.router.add_get("/_media/{key}", self._download)

    def holds(self, media_id: str) -> bool:
        """Tell whether this is the id of a file."""
        return media_id in self._files

    async def describe(self, request: web.Request, media_id: str, token: str) -> web.StreamResponse:
        """Answer ``GET /{MEDIA_ID}``."""
        media = self._files[media_id]
        self.asked.append(media_id)
        try:
            self._check(media, token, request.query.get("phone_number_id"))
        except Refused as refused:
            return json_answer(error_body(refused.code, str(refused)), status=refused.status)
        link = media.url or str(request.url.origin() / "_media" / media.key)
        answer = orjson.dumps(
            {
                "messaging_product": "whatsapp",
                "url": link,
                "mime_type": media.mime_type,
                "sha256": media.sha256,
                "file_size": media.file_size,
                "id": media_id,
            }
        )
        fault = self._faults.take(endpoint="media", token=token)
        return json_answer(answer) if fault is None else await misbehave(request, fault, answer, error_body(2, "down"))

    def _check(self, media: StoredMedia, token: str, number: str | None) -> None:
        self._check_token(media.phone_number_id, token)
        if number not in (None, media.phone_number_id):
            raise Refused(33, _NO_OBJECT)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        media = next((one for one in self._files.values() if one.key == request.match_info["key"]), None)
        if media is None:
            return web.Response(status=404)
        self.downloads.append((media.id, token))
        if media.redirect is not None:
            return web.Response(status=302, headers={"Location": media.redirect})
        try:
            self._check_token(media.phone_number_id, token)
        except Refused as refused:
            return web.Response(status=refused.status)
        fault = self._faults.take(endpoint="download", token=token)
        if fault is not None:
            return await misbehave(request, fault, media.data, b"")
        return web.Response(body=media.data, content_type=media.mime_type.partition(";")[0])
