"""The end of the connections when the server stops: at a moment that suits their clients."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import hdrs, web

LEAVE_S: Final = 0.5
CHECK_S: Final = 0.01


class Leaving:
    """Says on each connection that the next answer is the last.

    A connection that is closed while a request is on its way loses that request, and over those that a proxy keeps
    open there is nearly always one. So each is listened to for a moment after the last one was taken.
    """

    def __init__(self, app: web.Application) -> None:
        """Look at the answers of an application, which has not started yet."""
        self._began = False
        app.on_response_prepare.append(self._look)

    async def take_leave(self, runner: web.AppRunner) -> None:
        """Take no more connections, and wait a moment for those that are there to end."""
        for site in list(runner.sites):
            await site.stop()
        self._began = True
        ends_at = time.monotonic() + LEAVE_S
        while runner.server and runner.server.connections and time.monotonic() < ends_at:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(CHECK_S)

    async def _look(self, _: web.Request, answer: web.StreamResponse) -> None:
        if self._began:
            answer.force_close()
            # The headers are made by now: without this the client is not told, and its next request is lost.
            answer.headers[hdrs.CONNECTION] = "close"
