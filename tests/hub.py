"""A whole hub over real HTTP: the application, a database, and the stand-in for Graph and for the language model.

A plugin, named in ``conftest.py``: every folder of tests has its fixtures, and may import its names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
import orjson
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.leaks import LEAKS
from whatsapp_hub.app import create_app
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.statuses import WebhookTarget
from whatsapp_hub.server import make_runner
from whatsapp_hub.settings import Settings, load_settings
from whatsapp_hub.tenants.vault import Vault

Found = TypeVar("Found")

SECRET = LEAKS.seed("the app's secret")
ENCRYPTION_SECRET = LEAKS.seed("what the dashboard encrypts with")
VERIFY_TOKEN = LEAKS.seed("verify me")
VAULT = Vault(ENCRYPTION_SECRET)

#: The protocol's times, shrunk; but a busy machine is not what is tested, so webhooks may take their time.
TIMING: Mapping[str, float] = {
    "heartbeat_s": 0.2,
    "lease_s": 1.6,
    "round_s": 0.05,
    "self_fence_s": 1.2,
    "ack_timeout_s": 8.0,
    "batch_interval_s": 0.002,
    "status_wait_s": 0.5,
    "held_recheck_s": 0.1,
    "promote_backoff_max_s": 0.1,
    "retry_base_s": 0.02,
    "retry_max_s": 0.2,
    "assistant_retry_base_s": 0.01,
    "media_retry_base_s": 0.01,
    "negative_cache_s": 0.1,
}


def business(number: str, **changes: Any) -> dict[str, Any]:
    """Return a business document as the dashboard writes it."""
    return {
        "name": f"Business {number}",
        "subDomain": f"b{number}",
        "wabaId": f"waba-{number}",
        "whatsappPhoneNumberIds": [number],
        "whatsappAccessToken": VAULT.encrypt(f"token-{number}"),
        "whatsappEnabled": True,
        "isActive": True,
        **changes,
    }


def text_message(text: str, *, wamid: str | None, sender: str = "491700000001", **changes: Any) -> dict[str, Any]:
    """Return one message as Meta writes it."""
    message = {"from": sender, "timestamp": str(int(time.time())), "type": "text", "text": {"body": text}, **changes}
    return message if wamid is None else {**message, "id": wamid}


def webhook_of(*messages: dict[str, Any], number: str, **value: Any) -> dict[str, Any]:
    """Return a webhook that carries messages to one number."""
    content: dict[str, Any] = {"metadata": {"phone_number_id": number}, **value}
    if messages:
        content["messages"] = list(messages)
    change = {"field": "messages", "value": content}
    return {"object": "whatsapp_business_account", "entry": [{"id": f"waba-{number}", "changes": [change]}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return orjson.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Hub:
    """A hub that runs, and everything around it."""

    url: str
    app: web.Application
    settings: Settings
    database: Database
    graph: GraphStandIn
    client: aiohttp.ClientSession
    stop: Callable[[], Coroutine[Any, Any, None]] = field(repr=False)

    async def post(
        self, payload: Mapping[str, Any] | bytes, *, path: str = "/whatsapp_response", secret: str | None = SECRET
    ) -> int:
        """Post a webhook, signed; return the status."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        headers = {} if secret is None else {"X-Hub-Signature-256": sign(body, secret.encode())}
        return (await self.exchange("POST", path, data=body, headers=headers)).status

    async def exchange(self, method: str, path: str, **options: Any) -> Answer:
        """Make any request; ``options`` go to aiohttp's client."""
        async with self.client.request(method, self.url + path, **options) as response:
            return Answer(status=response.status, headers=response.headers, body=await response.read())

    async def samples(self) -> list[Sample]:
        """Return every sample that Prometheus would see."""
        text = (await self.exchange("GET", "/prometheus/metrics")).body.decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    async def sample(self, name: str, **labels: str) -> float:
        """Return what the samples with these labels, and perhaps others, add up to."""
        wanted = labels.items()
        return sum(s.value for s in await self.samples() if s.name == name and wanted <= s.labels.items())

    async def say(self, number: str, text: str, wamid: str, sender: str = "491700000001") -> None:
        """Have a customer write something; it has to be accepted."""
        assert await self.post(webhook_of(text_message(text, wamid=wamid, sender=sender), number=number)) == 200

    async def row(self, number: str, wamid: str) -> dict[str, Any]:
        """Return the inbox document of a message."""
        found: dict[str, Any] | None = await self.database.inbox.find_one({"_id": f"{number}:{wamid}"})
        assert found is not None
        return found

    async def row_where(self, number: str, wamid: str, **wanted: Any) -> dict[str, Any]:
        """Wait until a message's document is there and has these values."""

        async def has() -> dict[str, Any] | None:
            row: dict[str, Any] | None = await self.database.inbox.find_one({"_id": f"{number}:{wamid}"})
            return row if row and all(row.get(key) == value for key, value in wanted.items()) else None

        return await until(has)

    async def at_rest(self) -> None:
        """Wait until nothing is left to be done."""

        async def none_open() -> bool:
            return await self.database.inbox.count_documents({"owner": {"$exists": True}}) == 0

        await until(none_open)

    @property
    def texts(self) -> list[str]:
        """What customers got, in order."""
        return [send.text for send in self.graph.log.accepted]


