"""The server around the application: what is not even HTTP, and the options that aiohttp would drop in silence."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from whatsapp_hub.server import KEEPALIVE_TIMEOUT_S, make_runner


async def test_malformed_http_is_one_short_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
            writer.write(b"GET / HTTP/1.1\r\nbroken header with +491700000001\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()
    await runner.cleanup()
    assert [record.getMessage() for record in caplog.records] == ["malformed HTTP refused"]
    assert not caplog.records[0].exc_info
    assert "4917" not in caplog.text


async def test_server_options_reach_the_connections() -> None:
    """One that is misspelt would drop all of them."""
    seen: list[Any] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request.protocol)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", look)
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await reader.readline()
    writer.close()
    await runner.cleanup()
    assert seen[0]._keepalive_timeout == KEEPALIVE_TIMEOUT_S
