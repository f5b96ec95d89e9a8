"""Probes, metrics, the operator's routes and those that are still to come, over real HTTP with a real directory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from whatsapp_hub.database import Database, connect
from whatsapp_hub.http import admin, keys
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.limits import Limits
from whatsapp_hub.http.routes import add_routes
from whatsapp_hub.inbox.nodes import CACHE_DOCUMENT, Nodes
from whatsapp_hub.settings import Settings, Timing
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.vault import Vault

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]

ADMIN_TOKEN = "ein-Schlüssel-mit-24-Zeichen"
OPERATOR = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def make_app(database: Database, **values: object) -> web.Application:
    defaults = {"trusted_proxies": "127.0.0.1", "admin_token": ADMIN_TOKEN, "rate_limit_admin": "20/minute"}
    settings = Settings.isolated(**{**defaults, **values})
    metrics = Metrics()
    directory = Directory(database, Vault("secret"), settings, metrics)
    addresses = ClientAddresses(settings.trusted_proxies)
    limits = Limits(settings, metrics, addresses, directory.webhook_keys)
    app = web.Application(middlewares=[limits.middleware])
    app[keys.SETTINGS] = settings
    app[keys.METRICS] = metrics
    app[keys.HEALTH] = Health(metrics)
    app[keys.DIRECTORY] = directory
    app[keys.NODES] = Nodes(database, Timing())
    app[keys.CLIENT_ADDRESSES] = addresses
    add_routes(app)
    return app


@pytest.fixture(name="start")
async def _start(database: Database) -> AsyncIterator[Start]:
    clients: list[Client] = []

    async def start(where: Database = database, **values: object) -> Client:
        client = TestClient(TestServer(make_app(where, **values)))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


async def fetch(client: Client, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    async with client.request(method, path, headers=headers) as response:
        is_json = response.content_type == "application/json"
        return response.status, await (response.json() if is_json else response.text())


async def add_business(database: Database, name: str, number: str) -> None:
    await database.businesses.insert_one(
        {
            "name": name,
            "subDomain": name,
            "whatsappPhoneNumberIds": [number],
            "whatsappAccessToken": Vault("secret").encrypt(f"token-{name}"),
            "whatsappEnabled": True,
            "isActive": True,
        }
    )


async def test_health_has_the_guide_s_four_keys(start: Start) -> None:
    client = await start()
    client.app[keys.HEALTH].database_answered()

    status, body = await fetch(client, "/health")

    assert status == 200
    assert body.pop("timestamp") == pytest.approx(time.time(), abs=2)
    assert body == {"status": "healthy", "database": "healthy", "service": "whatsapp-webhook"}


async def test_health_stays_200_while_the_database_is_down(start: Start) -> None:
    client = await start()
    client.app[keys.HEALTH].database_failed("down")

    status, body = await fetch(client, "/health")

    assert (status, body["status"], body["database"]) == (200, "healthy", "unhealthy")


async def test_health_is_503_when_the_process_stops(start: Start) -> None:
    client = await start()
    client.app[keys.HEALTH].stop()

    status, body = await fetch(client, "/health")

    assert (status, body["status"]) == (503, "unhealthy")


async def test_ready_says_why_not(start: Start) -> None:
    client = await start()
    health = client.app[keys.HEALTH]

    status, body = await fetch(client, "/ready")
    assert (status, body["ready"], body["reasons"]) == (503, False, ["database not yet reached"])

    health.database_answered()
    status, body = await fetch(client, "/ready")
    assert status == 200
    assert body == {"ready": True, "timestamp": pytest.approx(time.time(), abs=2)}

    health.database_failed("the database did not confirm in time")
    health.stop()
    status, body = await fetch(client, "/ready")
    assert (status, body["reasons"]) == (503, ["stopping", "the database did not confirm in time"])


async def test_probes_never_call_the_database(start: Start) -> None:
    async with connect("mongodb://127.0.0.1:1", "nowhere") as nowhere:
        client = await start(nowhere)
        started = time.monotonic()

        assert (await fetch(client, "/health"))[0] == 200
        assert (await fetch(client, "/ready"))[0] == 503
        assert (await fetch(client, "/metrics"))[0] == 200
        assert time.monotonic() - started < 1


async def test_metrics_are_the_guide_s_json_and_more(start: Start, database: Database) -> None:
    await add_business(database, "bakery", "111")
    client = await start(business_cache_size=50, business_cache_ttl=120)
    for _ in range(4):
        await client.app[keys.DIRECTORY].find("111")
    metrics = client.app[keys.METRICS]
    metrics.pending_messages.set(7)
    metrics.oldest_pending.set(1.5)
    metrics.set_dead_letters({"bakery": 2, "florist": 3})

    status, body = await fetch(client, "/metrics")

    assert status == 200
    assert body.pop("timestamp") == pytest.approx(time.time(), abs=2)
    assert body == {
        "cache": {"size": 1, "max_size": 50, "ttl_seconds": 120, "hits": 3, "misses": 1, "hit_rate": 0.75},
        "connection_pool": {"max_pool_size": 100, "min_pool_size": 10},
        "inbox": {"pending_messages": 7, "oldest_pending_seconds": 1.5, "dead_letters": 5},
    }


async def test_hit_rate_of_a_cache_that_nobody_asked_is_zero(start: Start) -> None:
    _, body = await fetch(await start(), "/metrics")

    assert body["cache"]["hit_rate"] == 0


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        (PROMETHEUS, "application/openmetrics-text"),
        ("application/json;q=0.1, text/plain;q=0.9", "text/plain"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),  # what axios sends
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/plain;q=0", "application/json"),
        ("text/plain;q=much", "application/json"),
        (",;;q=,", "application/json"),
    ],
)
async def test_metrics_take_the_form_that_was_asked_for(start: Start, accept: str, content_type: str) -> None:
    client = await start()

    async with client.get("/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200
        assert response.content_type == content_type
        text = await response.text()

    assert ("whatsapp_hub_build_info" in text) == (content_type != "application/json")


async def test_prometheus_route_is_text_whatever_is_asked_for(start: Start) -> None:
    client = await start()

    async with client.get("/prometheus/metrics", headers={"Accept": "application/json"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "# TYPE webhook_requests_total counter" in await response.text()


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("10.1.2.3", 200),
        ("172.16.0.9", 200),
        ("192.168.1.1", 200),
        ("fd00::1", 200),
        ("::1", 200),
        ("::ffff:10.1.2.3", 200),
        ("203.0.113.7", 403),
        ("2001:db8::1", 403),
        ("10.1.2.3, 203.0.113.7", 403),
    ],
)
async def test_metrics_are_for_allowed_addresses_only(start: Start, address: str, status: int) -> None:
    client = await start()

    for path in ("/metrics", "/prometheus/metrics"):
        assert (await fetch(client, path, **{"X-Forwarded-For": address}))[0] == status
    assert (await fetch(client, "/metrics", **{"X-Forwarded-For": address, "Accept": "text/plain"}))[0] == status
    assert (await fetch(client, "/health", **{"X-Forwarded-For": address}))[0] == 200


async def test_list_of_allowed_addresses_can_be_set(start: Start) -> None:
    client = await start(metrics_allow="203.0.113.0/24")

    assert (await fetch(client, "/metrics", **{"X-Forwarded-For": "203.0.113.7"}))[0] == 200
    status, body = await fetch(client, "/metrics")
    assert (status, body) == (403, {"error": "your address is not in METRICS_ALLOW"})


async def test_operator_clears_the_cache_on_every_node(start: Start, database: Database) -> None:
    await add_business(database, "bakery", "111")
    client = await start()
    directory = client.app[keys.DIRECTORY]
    await directory.find("111")

    status, body = await fetch(client, "/admin/cache/clear", "POST", **OPERATOR)

    assert (status, body["status"], body["cleared"]) == (200, "success", 1)
    assert directory.cache_info().size == 0
    assert (await database.nodes.find_one({"_id": CACHE_DOCUMENT})) == {"_id": CACHE_DOCUMENT, "clear": 1}


async def test_operator_warms_the_cache_on_every_node(start: Start, database: Database) -> None:
    await add_business(database, "bakery", "111")
    await add_business(database, "florist", "222")
    client = await start()

    status, body = await fetch(client, "/admin/cache/warmup", "POST", **OPERATOR)

    assert (status, body["status"], body["warmed"]) == (200, "success", 2)
    assert client.app[keys.DIRECTORY].cache_info().size == 2
    assert (await database.nodes.find_one({"_id": CACHE_DOCUMENT})) == {"_id": CACHE_DOCUMENT, "warm": 1}


async def test_cache_is_kept_while_the_database_is_down(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "DATABASE_TIMEOUT_S", 0.05)
    async with connect("mongodb://127.0.0.1:1", "nowhere") as nowhere:
        client = await start(nowhere)

        for path in ("/admin/cache/clear", "/admin/cache/warmup"):
            status, body = await fetch(client, path, "POST", **OPERATOR)
            assert (status, list(body)) == (503, ["error"])


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {ADMIN_TOKEN}x",
        f"Bearer {ADMIN_TOKEN[:-1]}",
        f"Basic {ADMIN_TOKEN}",
        ADMIN_TOKEN,
        "Bearer \udcff\udcfe",
    ],
)
async def test_wrong_token_is_401_with_a_challenge(start: Start, authorization: str) -> None:
    client = await start()

    for path in ("/admin/cache/clear", "/admin/cache/warmup"):
        async with client.post(path, headers={"Authorization": authorization}) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")
            assert ADMIN_TOKEN not in await response.text()


async def test_scheme_of_the_token_is_case_insensitive(start: Start) -> None:
    client = await start()

    assert (await fetch(client, "/admin/cache/clear", "POST", Authorization=f"bearer  {ADMIN_TOKEN}"))[0] == 200


async def test_admin_is_closed_without_a_token(start: Start) -> None:
    client = await start(admin_token=None)

    for authorization in ("", "Bearer ", "Bearer None", f"Bearer {ADMIN_TOKEN}"):
        status, body = await fetch(client, "/admin/cache/clear", "POST", Authorization=authorization)
        assert (status, body) == (403, {"error": "closed; set ADMIN_TOKEN to open it"})


async def test_admin_routes_are_posts(start: Start) -> None:
    assert (await fetch(await start(), "/admin/cache/clear", **OPERATOR))[0] == 405


async def test_operator_is_limited_as_in_the_guide(start: Start) -> None:
    client = await start(rate_limit_admin="1/minute")

    assert (await fetch(client, "/admin/cache/clear", "POST"))[0] == 401
    assert (await fetch(client, "/admin/cache/clear", "POST"))[0] == 429
    assert (await fetch(client, "/admin/cache/clear", "POST", **OPERATOR))[0] == 200
    assert (await fetch(client, "/admin/cache/clear", "POST", **OPERATOR))[0] == 429
    assert (await fetch(client, "/admin/cache/warmup", "POST", **OPERATOR))[0] == 200


async def test_unknown_path_is_404_in_json(start: Start) -> None:
    assert await fetch(await start(), "/admin") == (404, {"error": "there is nothing here"})


async def test_answers_are_neither_stored_nor_guessed_at(start: Start) -> None:
    client = await start()

    for path in ("/health", "/ready", "/metrics", "/nothing"):
        async with client.get(path) as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
