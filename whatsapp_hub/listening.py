"""The listening socket: it admits so many connections and no more.

Whoever holds connections open must not take the files that the database and Graph are reached with. So those beyond the
bound are answered 503 and closed, except for a few that do not post: probes have to get through.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from typing import Final, cast

from aiohttp import web

KEPT_FOR_PROBES: Final = 16
FIRST_WORDS_S: Final = 1.0  #: how long a connection beyond the bound may take to say what it wants
#: What is not a connection to or from anywhere: logs, the loop's own, the interpreter's.
OTHER_FILES: Final = 64
_TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


def raise_file_limit() -> int:
    """Raise the bound of open files as far as we may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a lower bound of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1_000_000


def most_connections(files: int, outgoing: int) -> int:
    """Say how many connections may come in where so many files may be open and so many connections go out."""
    return max(files - outgoing - OTHER_FILES - KEPT_FOR_PROBES, files // 2)


class Site(web.SockSite):
    """A listening socket that admits so many connections at a time."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, *, backlog: int, most: int) -> None:
        """Admit ``most`` connections, and a few probes more."""
        super().__init__(runner, listener, backlog=backlog)
        assert runner.server is not None  # noqa: S101 - set up already
        self._admitting = runner.server
        self._most = most

    async def start(self) -> None:
        """Start to listen."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._admit, sock=self._sock, backlog=self._backlog)

    def _admit(self) -> asyncio.BaseProtocol:
        open_now = len(self._admitting.connections)
        if open_now < self._most:
            return self._admitting()
        return _Surplus(self._admitting, is_full=open_now >= self._most + KEPT_FOR_PROBES)


class _Surplus(asyncio.Protocol):
    """A connection beyond the bound: whoever posts is told to come again, a probe is served."""

    def __init__(self, server: web.Server, *, is_full: bool) -> None:
        self._server = server
        self._is_full = is_full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not one by name
        self._timer = asyncio.get_running_loop().call_later(FIRST_WORDS_S, self._transport.close)

    def data_received(self, data: bytes) -> None:
        self._timer.cancel()
        if self._is_full or data.startswith(b"POST"):
            self._transport.write(_TURNED_AWAY)
            self._transport.close()
            return
        handler = self._server()
        self._transport.set_protocol(handler)
        handler.connection_made(self._transport)
        handler.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timer.cancel()
