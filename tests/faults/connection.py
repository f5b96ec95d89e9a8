"""A connection through the proxy: its two ends, and the commands on it that have no reply yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Literal

from tests.faults.wire import HEADER_BYTES, awaits_reply, is_command, read_header

READ_AHEAD_BYTES: Final = 1024 * 1024

Direction = Literal["request", "reply"]


class End:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def read(self) -> bytes | None:
        """Return the next message; None when none comes any more."""
        try:
            header = await self._reader.readexactly(HEADER_BYTES)
            return header + await self._reader.readexactly(read_header(header).length - HEADER_BYTES)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def write(self, message: bytes) -> None:
        self.writer.write(message)
        with suppress(OSError):  # it is gone, as who reads from it finds too
            await self.writer.drain()


class Connection:
    """A client's connection and the one behind it."""

    def __init__(self, client: End) -> None:
        self.lost_something = False
        self.client = self.server = client
        self._requests: dict[int, bytes] = {}  # by id, as long as they have no reply

    async def open(self, target: str) -> bool:
        """Connect to the server; tell whether that went well and the client is still there."""
        host, _, port = target.rpartition(":")
        try:
            self.server = End(*await asyncio.open_connection(host, int(port), limit=READ_AHEAD_BYTES))
        except OSError:
            return False
        return not self.client.writer.is_closing()

    def find_request(self, when: Direction, message: bytes) -> bytes | None:
        """Return the command that a message is, or answers; None if there is none."""
        header = read_header(message)
        if when == "reply":
            return self._requests.pop(header.response_to, None)
        if not is_command(message):
            return None
        if awaits_reply(message):
            self._requests[header.request_id] = message
        return message

    def close(self) -> None:
        for end in (self.client, self.server):
            end.writer.close()

    def abort(self) -> None:
        for end in (self.client, self.server):
            end.writer.transport.abort()
