"""The console's files, read once: they are part of the package, and no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import hdrs, web

from whatsapp_hub.http.answers import NOTHING_HERE, error_answer
from whatsapp_hub.http.console.answers import guarded

STATIC: Final = "/console/static/"

_TYPES: Final = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One of them."""

    body: bytes
    content_type: str
    etag: str

    def answer(self, *, cached_as: str | None = None) -> web.Response:
        """Build the answer that carries the file; ``cached_as`` is the tag of what the browser has of it."""
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: self.etag}  # kept, but never used unasked
        if cached_as == self.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, content_type=self.content_type, charset="utf-8", headers=headers)


@cache
def static_files() -> Mapping[str, File]:
    """Return every file by its path below ``static``."""
    return dict(_read(files("whatsapp_hub.http.console") / "static", ""))


async def show_file(request: web.Request) -> web.Response:
    """Answer with a style sheet, a script or a picture."""
    file = static_files().get(request.match_info["name"])
    if file is None or file.content_type == _TYPES["html"]:
        return guarded(error_answer(404, NOTHING_HERE))
    return guarded(file.answer(cached_as=request.headers.get(hdrs.IF_NONE_MATCH)))


def _read(folder: Traversable, path: str) -> list[tuple[str, File]]:
    found = []
    for entry in folder.iterdir():
        name, ending = f"{path}{entry.name}", entry.name.rpartition(".")[2]
        if entry.is_dir():
            found += _read(entry, f"{name}/")
        elif ending in _TYPES:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found.append((name, File(body=body, content_type=_TYPES[ending], etag=etag)))
    return found
