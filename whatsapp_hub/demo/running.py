"""The demo while it runs: the real server, between sample businesses in a database and a stand-in for Graph."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import aiohttp
from aiohttp import web

from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.hub_process import DemoFailed, HubProcess
from whatsapp_hub.demo.samples import SAMPLES, Sample
from whatsapp_hub.demo.statuses import WebhookTarget
from whatsapp_hub.tenants.vault import Vault

START_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02
#: A process that died is noticed sooner than in production, where it is more important that none is taken for dead.
_TIMING: Final = {
    "heartbeat_s": 0.4,
    "self_fence_s": 1.5,
    "lease_s": 2.5,
    "round_s": 0.3,
    "status_wait_s": 5.0,
    "held_recheck_s": 1.0,
    "retry_base_s": 0.5,
    "retry_max_s": 2.0,
}
_SETTINGS: Final = {"assistant": "echo", "timing": _TIMING, "log_format": "text", "log_level": "WARNING"}


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
    app_secret: str = field(repr=False)  #: what signs its webhooks
    admin_token: str = field(repr=False)  #: what opens its console
    graph: GraphStandIn
    database: Database
    hub: HubProcess
    vault: Vault = field(repr=False)

    async def renew_tokens(self, tokens: Mapping[str, str]) -> None:
        """Give businesses new access tokens, by phone number id, as the dashboard would."""
        for number, token in tokens.items():
            change = {"$set": {"whatsappAccessToken": self.vault.encrypt(token)}}
            await self.database.businesses.update_one({"whatsappPhoneNumberIds": number}, change)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secrets:
    """The secrets of one run."""

    encryption: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    app: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    admin: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def settings(self) -> dict[str, str]:
        """Return them as the hub's settings."""
        return {"encryption_secret": self.encryption, "whatsapp_app_secret": self.app, "admin_token": self.admin}


class Extras(Protocol):
    """What the playground adds to the demo."""

    page: str  #: where its page is

    def add_routes(self, app: web.Application) -> None:
        """Add what the assistant asks to the stand-in for Graph."""
        ...

    def adapt(self, stand_in: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Return more settings, and the assistant's environment, from the address of the stand-in."""
        ...


@asynccontextmanager
async def open_demo(
    database_uri: str, hub: HubProcess, *, database_name: str = "demo", extras: Extras | None = None
) -> AsyncIterator[Demo]:
    """Run the server until the context ends. Looks at no environment and no file.

    Raises:
        DemoFailed: it does not get ready.

    """
    keys = _Secrets()
    graph = GraphStandIn()
    graph.control.tokens = {sample.phone_number_id: sample.access_token for sample in SAMPLES}
    graph.statuses.target = WebhookTarget(url=f"{hub.address}/whatsapp_response", secret=keys.app.encode())
    stand_in = graph.make_app()
    if extras:
        extras.add_routes(stand_in)
    async with (
        connect(database_uri, database_name, max_pool_size=4, min_pool_size=0) as database,
        open_server(stand_in) as graph_address,
    ):
        vault = Vault(keys.encryption)
        await _write_samples(database, vault)
        more, environ = extras.adapt(graph_address) if extras else ({}, {})
        places = {"mongodb_uri": database_uri, "mongodb_db_name": database_name, "graph_api_base_url": graph_address}
        settings = {**_SETTINGS, **places, **keys.settings(), **more}
        work = hub.keep_running(settings, environ=environ, playground=extras.page if extras else None)
        async with _running(work) as running:
            await _wait_until_ready(hub, running)
            yield Demo(
                address=hub.address,
                app_secret=keys.app,
                admin_token=keys.admin,
                graph=graph,
                database=database,
                hub=hub,
                vault=vault,
            )
            graph.statuses.target = None


@asynccontextmanager
async def _running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _write_samples(database: Database, vault: Vault) -> None:
    now = datetime.now(UTC)
    await database.businesses.insert_many([sample.document(vault, now) for sample in SAMPLES])


async def _wait_until_ready(hub: HubProcess, running: asyncio.Task[None]) -> None:
    reasons = "no answer"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_TIMEOUT_S):
            listening = asyncio.create_task(hub.wait_ready())
            await asyncio.wait([listening, running], return_when=asyncio.FIRST_COMPLETED)
            listening.cancel()
            if running.done():
                running.result()
            while True:
                async with session.get(f"{hub.address}/ready") as response:
                    if response.status == 200:
                        return
                    reasons = await response.text()
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise DemoFailed(f"the server is not ready after {START_TIMEOUT_S:.0f} s: {reasons}") from None
