"""Limits that replicas share, on a real Redis, and what happens when it is away, slow or wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.redis_server import RedisServer
from whatsapp_hub.http import limit_counts
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.limits import Limits
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import WebhookKeys

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]

ADMIN_TOKEN = "a-token-of-24-characters"
OPERATOR = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
METER = web.AppKey("meter", Metrics)


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_counts, "REDIS_PAUSE_S", 0.02)


async def answer(request: web.Request) -> web.Response:
    return web.Response(status=int(request.headers.get("X-Status", "200")))


def make_app(url: str, **values: object) -> web.Application:
    settings = Settings.isolated(
        **{
            "redis_url": url,
            "admin_token": ADMIN_TOKEN,
            "rate_limit_webhook": "2/minute",
            "rate_limit_health": "2/minute",
            **values,
        }
    )
    metrics = Metrics()
    keys = WebhookKeys(app_secrets=() if settings.allow_unsigned_webhooks else (b"secret",), verify_token=None)
    limits = Limits(settings, metrics, ClientAddresses(()), lambda _: keys)
    app = web.Application(middlewares=[limits.middleware])
    app[METER] = metrics
    for name in ("webhook", "health", "admin.cache.clear"):
        app.router.add_post(f"/{name}", answer, name=name)

    async def close(_: web.Application) -> None:
        await limits.close()

    app.on_cleanup.append(close)
    return app


@pytest.fixture(name="start")
async def _start() -> AsyncIterator[Start]:
    clients: list[Client] = []

    async def start(url: str, **values: object) -> Client:
        client = TestClient(TestServer(make_app(url, **values)))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


async def post(client: Client, name: str, **headers: str) -> int:
    async with client.post(f"/{name}", headers=headers) as response:
        return response.status


async def forge(client: Client) -> int:
    return await post(client, "webhook", **{"X-Status": "401"})


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Something that takes connections and never answers: a Redis that hangs."""
    done = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()


async def test_replicas_count_together(redis_server: RedisServer, start: Start) -> None:
    first, second = await start(redis_server.url), await start(redis_server.url)

    assert [await forge(first), await forge(second), await forge(first), await forge(second)] == [401, 401, 429, 429]


async def test_retry_after_is_told(redis_server: RedisServer, start: Start) -> None:
    client = await start(redis_server.url)
    for _ in range(2):
        await post(client, "health")

    async with client.post("/health") as response:
        assert response.status == 429
        assert 55 <= int(response.headers["Retry-After"]) <= 60


async def test_requests_at_the_same_time_do_not_slip_through(redis_server: RedisServer, start: Start) -> None:
    client = await start(redis_server.url, rate_limit_health="5/minute")

    statuses = await asyncio.gather(*(post(client, "health") for _ in range(30)))

    assert sorted(statuses) == [200] * 5 + [429] * 25


async def test_verified_webhooks_never_ask_redis(redis_server: RedisServer, start: Start) -> None:
    client = await start(redis_server.url)
    for _ in range(5):
        assert await post(client, "webhook") == 200

    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        assert await connection.keys("*") == []
        await forge(client)
        (key,) = await connection.keys("*")
        assert b"whatsapp_hub" in key
        assert 0 < await connection.ttl(key) <= 61


async def test_without_redis_webhooks_and_probes_pass_and_admin_closes(
    redis_server: RedisServer, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counts, "REDIS_PAUSE_S", 0.0)  # each request finds out for itself
    client = await start(redis_server.url)
    assert await post(client, "admin.cache.clear", **OPERATOR) == 200
    await redis_server.stop()

    with caplog.at_level(logging.INFO, logger="webhook"):
        for _ in range(4):
            assert await post(client, "webhook") == 200
            assert await forge(client) == 401
            assert await post(client, "health") == 200
            assert await post(client, "admin.cache.clear", **OPERATOR) == 503
            assert await post(client, "admin.cache.clear") == 503

    assert [record.message for record in caplog.records] == [
        "rate limits cannot be counted: Redis fails; webhooks pass, /admin is closed"
    ]
    assert (
        client.app[METER].registry.get_sample_value("whatsapp_hub_rate_limited_total", {"route": "admin.cache.clear"})
        == 8
    )


async def test_unsigned_webhooks_pass_without_redis(redis_server: RedisServer, start: Start) -> None:
    client = await start(redis_server.url, allow_unsigned_webhooks=True)
    assert [await post(client, "webhook") for _ in range(3)] == [200, 200, 429]
    await redis_server.stop()

    assert [await post(client, "webhook") for _ in range(3)] == [200, 200, 200]


async def test_counting_goes_on_by_itself_when_redis_is_back(
    redis_server: RedisServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="webhook")
    client = await start(redis_server.url)
    await redis_server.stop()
    assert await forge(client) == 401
    await redis_server.start()

    await asyncio.sleep(0.03)  # the pause
    assert [await forge(client) for _ in range(3)] == [401, 401, 429]

    failed, counted_again = caplog.records
    assert failed.levelno == logging.ERROR
    assert counted_again.message == "rate limits are counted again"
    assert vars(counted_again)["uncounted"] == 1


async def test_redis_that_hangs_stalls_one_request_briefly_and_the_others_not_at_all(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counts, "REDIS_PAUSE_S", 5.0)
    async with silent_server() as url:
        client = await start(url)
        started = time.monotonic()
        assert await post(client, "health") == 200
        first_s = time.monotonic() - started
        for _ in range(10):
            assert await post(client, "health") == 200
            assert await forge(client) == 401
            assert await post(client, "admin.cache.clear", **OPERATOR) == 503
        total_s = time.monotonic() - started

        assert limit_counts.REDIS_TIMEOUT_S <= first_s < 1
        assert total_s - first_s < 1
        await client.close()


async def test_crowd_that_meets_a_hanging_redis_is_answered_in_time(start: Start) -> None:
    async with silent_server() as url:
        client = await start(url)
        started = time.monotonic()

        statuses = await asyncio.gather(*(post(client, "health") for _ in range(150)))

        assert set(statuses) == {200}
        assert time.monotonic() - started < 2
        await client.close()


async def test_something_else_under_our_key_lets_webhooks_pass(redis_server: RedisServer, start: Start) -> None:
    client = await start(redis_server.url)
    await forge(client)
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        (key,) = await connection.keys("*")
        await connection.set(key, "no list")

    assert [await forge(client) for _ in range(4)] == [401] * 4
    assert await post(client, "webhook") == 200


async def test_password_in_the_url_is_never_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = await start("redis://:hunter2hunter2@127.0.0.1:1")
    with caplog.at_level(logging.DEBUG):
        assert await forge(client) == 401

    assert caplog.records
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)
