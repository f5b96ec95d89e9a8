"""A whole world in which things can be made to go wrong: real hubs, real databases, and what stands in for the rest."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from tests.faults.checker import check
from tests.faults.driver import MAX_CONNECTIONS, PATH, WORD, Driver
from tests.faults.history import History, RankSeen, Sending
from tests.faults.hubs import HOST, HubProcess
from tests.faults.nginx import open_nginx
from tests.faults.proxy import DatabaseProxy, open_proxy
from tests.faults.servers import Servers, open_servers
from tests.hub import ENCRYPTION_SECRET, SECRET, VERIFY_TOKEN, business, until
from tests.leaks import LEAKS
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.database_server import DatabaseServer
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.demo.statuses import WebhookTarget

NUMBERS: Final = ("101", "102", "103")
DATABASE: Final = "hub"
AI_KEY: Final = LEAKS.seed("sk-laboratory")

#: The protocol's times, shrunk as far as two cores allow that several processes share.
TIMING: Final[Mapping[str, float]] = {
    "heartbeat_s": 0.5,
    "lease_s": 2.5,
    "round_s": 0.25,
    "self_fence_s": 1.5,
    "status_wait_s": 8.0,
    "held_recheck_s": 0.5,
}
SAMPLE_EVERY_S: Final = 0.5
SAMPLED: Final = 200  # messages of late whose ranks are looked at
QUIET_S: Final = 0.3  # longer than the stand-in ever takes to accept a message


@dataclass(slots=True, kw_only=True, eq=False)
class World:
    """What runs, and how to make it fail."""

    graph: GraphStandIn
    graph_url: str
    database: Database  #: past the proxy
    databases: Servers
    proxy: DatabaseProxy | None
    hubs: list[HubProcess]
    nginx: str | None  #: its address
    driver: Driver
    folder: Path  #: where the logs are
    timing: Mapping[str, float]
    keeps_logs: bool = False  #: even if nothing goes wrong from now on
    new_hub: Callable[[Mapping[str, str], Sequence[str]], HubProcess] = field(repr=False)
    ranks: list[RankSeen] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return self.nginx or self.hubs[0].url

    async def start(self) -> None:
        """Start all hubs and wait until they are ready."""
        for hub in self.hubs:
            hub.start()
        for hub in self.hubs:
            await hub.ready()

    async def start_hub(self, environment: Mapping[str, str] = {}, prefix: Sequence[str] = ()) -> HubProcess:
        """Start one more hub, with settings of its own, and wait until it is ready. Nginx does not know it."""
        hub = self.new_hub(environment, prefix)
        self.hubs.append(hub)
        self.driver.urls = [self.nginx] if self.nginx else [hub.url for hub in self.hubs]
        hub.start()
        await hub.ready()
        return hub

    @property
    def servers(self) -> tuple[DatabaseServer, ...]:
        """The database servers."""
        return self.databases.all

    async def start_server(self, index: int = 0) -> None:
        """Start a database server again, on its data."""
        await self.databases.start(index)

    async def kill_server(self, index: int = 0) -> None:
        """End a database server at once."""
        await self.databases.kill(index)

    def pause_server(self, index: int = 0) -> None:
        """Put a database server to sleep."""
        self.databases.pause(index)

    def resume_server(self, index: int = 0) -> None:
        """Wake it. Nothing happens if it is awake or was killed meanwhile."""
        self.databases.resume(index)

    async def primary(self) -> int:
        """Wait until the set has a primary that answers, and return its index."""
        return await self.databases.primary()

    async def at_rest(self, timeout_s: float = 30.0) -> None:
        """Wait until every message is settled and nothing more is sent. Raises ``TimeoutError``."""
        count, since = -1, 0.0

        async def is_at_rest() -> bool:
            nonlocal count, since
            try:
                is_open = await self.database.inbox.find_one({"owner": {"$exists": True}}, {"_id": 1})
            except PyMongoError:
                return False
            if is_open or count != len(self.graph.log.sends):
                count, since = len(self.graph.log.sends), time.monotonic()
            return time.monotonic() - since > QUIET_S

        await until(is_at_rest, timeout_s)

    async def history(self) -> History:
        """Return all that was seen."""
        messages = self.driver.messages
        rows = await self.database.inbox.find({}).to_list(None)
        self._see_ranks(rows)
        pauses = [pause for hub in self.hubs for pause in hub.pauses]
        long = self.timing["self_fence_s"]
        return History(
            messages=messages,
            sendings=[_sending(send, self.graph.clock_offset_s) for send in self.graph.log.sends],
            rows=rows,
            ranks=tuple(self.ranks),
            texts=[text async for text in self._texts()],
            secrets=frozenset({SECRET, ENCRYPTION_SECRET, VERIFY_TOKEN, AI_KEY, WORD})
            | {f"token-{message.number}" for message in messages}
            | {message.customer for message in messages},
            pauses=pauses,
            fallback_texts=frozenset({FALLBACK_TEXT}),
            allowed_copies=sum(pause.ended_at - pause.began_at > long for pause in pauses),
        )

    async def history_at_rest(self, timeout_s: float) -> History:
        """Wait until it is at rest, though not for long, and return all that was seen."""
        with suppress(TimeoutError):  # the rows say so
            await self.at_rest(timeout_s)
        return await self.history()

    async def assert_holds(self, *, timeout_s: float = 30.0, **changes: Any) -> None:
        """Wait until it is at rest, and check everything; ``changes`` are made to the history before."""
        violations = check(replace(await self.history_at_rest(timeout_s), **changes))
        assert not violations, "\n".join([f"see {self.folder}", *violations])

    async def watch_ranks(self) -> None:
        """Look at the parts of the messages of late again and again, until cancelled."""
        # What a minority holds may be rolled back.
        settled = self.database.inbox.with_options(read_concern=ReadConcern("majority"))
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            keys = [message.key for message in self.driver.recent(SAMPLED)]
            try:
                rows = await settled.find({"_id": {"$in": keys}}, {"parts": 1}).to_list(None)
            except PyMongoError:
                continue
            self._see_ranks(rows)

    def _see_ranks(self, rows: Sequence[Mapping[str, Any]]) -> None:
        now = time.monotonic()
        for row in rows:
            for index, part in enumerate(row.get("parts", ())):
                self.ranks.append(
                    RankSeen(row_id=row["_id"], part=index, attempt=part["attempt"], rank=part["rank"], at=now)
                )

    async def _texts(self) -> AsyncIterator[tuple[str, str]]:
        for hub in self.hubs:
            if hub.log_path.exists():
                yield hub.log_path.name, hub.log_path.read_text(errors="replace")
            if hub.alive and not hub.paused:
                yield f"metrics of {hub.name}", (await hub.get("/prometheus/metrics"))[1]
        bodies = {delivery.body for message in self.driver.messages for delivery in message.deliveries}
        for body in bodies:
            yield "answer to a webhook", body


@asynccontextmanager
async def open_world(
    *,
    hubs: int = 1,
    servers: int = 1,
    nginx: bool = False,
    proxy: bool = False,
    environment: Mapping[str, str] = {},
    timing: Mapping[str, float] = {},
    assistant: str = "openai",
    numbers: Sequence[str] = NUMBERS,
    start: bool = True,
    log_level: str = "INFO",
    prefix: Sequence[str] = (),
    database_folder: Path | None = None,
    graph_host: str = HOST,
) -> AsyncIterator[World]:
    """Open a world; everything in it ends with it. The logs are kept if something went wrong.

    ``environment`` and ``timing`` (by name, in seconds) change the hubs' settings; each of ``numbers`` has a business;
    without ``start`` the hubs are there but do not run. ``prefix`` is the command behind which they are executed, and
    ``graph_host`` the name under which they look for Graph.
    """
    folder = Path(tempfile.mkdtemp(prefix="hub-world-"))
    chosen = {**TIMING, **timing}
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(_open_client())
            databases = await stack.enter_async_context(open_servers(servers, database_folder))
            database = await stack.enter_async_context(connect(databases.uri, DATABASE, min_pool_size=0))
            await database.businesses.insert_many([business(number) for number in numbers])
            door = await stack.enter_async_context(open_proxy(databases.all[0].address)) if proxy else None
            graph = GraphStandIn()
            graph.model.template = "{turn}"
            graph_url = await stack.enter_async_context(open_server(graph.make_app()))
            settings = {
                **_settings(door.uri if door else databases.uri, graph_url, assistant, log_level),
                "GRAPH_API_BASE_URL": graph_url.replace(HOST, graph_host),
                **{f"TIMING__{name.upper()}": str(value) for name, value in chosen.items()},
                **environment,
            }
            processes: list[HubProcess] = []
            stack.callback(_kill_all, processes)

            def new_hub(own: Mapping[str, str], prefix: Sequence[str]) -> HubProcess:
                name = f"hub{len(processes)}"
                return HubProcess(name, {**settings, **own}, folder=folder, client=client, prefix=prefix)

            while len(processes) < hubs:
                processes.append(new_hub({}, prefix))
            front = None
            if nginx:
                front = await stack.enter_async_context(open_nginx([hub.port for hub in processes], folder))
            world = World(
                graph=graph,
                graph_url=graph_url,
                database=database,
                databases=databases,
                proxy=door,
                hubs=processes,
                nginx=front,
                driver=Driver(client, [front] if front else [hub.url for hub in processes]),
                folder=folder,
                timing=chosen,
                new_hub=new_hub,
            )
            graph.statuses.target = WebhookTarget(url=world.url + PATH, secret=SECRET.encode())
            if start:
                await world.start()
            await stack.enter_async_context(_in_background(world.watch_ranks()))
            yield world
            keeps_logs = world.keeps_logs
    except BaseException as error:
        error.add_note(f"logs: {folder}")
        raise
    finally:
        LEAKS.read_folder(folder)
    if not keeps_logs:
        shutil.rmtree(folder)


def _open_client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS))


def _settings(mongodb_uri: str, graph_url: str, assistant: str, log_level: str) -> dict[str, str]:
    return {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": DATABASE,
        "MONGODB_MIN_POOL_SIZE": "0",
        "ENCRYPTION_SECRET": ENCRYPTION_SECRET,
        "WHATSAPP_APP_SECRET": SECRET,
        "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
        "ASSISTANT": assistant,
        "AI_BASE_URL": f"{graph_url}/v1",
        "AI_API_KEY": AI_KEY,
        "AI_MODEL": "laboratory",
        "TYPING_INDICATOR": "false",
        "RATE_LIMIT_BUSINESS": "100000/second",
        "RATE_LIMIT_CUSTOMER": "",
        "RATE_LIMIT_HEALTH": "100000/minute",
        "RATE_LIMIT_METRICS": "100000/minute",
        "DRAIN_TIMEOUT_S": "5",
        "LOG_LEVEL": log_level,
    }


def _kill_all(hubs: Sequence[HubProcess]) -> None:
    for hub in hubs:
        hub.kill()


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done meanwhile; if it fails, so does what is inside."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


def _sending(send: Send, clock_offset_s: float) -> Sending:
    return Sending(
        number=send.phone_number_id,
        customer=send.customer,
        text=send.text,
        callback=send.callback,
        began_at=send.began - clock_offset_s,
        ended_at=send.time - clock_offset_s,
        accepted=send.accepted,
        wamid=send.wamid,
    )
