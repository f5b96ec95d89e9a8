"""A stand-in for OpenAI's ``/audio/transcriptions`` and ``/audio/speech``."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import BodyPartReader, web

from whatsapp_hub.demo.faults import Faults, json_answer, misbehave

MAX_REQUESTS: Final = 10_000  # kept in memory
_CRC: Final = 0x04C11DB7


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """One request: to hear, or to speak."""

    path: str
    authorization: str | None = field(repr=False)
    fields: dict[str, Any] = field(repr=False)
    file: bytes = field(default=b"", repr=False)
    filename: str = ""
    content_type: str = ""


class SpeechStandIn:
    """Hears ``transcript`` in every sound, and speaks every text as a sound without any."""

    def __init__(self, faults: Faults) -> None:
        self.transcript = "what I said"
        self.requests: list[SpeechRequest] = []
        self._faults = faults

    def add_routes(self, app: web.Application) -> None:
        """Add the routes that assistants use."""
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        app.router.add_post("/v1/audio/speech", self._speak)

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        asked = await _read_form(request)
        if asked is None or not asked.file or not asked.fields.get("model"):
            return json_answer(_error("file and model are required", "invalid_request_error"), status=400)
        self._record(asked)
        return await self._answer(request, "transcriptions", orjson.dumps({"text": self.transcript}), asked)

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        try:
            fields = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            fields = None
        match fields:
            case {"model": str(), "input": str(words), "voice": str()} if 0 < len(words) <= 4096:
                pass
            case _:
                return json_answer(_error("model, input and voice are required", "invalid_request_error"), status=400)
        asked = SpeechRequest(
            path=request.path, authorization=request.headers.get("Authorization"), fields=dict(fields)
        )
        self._record(asked)
        return await self._answer(request, "speech", silence(), asked, content_type="audio/ogg")

    async def _answer(
        self,
        request: web.Request,
        endpoint: str,
        answer: bytes,
        asked: SpeechRequest,
        content_type: str = "application/json",
    ) -> web.StreamResponse:
        token = (asked.authorization or "").removeprefix("Bearer ")
        fault = self._faults.take(endpoint=endpoint, token=token)
        if fault is not None:
            return await misbehave(request, fault, answer, _error("told to fail", "server_error"))
        return web.Response(body=answer, content_type=content_type)

    def _record(self, asked: SpeechRequest) -> None:
        if len(self.requests) < MAX_REQUESTS:
            self.requests.append(asked)


async def _read_form(request: web.Request) -> SpeechRequest | None:
    if request.content_type != "multipart/form-data":
        return None
    fields: dict[str, str] = {}
    file, filename, content_type = b"", "", ""
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            return None
        if part.name == "file":
            file = bytes(await part.read())
            filename, content_type = part.filename or "", part.headers.get("Content-Type", "")
        else:
            fields[part.name or ""] = await part.text()
    return SpeechRequest(
        path=request.path,
        authorization=request.headers.get("Authorization"),
        fields=fields,
        file=file,
        filename=filename,
        content_type=content_type,
    )


def silence() -> bytes:
    """Return 20 ms of silence, OGG with Opus (RFC 3533, 7845)."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 4) + b"hub0" + struct.pack("<I", 0)
    pages = ((2, 0, head), (0, 0, tags), (4, 960, b"\xf8\xff\xfe"))
    return b"".join(_page(number, *page) for number, page in enumerate(pages))


def _page(number: int, flags: int, position: int, packet: bytes) -> bytes:
    def build(checksum: int) -> bytes:
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 1, number, checksum, 1)
        return head + bytes([len(packet)]) + packet

    return build(_checksum(build(0)))


def _checksum(page: bytes) -> int:
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = ((register << 1) ^ (_CRC if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


def _error(message: str, kind: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}})
