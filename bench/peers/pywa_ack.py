"""pywa, the leading Python client, on FastAPI and uvicorn, as its README sets it up: what one webhook costs it.

It checks the signature and calls a handler, which does nothing. It stores nothing: what it has taken dies with it.
"""

from __future__ import annotations

import os
import sys

import orjson
from fastapi import FastAPI
from pywa_async import WhatsApp  # type: ignore[attr-defined]  # it lists no exports
from pywa_async.types import Message  # type: ignore[attr-defined]

from bench.peers.guide import serve
from bench.plan import APP_SECRET
from bench.webhooks import PATH


def make_app() -> FastAPI:
    """Build the application."""
    app = FastAPI()
    client = WhatsApp(
        phone_id=None,
        token="EAAbench0123456789",
        server=app,
        webhook_endpoint=PATH,
        verify_token="bench",
        app_secret=APP_SECRET,
        filter_updates=False,
    )

    @client.on_message()  # type: ignore[misc]
    async def take(_: WhatsApp, __: Message) -> None:
        """Take a message."""

    return app


def main() -> None:
    """Serve until SIGTERM."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    orjson.loads(sys.stdin.buffer.readline())
    serve(make_app())


if __name__ == "__main__":
    main()
