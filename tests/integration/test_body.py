"""Reading a body that nobody has verified yet, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from whatsapp_hub.http import keys
from whatsapp_hub.http.body import BodyReader, Refused

MIB = 1024 * 1024
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def serving(
    bodies: BodyReader, *, limit: int | None = None, fault: Exception | None = None
) -> AsyncIterator[Connect]:
    """Serve an application that answers with the length of what it read."""

    async def measure(request: web.Request) -> web.Response:
        if limit is not None:
            request[keys.MAX_BODY_BYTES] = limit
        if fault is not None:
            request.content.set_exception(fault)
        try:
            return web.Response(text=str(len(await bodies.read(request))))
        except Refused as refused:
            return refused.answer()

    app = web.Application()
    app.router.add_post("/", measure)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, lingering_time=0.1, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        await runner.cleanup()


def head(*headers: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: hub", *headers, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        status_line = await reader.readline()
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return int(status_line.split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 4 * MIB])
async def test_a_body_of_any_accepted_size_is_read(size: int) -> None:
    async with serving(BodyReader(timeout_s=5)) as connect:
        reader, writer = await connect()
        writer.write(head(f"Content-Length: {size}") + b"x" * size)

        assert await answer(reader) == (200, str(size).encode())


async def test_a_body_in_pieces_is_read() -> None:
    async with serving(BodyReader(timeout_s=5)) as connect:
        reader, writer = await connect()
        writer.write(head("Content-Length: 9"))
        for _ in range(3):
            await asyncio.sleep(0.01)
            writer.write(b"abc")

        assert await answer(reader) == (200, b"9")


async def test_a_chunked_body_is_read() -> None:
    async with serving(BodyReader(timeout_s=5)) as connect:
        reader, writer = await connect()
        writer.write(head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        await asyncio.sleep(0.01)
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

        assert await answer(reader) == (200, b"5")


@pytest.mark.parametrize("headers", [["Content-Length: 4194305"], ["Transfer-Encoding: chunked"]])
async def test_a_body_that_is_too_large_is_refused(headers: list[str]) -> None:
    async with serving(BodyReader(timeout_s=5)) as connect:
        reader, writer = await connect()
        writer.write(head(*headers))
        if "chunked" in headers[0]:
            writer.write(b"400001\r\n" + b"x" * (4 * MIB + 1) + b"\r\n0\r\n\r\n")

        assert (await answer(reader))[0] == 413
        assert await reader.read() == b""  # the connection is of no more use


async def test_a_lower_limit_counts_for_a_body_of_unknown_length() -> None:
    async with serving(BodyReader(timeout_s=5), limit=4) as connect:
        reader, writer = await connect()
        writer.write(head("Transfer-Encoding: chunked") + b"5\r\nabcde\r\n0\r\n\r\n")

        assert (await answer(reader))[0] == 413


async def test_a_body_that_drips_is_given_up() -> None:
    async with serving(BodyReader(timeout_s=0.05)) as connect:
        reader, writer = await connect()
        writer.write(head("Content-Length: 1000") + b"abc")

        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""


async def test_a_body_that_the_parser_gave_up_is_refused() -> None:
    async with serving(BodyReader(timeout_s=5), fault=web.RequestPayloadError("broken")) as connect:
        reader, writer = await connect()
        writer.write(head("Content-Length: 3") + b"abc")

        assert (await answer(reader))[0] == 400


async def test_a_fault_of_our_own_is_not_taken_for_a_client_that_left() -> None:
    async with serving(BodyReader(timeout_s=5), fault=RuntimeError("ours")) as connect:
        reader, writer = await connect()
        writer.write(head("Content-Length: 3") + b"abc")

        assert (await answer(reader))[0] == 500


async def test_bodies_that_are_not_verified_share_a_budget() -> None:
    async with serving(BodyReader(timeout_s=5, max_unverified_bytes=1000)) as connect:
        first, first_writer = await connect()
        first_writer.write(head("Content-Length: 900") + b"x" * 800)
        await asyncio.sleep(0.02)
        second, second_writer = await connect()
        second_writer.write(head("Content-Length: 300"))
        assert (await answer(second))[0] == 503

        third, third_writer = await connect()
        third_writer.write(head("Content-Length: 300") + b"x" * 300)
        assert await answer(third) == (200, b"300")  # what arrives at once takes no room

        first_writer.write(b"x" * 100)
        assert await answer(first) == (200, b"900")
        fourth, fourth_writer = await connect()
        fourth_writer.write(head("Content-Length: 300"))
        await asyncio.sleep(0.02)
        fourth_writer.write(b"x" * 300)
        assert await answer(fourth) == (200, b"300")  # the first one's room is free again


async def test_bodies_that_grow_together_cannot_exceed_the_budget() -> None:
    async with serving(BodyReader(timeout_s=5, max_unverified_bytes=1000)) as connect:
        connections = [await connect() for _ in range(3)]
        for _, writer in connections:
            writer.write(head("Content-Length: 900"))
        await asyncio.sleep(0.02)
        for _, writer in connections:
            writer.write(b"x" * 400)
        await asyncio.sleep(0.02)
        for _, writer in connections:
            writer.write(b"x" * 500)

        statuses = [(await answer(reader))[0] for reader, _ in connections]

        assert max(statuses) == 503
        assert 200 in statuses


async def test_a_stated_length_alone_takes_no_room() -> None:
    async with serving(BodyReader(timeout_s=5, max_unverified_bytes=1000)) as connect:
        for _ in range(5):
            _, idle = await connect()
            idle.write(head("Content-Length: 900"))
        await asyncio.sleep(0.02)
        reader, writer = await connect()
        writer.write(head("Content-Length: 900"))
        await asyncio.sleep(0.01)
        writer.write(b"x" * 900)

        assert await answer(reader) == (200, b"900")


async def test_a_client_that_leaves_gives_its_room_back() -> None:
    bodies = BodyReader(timeout_s=5, max_unverified_bytes=1000)
    async with serving(bodies) as connect:
        for _ in range(5):
            _, leaver = await connect()
            leaver.write(head("Content-Length: 900") + b"x" * 800)
            await asyncio.sleep(0.01)
            leaver.close()
            await asyncio.sleep(0.01)
        reader, writer = await connect()
        writer.write(head("Content-Length: 900"))
        await asyncio.sleep(0.01)
        writer.write(b"x" * 900)

        assert await answer(reader) == (200, b"900")
