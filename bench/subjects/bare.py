"""The floors: what aiohttp itself costs, with the hub's server options and nothing of the hub.

``ack`` reads the body and answers 200. ``relay`` posts the body to a model and then to Graph over one session before
it answers: the two calls that an answered message cannot do without.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

from bench.plan import GRAPH_VERSION
from bench.webhooks import PATH, phone_number_id
from whatsapp_hub.server import listen, make_runner
from whatsapp_hub.settings import Settings

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
_URLS: Final = web.AppKey("urls", list[str])
_HEADERS: Final = {"Content-Type": "application/json", "Authorization": "Bearer EAAbench0123456789"}


async def acknowledge(request: web.Request) -> web.Response:
    """Read the body and answer."""
    await request.read()
    return web.Response()


async def relay(request: web.Request) -> web.Response:
    """Read the body, make the two calls with it, and answer."""
    body = await request.read()
    for url in request.app[_URLS]:
        async with request.app[_SESSION].post(url, data=body, headers=_HEADERS) as response:
            await response.read()
    return web.Response()


async def _session_context(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=1000)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        app[_SESSION] = session
        yield


def make_app(kind: str, upstream: str) -> web.Application:
    """Build one of the two."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_URLS] = [f"{upstream}/v1/chat/completions", f"{upstream}/{GRAPH_VERSION}/{phone_number_id(0)}/messages"]
    app.cleanup_ctx.append(_session_context)
    app.router.add_post(PATH, relay if kind == "relay" else acknowledge)
    return app


async def _serve(kind: str, upstream: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = make_runner(make_app(kind, upstream))
    await runner.setup()
    print(await listen(runner, Settings.isolated(host="127.0.0.1", port=0)), flush=True)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Serve until SIGTERM; tell the address once there is one."""
    core = int(sys.argv[1])
    os.sched_setaffinity(0, {core})
    options = orjson.loads(sys.stdin.buffer.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options["kind"], options["upstream"]))


if __name__ == "__main__":
    main()
