"""The limits in front of the real webhook: who signs rightly is let in, whoever else is behind the same address."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from whatsapp_hub.cloud_api.messages import Webhook
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database
from whatsapp_hub.http import keys
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.limits import LARGE_BODY_BYTES, Limits
from whatsapp_hub.http.routes import add_routes
from whatsapp_hub.http.webhook import Webhooks
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.vault import Vault

Client = TestClient[web.Request, web.Application]

PATH = "/whatsapp_response"
BODY = b'{"object":"whatsapp_business_account","entry":[]}'


class Drawer:
    """A journal that keeps what it gets in memory."""

    def __init__(self) -> None:
        self.webhooks: list[Webhook] = []

    async def accept(self, webhook: Webhook) -> None:
        self.webhooks.append(webhook)


@pytest.fixture
async def client(database: Database) -> AsyncIterator[Client]:
    settings = Settings.isolated(
        whatsapp_app_secret="app-secret", whatsapp_verify_token="token", rate_limit_webhook="2/minute"
    )
    metrics = Metrics()
    directory = Directory(database, Vault("secret"), settings, metrics)
    await directory.refresh()
    limits = Limits(settings, metrics, ClientAddresses(()), directory.webhook_keys)
    app = web.Application(middlewares=[limits.middleware], client_max_size=4 << 20)
    app[keys.WEBHOOKS] = Webhooks(directory, Drawer(), metrics, allow_unsigned=False, body_timeout_s=1)
    add_routes(app)
    async with TestClient(TestServer(app)) as client:
        yield client


async def post(client: Client, body: bytes = BODY, *, signed: bool = False, path: str = PATH) -> int:
    headers = {"X-Hub-Signature-256": sign(body, b"app-secret") if signed else "sha256=" + 64 * "0"}
    async with client.post(path, data=body, headers=headers) as response:
        return response.status


async def test_signed_webhook_is_taken_from_an_address_full_of_forgers(client: Client) -> None:
    assert [await post(client) for _ in range(4)] == [401, 401, 429, 429]

    assert await post(client, signed=True) == 200
    assert await post(client) == 429
    assert await post(client, b"[]", signed=True) == 400


async def test_signed_webhooks_use_nothing_up(client: Client) -> None:
    assert [await post(client, signed=True) for _ in range(10)] == [200] * 10

    assert [await post(client) for _ in range(3)] == [401, 401, 429]


async def test_unknown_subdomain_is_limited_like_a_forged_signature(client: Client) -> None:
    assert [await post(client, signed=True, path=f"{PATH}/nobody") for _ in range(3)] == [401, 401, 429]


async def test_guessing_verify_tokens_is_limited(client: Client) -> None:
    statuses = []
    for guess in ("a", "b", "c"):
        query = {"hub.mode": "subscribe", "hub.verify_token": guess, "hub.challenge": "1"}
        async with client.get(PATH, params=query) as response:
            statuses.append(response.status)

    assert statuses == [403, 403, 429]


async def test_large_body_needs_a_good_name_once_the_limit_is_used_up(client: Client) -> None:
    large = b"{}" + b" " * LARGE_BODY_BYTES
    await post(client)
    await post(client)
    assert await post(client, large, signed=True) == 429

    assert await post(client, signed=True) == 200
    assert await post(client, large, signed=True) == 200
