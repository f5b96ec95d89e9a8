"""A hub that takes everything and keeps it, so that a test sees what nginx has passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from aiohttp import web

from tests.deploy.certificates import HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str  #: path and query
    headers: tuple[tuple[str, str], ...]
    digest: str  #: of the body
    peer: int  #: the port of the connection it came on

    def all(self, header: str) -> list[str]:
        """Return every line of a header."""
        return [value for name, value in self.headers if name.lower() == header.lower()]


@dataclass(slots=True, kw_only=True)
class StandIn:
    """The stand-in, as ``open_stand_in`` opens it."""

    port: int = 0
    status: int = 200
    hangs_up: bool = False  #: without an answer
    seen: list[Seen] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)  #: until it is set, nothing is answered

    async def answer(self, request: web.Request) -> web.Response:
        """Take a request."""
        assert request.transport is not None
        self.seen.append(
            Seen(
                method=request.method,
                target=request.raw_path,
                headers=tuple((name.decode(), value.decode()) for name, value in request.raw_headers),
                digest=sha256(await request.read()).hexdigest(),
                peer=request.transport.get_extra_info("peername")[1],
            )
        )
        if self.hangs_up:
            request.transport.abort()
        await self.open.wait()
        return web.Response(status=self.status, text=request.query.get("hub.challenge", ""))


@asynccontextmanager
async def open_stand_in() -> AsyncIterator[StandIn]:
    """Run one, at a port of its own."""
    stand_in = StandIn()
    stand_in.open.set()
    app = web.Application(client_max_size=8 << 20)
    app.router.add_route("*", "/{path:.*}", stand_in.answer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        stand_in.port = runner.addresses[0][1]
        yield stand_in
    finally:
        stand_in.open.set()
        await runner.cleanup()
