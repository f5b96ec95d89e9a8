"""A proxy that understands nothing of what passes: it delays it, and counts who is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

HOST: Final = "127.0.0.1"


class TcpProxy:
    """The proxy, as ``open_tcp_proxy`` opens it."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.latency_s = 0.0  #: each way
        self.most = 0  #: connections at the same time, at most
        self._target_port = target_port
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what passes on one connection, until one side closes it."""
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            with suppress(OSError):
                await self._carry_both(reader, writer)
        finally:
            self._open -= 1
            writer.close()

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._target_port)
        ways = [asyncio.create_task(self._carry(*way)) for way in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await asyncio.sleep(self.latency_s)
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def open_tcp_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy in front of a port of this machine; its connections end with it."""
    proxy = TcpProxy(target_port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, HOST, 0, backlog=1024)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        running = tuple(tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
