"""F29, one fault of Redis after the other: webhooks pass, admin closes, and counting comes back by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.faults.tcp_proxy import TcpProxy, open_tcp_proxy
from tests.hub import until
from tests.integration.test_limits_redis import METER, OPERATOR, forge, make_app, post
from tests.redis_server import RedisServer
from whatsapp_hub.http import limit_counts
from whatsapp_hub.http.limits import LARGE_BODY_BYTES

Client = TestClient[web.Request, web.Application]

FAILED = "rate limits cannot be counted: Redis fails; webhooks pass, /admin is closed"
BACK = "rate limits are counted again"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_counts, "REDIS_PAUSE_S", 0.0)  # each request finds out for itself


@asynccontextmanager
async def app_on(url: str, **values: object) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app(url, **values))) as client:
        yield client


async def assert_open(client: Client) -> None:
    """Check that everything passes that has no other reason to be refused, and admin does not."""
    assert [await forge(client) for _ in range(4)] == [401] * 4
    assert await post(client, "webhook") == 200
    assert await post(client, "health") == 200
    async with client.post("/webhook", data=b"x" * (LARGE_BODY_BYTES + 1), headers={"X-Status": "401"}) as response:
        assert response.status == 401
    assert await post(client, "admin.cache.clear", **OPERATOR) == 503
    assert await post(client, "admin.cache.clear") == 503
    limited = client.app[METER].registry.get_sample_value
    assert limited("whatsapp_hub_rate_limited_total", {"route": "admin.cache.clear"}) == 2
    assert not limited("whatsapp_hub_rate_limited_total", {"route": "webhook"})


async def command(server: RedisServer | TcpProxy, *words: str) -> None:
    async with redis.asyncio.Redis.from_url(f"redis://127.0.0.1:{server.port}") as connection:
        await connection.execute_command(*words)  # type: ignore[no-untyped-call]


async def test_redis_that_is_not_there_yet(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="webhook")
    await redis_server.stop()
    async with app_on(redis_server.url) as client:
        await assert_open(client)
        await redis_server.start()
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]
        assert await post(client, "admin.cache.clear", **OPERATOR) == 200
    assert [record.message for record in caplog.records] == [FAILED, BACK]


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        pytest.param(
            ("CONFIG", "SET", "maxmemory", "1"),
            ("CONFIG", "SET", "maxmemory", "0"),
            id="it is full",
        ),
        pytest.param(("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), id="it is a replica"),
        pytest.param(
            ("ACL", "SETUSER", "default", "-evalsha", "-eval"),
            ("ACL", "SETUSER", "default", "+@all"),
            id="it lets nobody count",
        ),
    ],
)
async def test_redis_that_refuses(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, broken: Sequence[str], mended: Sequence[str]
) -> None:
    caplog.set_level(logging.INFO, logger="webhook")
    async with app_on(redis_server.url) as client:
        await command(redis_server, *broken)
        await assert_open(client)
        await command(redis_server, *mended)
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]
    assert [record.message for record in caplog.records] == [FAILED, BACK]


async def test_wrong_password(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await command(redis_server, "CONFIG", "SET", "requirepass", "the-right-one")
    async with app_on(redis_server.url.replace("//", "//:hunter2hunter2@")) as client:
        await assert_open(client)
    assert FAILED in caplog.messages
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)


async def test_flushed_redis_counts_anew(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="webhook")
    async with app_on(redis_server.url) as client:
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]
        await command(redis_server, "FLUSHALL")
        await command(redis_server, "SCRIPT", "FLUSH")
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]
    assert caplog.records == []


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\x00\r\n", b"+OK\r\n", b"*1\r\n+x\r\n", b"$5\r\nhello\r\n", b""],
)
async def test_something_else_at_its_address(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while reply and await reader.read(1000):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, app_on(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        for _ in range(4):
            assert await forge(client) in {401, 429}
            assert await post(client, "webhook") == 200
            large = b"x" * (LARGE_BODY_BYTES + 1)
            async with client.post("/webhook", data=large, headers={"X-Status": "401"}) as response:
                assert response.status in {401, 429}
            assert await post(client, "admin.cache.clear", **OPERATOR) in {200, 429, 503}


@pytest.fixture(name="proxy")
async def _proxy(redis_server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with open_tcp_proxy(redis_server.port) as proxy:
        yield proxy


async def test_redis_that_is_far_away_still_counts(proxy: TcpProxy) -> None:
    async with app_on(f"redis://127.0.0.1:{proxy.port}") as client:
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]  # connects, and loads both scripts
        await command(proxy, "FLUSHALL")
        proxy.latency_s = limit_counts.REDIS_TIMEOUT_S / 8
        assert [await forge(client) for _ in range(3)] == [401, 401, 429]


async def test_redis_that_is_too_slow_is_waited_for_briefly_and_counts_rightly_afterwards(proxy: TcpProxy) -> None:
    async with app_on(f"redis://127.0.0.1:{proxy.port}", rate_limit_webhook="20/minute") as client:
        proxy.latency_s = limit_counts.REDIS_TIMEOUT_S
        began_at = time.monotonic()
        assert await asyncio.gather(*(forge(client) for _ in range(30))) == [401] * 30
        assert time.monotonic() - began_at < 10 * limit_counts.REDIS_TIMEOUT_S
        assert await post(client, "webhook") == 200
        proxy.latency_s = 0.0

        async def is_counted() -> bool:
            return await forge(client) == 429

        await until(is_counted)
        async with redis.asyncio.Redis.from_url(f"redis://127.0.0.1:{proxy.port}") as connection:
            (key,) = await connection.keys("*:webhook/*")
            assert await connection.llen(key) == 20  # no answer was taken for another's


async def test_crowd_opens_a_bounded_number_of_connections(proxy: TcpProxy) -> None:
    async with app_on(f"redis://127.0.0.1:{proxy.port}", rate_limit_webhook="100000/minute") as client:
        proxy.latency_s = 0.02
        for _ in range(2):
            assert await asyncio.gather(*(forge(client) for _ in range(300))) == [401] * 300
    assert 1 < proxy.most <= limit_counts.REDIS_CONNECTIONS
