"""A client for HTTP/1.1 over connections that stay open: just enough for a driver that must not need the CPU itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, cast

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LOST_CONNECTION: Final = 599  #: counted where other requests have a status


def find_end(data: bytes) -> int:
    """Return where the first message in ``data`` ends, headers and body; 0 while some of it is still missing."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return 0
    length = _LENGTH.search(data, 0, head_end)
    end = head_end + 4 + (int(length[1]) if length else 0)
    return end if len(data) >= end else 0


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, answered: Callable[[Connection, int, int, float], None]) -> None:
        """``answered`` is called with the connection, the serial number, the status and the time."""
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._serial: int | None = None
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def send(self, serial: int, request: bytes) -> None:
        """Send a whole request."""
        self._serial = serial
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        if not find_end(data):
            self._partial = data
            return
        self._partial = b""
        self._settle(int(data[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._transport = None
        self._settle(LOST_CONNECTION)

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _settle(self, status: int) -> None:
        serial, self._serial = self._serial, None
        if serial is not None:
            self._answered(self, serial, status, time.perf_counter())


async def open_connections(
    count: int, host: str, port: int, answered: Callable[[Connection, int, int, float], None]
) -> list[Connection]:
    """Open so many connections, a few at a time."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    for start in range(0, count, 50):
        opened = [
            loop.create_connection(lambda: Connection(answered), host, port)
            for _ in range(start, min(start + 50, count))
        ]
        connections += [protocol for _, protocol in await asyncio.gather(*opened)]
    return connections
