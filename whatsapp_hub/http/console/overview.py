"""The overview: what the hub does at this moment, with the minutes before, and what is wrong with it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import json_answer
from whatsapp_hub.http.console.answers import guarded
from whatsapp_hub.http.console.doors import NotWanted, find_session

TICK_S: Final = 1.0
WRITE_TIMEOUT_S: Final = 5.0  # a page that does not read along is let go
RECONNECT_MS: Final = 2000

_HEADERS: Final = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}  # a proxy must not collect


async def show_overview(request: web.Request) -> web.Response:
    """Answer with the last minutes and the state of now."""
    console = request.app[keys.CONSOLE]
    return json_answer({"points": list(console.recent.points), "state": console.state()})


async def stream_overview(request: web.Request) -> web.StreamResponse:
    """Tell a page every second what is new, as server-sent events."""
    console, session = request.app[keys.CONSOLE], find_session(request)
    if session is None:
        raise NotWanted(401, "you are logged out; log in again")
    with console.streams.opened(session.id) as ended:
        answer = guarded(web.StreamResponse(headers=_HEADERS))
        await answer.prepare(request)
        with suppress(TimeoutError, ConnectionError):
            await _write(answer, f"retry: {RECONNECT_MS}\n\n".encode())
            said: object = None
            while not ended.is_set() and time.time() < session.ends_at:
                state = console.state()
                await _write(answer, _tick(console.recent.last(), state if state != said else None))
                said = state
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), TICK_S)
            await _write(answer, b"event: end\ndata: {}\n\n")
    return answer


def _tick(points: list[dict[str, Any]], state: object) -> bytes:
    return b"data: " + orjson.dumps({"points": points, "state": state}) + b"\n\n"


async def _write(answer: web.StreamResponse, event: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await answer.write(event)
