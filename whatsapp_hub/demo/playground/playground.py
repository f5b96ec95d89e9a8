"""The playground: customers, switches and a page beside the demo, and what the demo needs for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from socket import socket
from typing import Any, Final

import orjson
import pymongo
from aiohttp import web

from whatsapp_hub.cloud_api.outgoing import read_callback_data
from whatsapp_hub.database import DatabaseError
from whatsapp_hub.demo.graph import Typing
from whatsapp_hub.demo.playground.board import Board
from whatsapp_hub.demo.playground.customers import CROWD, Customers
from whatsapp_hub.demo.playground.records import FIELDS, Message, Reply
from whatsapp_hub.demo.playground.script import answer
from whatsapp_hub.demo.playground.switches import Graph, Kill, Switches
from whatsapp_hub.demo.running import Demo
from whatsapp_hub.demo.sample_assistant import NAME, TARGET, URL_VARIABLE
from whatsapp_hub.demo.samples import SAMPLES
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.inbox.dead import DeadLetters

LOOK_EVERY_S: Final = 0.15
LOOK_TIMEOUT_S: Final = 1.0
MOST_LOOKED_AT: Final = 500
_PATH: Final = "/sample-assistant"
_CHATS: Final = {(sample.phone_number_id, sample.customer): sample.sub_domain for sample in SAMPLES}


class Playground:
    """Everything behind the page. It exists before the demo, which it adds to, and runs while that does."""

    def __init__(self, listener: socket, database_pid: int | None) -> None:
        """Take the socket that the page will be served at, and the process of a database that may be stopped."""
        host, port = listener.getsockname()[:2]
        self.listener = listener
        self.page = f"http://{host}:{port}/"
        self.board = Board()
        self._database_pid = database_pid
        self._rng = Random()  # noqa: S311 - how long somebody thinks
        self._tasks: set[asyncio.Task[None]] = set()

    def add_routes(self, app: web.Application) -> None:
        """Add what the assistant asks to the stand-in for Graph."""
        app.router.add_post(_PATH, self._answer)

    def adapt(self, stand_in: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Return more settings, and the assistant's environment, from the address of the stand-in."""
        settings = {
            "assistant": NAME,
            "assistants": {NAME: TARGET},
            "ai_base_url": f"{stand_in}/v1",
            "rate_limit_customer": "",
        }
        return settings, {URL_VARIABLE: f"{stand_in}{_PATH}"}

    @asynccontextmanager
    async def running(self, demo: Demo) -> AsyncIterator[None]:
        """Watch the demo until the context ends."""
        self.demo = demo
        self.switches = Switches(demo.graph, demo.hub, self._database_pid)
        self.customers = Customers(
            self.board, demo.graph, url=f"{demo.address}/whatsapp_response", app_secret=demo.app_secret
        )
        self.board.facts = self._tell
        demo.graph.log.on_add = self._see_send
        demo.graph.on_typing = self._see_typing
        demo.graph.statuses.on_taken = self._see_status
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(w) for w in (self.customers.run(), self._watch(), self.board.keep_telling())]
            try:
                yield
            finally:
                for task in (*tasks, *self._tasks):
                    task.cancel()

    async def set_graph(self, wanted: Graph) -> None:
        """Change how Graph answers. Raises ``DatabaseError``: the businesses did not get the tokens that they need."""
        if self.switches.graph is Graph.REFUSES_TOKENS:
            with pymongo.timeout(LOOK_TIMEOUT_S):
                await self.demo.renew_tokens(self.switches.renew_tokens())
        self.switches.set_graph(wanted)

    def kill(self, when: Kill) -> None:
        """Kill the hub's process."""
        self.switches.kill(when)

    def pause_database(self) -> None:
        """Have the database say nothing for a while."""
        task = asyncio.create_task(self.switches.pause_database())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def retry(self, key: str) -> bool:
        """Send a dead letter once more; False if there is none."""
        return await DeadLetters(self.demo.database).retry(key)

    def _tell(self) -> Mapping[str, Any]:
        hub = self.demo.hub
        return {
            "hub": {"ready": hub.is_ready, "pid": hub.pid, "deaths": hub.deaths},
            "switches": self.switches.tell(),
            "console": f"{self.demo.address}/console",
        }

    async def _answer(self, request: web.Request) -> web.Response:
        """Be the assistant."""
        turn = orjson.loads(await request.read())
        in_crowd = turn["customer"]["id"] in CROWD
        await asyncio.sleep(self.switches.thinking_s(self._rng, in_crowd=in_crowd))
        replies = answer(turn["messages"])
        return web.Response(body=orjson.dumps({"replies": replies}), content_type="application/json")

    async def _watch(self) -> None:
        """Look into the database for what is under way, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if messages := self.board.unsettled()[:MOST_LOOKED_AT]:
                try:
                    await self._look(messages)
                except DatabaseError:
                    continue  # it is away: nothing new is known

    async def _look(self, messages: list[Message]) -> None:
        began = time.time()
        wanted = {"_id": {"$in": [message.key for message in messages]}}
        with pymongo.timeout(LOOK_TIMEOUT_S):
            found = {row["_id"]: row async for row in self.demo.database.inbox.find(wanted, FIELDS)}
        for message in messages:
            message.looked_at = began
            document = found.get(message.key, {})
            if document != message.document:
                message.document = document
                self.board.touch(message)

    def _see_send(self, send: Send) -> None:
        self.switches.look_at(send)
        known = read_callback_data(send.callback)
        if send.accepted and send.wamid:
            self.board.add_reply(
                Reply(
                    id=send.wamid,
                    turn=f"{send.phone_number_id}:{known.message_id if known else ''}",
                    part=known.part if known else 0,
                    chat=_CHATS.get((send.phone_number_id, send.customer)),
                    text=send.words,
                    buttons=_read_buttons(send),
                    at=send.time,
                )
            )

    def _see_typing(self, typing: Typing) -> None:
        if message := self.board.messages.get(f"{typing.phone_number_id}:{typing.message_id}"):
            message.marked_read = True
            self.board.touch(message)

    def _see_status(self, send: Send, name: str) -> None:
        if reply := self.board.replies.get(send.wamid or ""):
            reply.statuses.setdefault(name, time.time())
            self.board.touch_reply(reply)


def _read_buttons(send: Send) -> tuple[tuple[str, str], ...]:
    """Return the ids and the titles of a send's buttons."""
    match send.body:
        case {"interactive": {"action": {"buttons": [*buttons]}}}:
            return tuple((button["reply"]["id"], button["reply"]["title"]) for button in buttons)
    return ()
