"""Clients of a hub that mean harm or are merely slow, each from an address of its own on loopback."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final

HOST: Final = "127.0.0.1"
PATH: Final = "/whatsapp_response"
PROBE_EVERY_S: Final = 0.02


def head(*headers: str, method: str = "POST", path: str = PATH) -> bytes:
    """Return the beginning of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: hub", *headers, "", ""]).encode()


def name_address(index: int, network: int) -> str:
    """Return one of the many addresses of this machine: loopback is a whole network."""
    return f"127.{network}.{index // 250 % 250}.{index % 250 + 1}"


class SlowClient(asyncio.Protocol):
    """Says something, then nothing or a byte now and then, until it is hung up on."""

    def __init__(self, opening: bytes, drip_every_s: float | None = None) -> None:
        self.received = b""
        self.answered_after_s: float | None = None
        self.closed_after_s: float | None = None
        self._opening = opening
        self._drip_every_s = drip_every_s
        self._began_at = time.monotonic()
        self._transport: asyncio.Transport | None = None

    @property
    def status(self) -> int:
        """What it was answered with; 0 for nothing."""
        return int(self.received.split(maxsplit=2)[1]) if self.received else 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._opening)
        self._drip_later(transport)

    def data_received(self, data: bytes) -> None:
        if not self.received:
            self.answered_after_s = time.monotonic() - self._began_at
        self.received += data

    def connection_lost(self, _: Exception | None) -> None:
        self.closed_after_s = time.monotonic() - self._began_at

    def hang_up(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _drip_later(self, transport: asyncio.Transport) -> None:
        if self._drip_every_s is not None and not transport.is_closing():
            asyncio.get_running_loop().call_later(self._drip_every_s, self._drip, transport)

    def _drip(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.write(b"x")
        self._drip_later(transport)


async def open_slow(
    port: int,
    addresses: Sequence[str],
    opening: bytes,
    *,
    drip_every_s: float | None = None,
    tls: ssl.SSLContext | None = None,
) -> list[SlowClient]:
    """Open a slow connection from each address."""
    loop = asyncio.get_running_loop()
    clients = []
    for address in addresses:
        _, client = await loop.create_connection(
            lambda: SlowClient(opening, drip_every_s), HOST, port, local_addr=(address, 0), ssl=tls
        )
        clients.append(client)
    return clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What is sent on one connection, and how many answers it gets; 0: the client leaves before."""

    data: bytes
    answers: int = 1

    async def strike(self, port: int, address: str) -> list[int]:
        """Send it, and return the statuses of the answers. Raises ``OSError`` where there are too few."""
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
        try:
            writer.write(self.data)
            if not self.answers:
                await writer.drain()
            return [await read_status(reader) for _ in range(self.answers)]
        finally:
            writer.transport.abort()


async def read_status(reader: asyncio.StreamReader) -> int:
    """Read one answer, and return its status."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("closed before the answer was complete") from None
    return int(lines[0].split()[1])


async def strike_for(port: int, attacks: Sequence[Attack], for_s: float, *, at_once: int, network: int) -> Counter[int]:
    """Make attacks of all kinds, over and over, each from another address; return the statuses."""
    statuses: Counter[int] = Counter()
    ends_at = time.monotonic() + for_s
    numbered = enumerate(cycle(attacks))

    async def work() -> None:
        while time.monotonic() < ends_at:
            index, attack = next(numbered)
            statuses.update(await attack.strike(port, name_address(index, network)))

    async with asyncio.timeout(for_s + 20), asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(work())
    return statuses


async def flood(port: int, requests: Sequence[bytes], *, rate_per_s: float, for_s: float, network: int) -> Counter[int]:
    """Send these requests again and again on a few connections that stay open; return the statuses."""
    statuses: Counter[int] = Counter()
    connections = 40
    ends_at = time.monotonic() + for_s

    async def work(address: str) -> None:
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
        due = time.monotonic()
        for request in cycle(requests):
            if (due := due + connections / rate_per_s) > ends_at:
                break
            await asyncio.sleep(max(due - time.monotonic(), 0))
            writer.write(request)
            statuses[await read_status(reader)] += 1
        writer.close()

    async with asyncio.timeout(2 * for_s + 20), asyncio.TaskGroup() as workers:
        for index in range(connections):
            workers.create_task(work(name_address(index, network)))
    return statuses


@contextmanager
def probing(port: int) -> Iterator[list[float]]:
    """Ask for ``/health`` again and again; yield how long each answer took. A thread, so only the hub's loop counts."""
    waits: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        while not stop.wait(PROBE_EVERY_S):
            began_at = time.monotonic()
            connection.request("GET", "/health")
            connection.getresponse().read()
            waits.append(time.monotonic() - began_at)
        connection.close()

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()
