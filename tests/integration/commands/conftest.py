"""The command line in the tests' process, on the test's database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from tests.hub import ENCRYPTION_SECRET
from whatsapp_hub.cli import hub
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import GraphStandIn, open_server

CommandLine = Callable[..., Awaitable[Result]]


@pytest.fixture
def command_line(database: Database, mongodb_uri: str, graph: GraphServer) -> CommandLine:
    """Run a command; keyword arguments in capitals are environment variables, ``stdin`` is what is piped in."""
    given = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": database.inbox.database.name,
        "ENCRYPTION_SECRET": ENCRYPTION_SECRET,
        "GRAPH_API_BASE_URL": graph.url,
    }

    async def run(*arguments: str, stdin: str = "", **env: str | None) -> Result:
        # In a thread of its own, because commands bring their own event loop.
        result = await asyncio.to_thread(CliRunner().invoke, hub, arguments, input=stdin, env={**given, **env})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


class NumbersCounted(GraphStandIn):
    """The stand-in, which counts how many ask about numbers at once."""

    number_delay_s = 0.0
    most_numbers_at_once = 0
    _numbers_now = 0

    async def _number(self, request: web.Request) -> web.StreamResponse:
        self._numbers_now += 1
        self.most_numbers_at_once = max(self.most_numbers_at_once, self._numbers_now)
        try:
            await asyncio.sleep(self.number_delay_s)
            return await super()._number(request)
        finally:
            self._numbers_now -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphServer:
    """A stand-in for Graph, and where it listens."""

    url: str
    stand_in: NumbersCounted


@pytest.fixture
async def graph() -> AsyncIterator[GraphServer]:
    """Graph, which takes every token unless it is told otherwise."""
    stand_in = NumbersCounted()
    async with open_server(stand_in.make_app()) as url:
        yield GraphServer(url=url, stand_in=stand_in)
