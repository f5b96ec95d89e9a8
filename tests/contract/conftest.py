"""What stands around a hub whose contract is tested: a server that notes what is asked of it, a database that fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pymongo import MongoClient

from tests.hub import until
from whatsapp_hub.database import Database, connect

#: Right as an answer of Graph and of a language model alike.
ANSWER = {
    "messages": [{"id": "wamid.recorded"}],
    "choices": [{"message": {"role": "assistant", "content": "recorded"}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 10},
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that arrived."""

    path: str
    authorization: str | None
    body: Any


@dataclass(kw_only=True)
class Recorder:
    """Stands for Graph or for a model where the request itself is what counts."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most_running: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            authorization = request.headers.get("Authorization")
            body = orjson.loads(await request.read())
            self.asked.append(Asked(path=request.path, authorization=authorization, body=body))
            await self.may_answer.wait()
            return web.json_response(ANSWER)
        finally:
            self.running -= 1

    async def hold(self, count: int) -> None:
        """Wait until so many requests are under way; then answer all of them, and whatever comes later."""

        async def are_under_way() -> bool:
            return self.running >= count

        await until(are_under_way)
        self.may_answer.set()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """A server that says yes to everything and remembers it, at once unless ``may_answer`` is cleared."""
    recorder = Recorder()
    recorder.may_answer.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", recorder.answer)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    recorder.url = str(server.make_url("/")).rstrip("/")
    yield recorder
    recorder.may_answer.set()
    await server.close()


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    """Names to use one after the other: whatever lands late in a database finds no test that still uses it."""
    return itertools.cycle([f"hub-contract-{number}" for number in range(8)])


@pytest.fixture
async def database(mongodb_uri: str, database_names: Iterator[str]) -> AsyncIterator[Database]:
    """An empty database that has its indexes already: making them takes ten times as long as to start a hub."""
    async with connect(mongodb_uri, next(database_names), max_pool_size=20, min_pool_size=0) as database:
        everything = (database.businesses, database.inbox, database.conversations, database.nodes, database.events)
        for collection in everything:
            await collection.delete_many({})
        yield database


Failing = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def failing(mongodb_uri: str) -> Iterator[Failing]:
    """Have the database refuse a hub's commands of these names for a while."""
    with MongoClient[dict[str, Any]](mongodb_uri, appname="contract") as client:

        def configure(mode: str, commands: tuple[str, ...]) -> None:
            data = {"failCommands": list(commands), "errorCode": 50, "appName": "whatsapp-hub"}
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

        @contextmanager
        def fail(*commands: str) -> Iterator[None]:
            configure("alwaysOn", commands)
            try:
                yield
            finally:
                configure("off", commands)

        yield fail