async def until(condition: Callable[[], Awaitable[Found | None]], timeout_s: float = 10.0) -> Found:
    """Wait until the condition returns something true, and return that."""
    async with asyncio.timeout(timeout_s):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


StartHub = Callable[..., Awaitable[Hub]]


@asynccontextmanager
async def _listening(app: web.Application) -> AsyncIterator[str]:
    runner = make_runner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def own_database(mongodb_uri: str) -> AsyncIterator[Database]:
    """Open an empty database for fixtures of a wider scope than ``database``, and drop it afterwards."""
    name = f"hub-test-{uuid4().hex}"
    async with connect(mongodb_uri, name, min_pool_size=0) as database:
        yield database
        await database.client.drop_database(name)


@asynccontextmanager
async def hubs_on(database: Database, mongodb_uri: str) -> AsyncIterator[StartHub]:
    """Yield what starts hubs on a database; all of them are stopped afterwards.

    It takes settings by attribute, as Python values, and environment variables by name, as texts.
    """
    async with AsyncExitStack() as everything:
        graph = GraphStandIn()
        graph_url = await everything.enter_async_context(open_server(graph.make_app()))
        client = await everything.enter_async_context(aiohttp.ClientSession())

        async def keep_away_from(target: WebhookTarget) -> None:
            """Connect to a hub no more: a connection made while it stops is left open, or delays it by seconds."""
            if graph.statuses.target is target:
                graph.statuses.target = None
            await asyncio.sleep(0.01)

        async def start(*, timing: Mapping[str, float] | None = None, **values: Any) -> Hub:
            chosen = {
                "mongodb_uri": mongodb_uri,
                "mongodb_db_name": database.inbox.database.name,
                "mongodb_min_pool_size": 0,
                "encryption_secret": ENCRYPTION_SECRET,
                "whatsapp_app_secret": SECRET,
                "whatsapp_verify_token": VERIFY_TOKEN,
                "graph_api_base_url": graph_url,
                "ai_base_url": f"{graph_url}/v1",
                "assistant": "echo",
                "typing_indicator": False,
                "rate_limit_health": "100000/minute",
                "drain_timeout_s": 2,
                "timing": {**TIMING, **(timing or {})},
                **values,
            }
            environment = {name: chosen.pop(name) for name in values if name.isupper()}
            for name in environment:
                chosen.pop(name.lower(), None)
            settings = load_settings(env=environment, env_file=None, overrides=chosen)
            app = create_app(settings)
            stack = await everything.enter_async_context(AsyncExitStack())
            url = await stack.enter_async_context(_listening(app))
            target = graph.statuses.target = WebhookTarget(url=f"{url}/whatsapp_response", secret=SECRET.encode())
            stack.push_async_callback(keep_away_from, target)
            hub = Hub(
                url=url, app=app, settings=settings, database=database, graph=graph, client=client, stop=stack.aclose
            )

            async def ready() -> bool:
                return (await hub.exchange("GET", "/ready")).status == 200

            await until(ready)
            return hub

        yield start


@pytest.fixture
async def start_hub(database: Database, mongodb_uri: str) -> AsyncIterator[StartHub]:
    """Start hubs on the test's database; all of them are stopped afterwards."""
    async with hubs_on(database, mongodb_uri) as start:
        yield start


@pytest.fixture
async def hub(database: Database, start_hub: StartHub) -> Hub:
    """A hub with three businesses, numbers 101 to 103."""
    await database.businesses.insert_many([business(number) for number in ("101", "102", "103")])
    return await start_hub()


class Webhooks:
    """What tests build payloads and documents with."""

    business = staticmethod(business)
    text = staticmethod(text_message)
    of = staticmethod(webhook_of)
    encrypt = staticmethod(VAULT.encrypt)


@pytest.fixture(scope="session")
def webhooks() -> Webhooks:
    """Payloads as Meta writes them, documents as the dashboard does."""
    return Webhooks()
