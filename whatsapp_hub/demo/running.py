"""The demo's server: the real one, between sample businesses in a database and a stand-in for Graph, in one process."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from whatsapp_hub.app import create_app, has_failed
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.samples import SAMPLES, Sample
from whatsapp_hub.demo.statuses import WebhookTarget
from whatsapp_hub.errors import HubError
from whatsapp_hub.server import listen, make_runner
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.vault import Vault

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 1.0  # an echo takes no longer
POLL_S: Final = 0.02


class DemoFailed(HubError):
    """The demo could not do what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook ready to be posted."""

    url: str
    body: bytes
    signature: str
    key: str  #: of the message in it: the ``_id`` of its inbox document


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo while it runs."""

    address: str  #: where it can be reached from this machine
    app_secret: str  #: what signs its webhooks
    graph: GraphStandIn
    database: Database
    app: web.Application

    def build_webhook(self, sample: Sample, text: str) -> Webhook:
        """Build a signed webhook with a message that was not there before."""
        message_id = f"wamid.DEMO{secrets.token_hex(8).upper()}"
        body = sample.webhook(text, message_id=message_id, timestamp=int(time.time()))
        return Webhook(
            url=f"{self.address}/whatsapp_response",
            body=body,
            signature=sign(body, self.app_secret.encode()),
            key=f"{sample.phone_number_id}:{message_id}",
        )


@asynccontextmanager
async def open_demo(
    database_uri: str, *, host: str = "127.0.0.1", port: int = 0, database_name: str = "demo"
) -> AsyncIterator[Demo]:
    """Run the server until the context ends. Looks at no environment and no file.

    Raises:
        OSError: it cannot listen there.
        DemoFailed: it does not get ready, or a part of it died.

    """
    encryption_secret, app_secret = secrets.token_hex(16), secrets.token_hex(16)
    graph = GraphStandIn()
    graph.control.tokens = {sample.phone_number_id: sample.access_token for sample in SAMPLES}
    async with (
        connect(database_uri, database_name, max_pool_size=4, min_pool_size=0) as database,
        open_server(graph.make_app()) as graph_address,
    ):
        await _write_samples(database, Vault(encryption_secret))
        settings = Settings.isolated(
            mongodb_uri=database_uri,
            mongodb_db_name=database_name,
            encryption_secret=encryption_secret,
            whatsapp_app_secret=app_secret,
            assistant="echo",
            graph_api_base_url=graph_address,
            drain_timeout_s=STOP_TIMEOUT_S,
            host=host,
            port=port,
        )
        async with _serve(settings) as (app, address):
            graph.statuses.target = WebhookTarget(url=f"{address}/whatsapp_response", secret=app_secret.encode())
            await _wait_until_ready(address)
            try:
                yield Demo(address=address, app_secret=app_secret, graph=graph, database=database, app=app)
            finally:
                graph.statuses.target = None
                await asyncio.sleep(POLL_S)  # what is on its way arrives: a connection made later would delay the stop


async def _write_samples(database: Database, vault: Vault) -> None:
    now = datetime.now(UTC)
    await database.businesses.insert_many([sample.document(vault, now) for sample in SAMPLES])


@asynccontextmanager
async def _serve(settings: Settings) -> AsyncIterator[tuple[web.Application, str]]:
    app = create_app(settings)
    runner = make_runner(app)
    try:
        await runner.setup()
        yield app, _from_here(await listen(runner, settings))
    finally:
        await runner.cleanup()
        if has_failed(app):
            raise DemoFailed("a part of the server died: the log above says which.")


def _from_here(address: str) -> str:
    """Return an address that can be asked: who listens everywhere is found on loopback."""
    parts = urlsplit(address)
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")  # noqa: S104 - looked up, not bound
    return f"{parts.scheme}://{local}:{parts.port}" if local else address


async def _wait_until_ready(address: str) -> None:
    reasons = "no answer"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_TIMEOUT_S):
            while True:
                async with session.get(f"{address}/ready") as response:
                    if response.status == 200:
                        return
                    reasons = await response.text()
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise DemoFailed(f"the server is not ready after {START_TIMEOUT_S:.0f} s: {reasons}") from None
