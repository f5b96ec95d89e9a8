"""F29 under load: Redis is killed, hangs and comes back while customers write and forgers try; nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import ceil
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from tests.faults.clients import flood, head
from tests.faults.hubs import HubProcess
from tests.faults.world import NUMBERS, World, open_world
from tests.hub import until
from tests.redis_server import RedisServer
from whatsapp_hub.http.limit_counts import REDIS_CONNECTIONS

ADMIN_TOKEN: Final = "a-token-of-24-characters"
GOOD_PER_S: Final = 60.0
FORGED_PER_S: Final = 300.0
STRETCH_S: Final = 2.0
FORGED: Final = head("X-Hub-Signature-256: sha256=" + 64 * "0", "Content-Length: 2") + b"{}"

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(60),
    pytest.mark.deadlines,
]


@pytest_asyncio.fixture(name="redis_server", loop_scope="module", scope="module")
async def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(name="world", loop_scope="module", scope="module")
async def _world(redis_server: RedisServer) -> AsyncIterator[World]:
    environment = {"REDIS_URL": redis_server.url, "ADMIN_TOKEN": ADMIN_TOKEN, "RATE_LIMIT_ADMIN": "1000/minute"}
    async with open_world(assistant="echo", environment=environment) as world:
        yield world


async def clear_cache(world: World) -> int:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    url = f"{world.hubs[0].url}/admin/cache/clear"
    async with aiohttp.ClientSession() as client, client.post(url, headers=headers) as response:
        return response.status


async def under_load(world: World, fault: Callable[[], Awaitable[None]]) -> None:
    """Have customers write while forgers try and something happens; every webhook is taken, and soon."""
    hub, before = world.hubs[0], len(world.driver.messages)
    files = hub.open_files()
    async with asyncio.TaskGroup() as group:
        forgers = group.create_task(flood(hub.port, [FORGED], rate_per_s=FORGED_PER_S, for_s=STRETCH_S, network=29))
        group.create_task(world.driver.converse(numbers=NUMBERS, customers=100, rate_per_s=GOOD_PER_S, for_s=STRETCH_S))
        await asyncio.sleep(STRETCH_S / 4)
        await fault()
        await asyncio.sleep(STRETCH_S / 4)
        assert hub.open_files() <= files + 40 + 100 + REDIS_CONNECTIONS
    tries = [one for message in world.driver.messages[before:] for one in message.deliveries]
    assert len(tries) > STRETCH_S * GOOD_PER_S / 2
    assert {one.status for one in tries} == {200}
    took_s = sorted(one.ended_at - one.began_at for one in tries)
    assert took_s[ceil(0.5 * len(tries)) - 1] <= 0.25
    assert took_s[ceil(0.99 * len(tries)) - 1] <= 1.0
    assert set(forgers.result()) <= {401, 429}
    await world.assert_holds()


async def was_told(hub: HubProcess, words: str) -> int:
    return hub.log_path.read_text().count(words)


async def test_killing_redis_closes_admin_and_nothing_else(world: World, redis_server: RedisServer) -> None:
    hub = world.hubs[0]
    assert await clear_cache(world) == 200

    async def kill() -> None:
        await redis_server.stop()
        assert await clear_cache(world) == 503

    await under_load(world, kill)
    assert await was_told(hub, "rate limits cannot be counted") == 1
    assert await hub.sample("whatsapp_hub_rate_limited_total", route="admin.cache.clear") >= 1
    await redis_server.start()
    await counted_again(world)
    assert await was_told(hub, "rate limits are counted again") == 1


@pytest.mark.soak
async def test_hanging_redis_closes_admin_and_nothing_else(world: World, redis_server: RedisServer) -> None:
    assert await clear_cache(world) == 200

    async def hang() -> None:
        os.kill(redis_server.pid, signal.SIGSTOP)
        began_at = time.monotonic()
        assert await clear_cache(world) == 503
        assert time.monotonic() - began_at < 1.0

    await under_load(world, hang)
    os.kill(redis_server.pid, signal.SIGCONT)
    await counted_again(world)


async def counted_again(world: World) -> None:
    """Wait until admin is open again, which is after the pause."""

    async def is_open() -> bool:
        return await clear_cache(world) == 200

    await until(is_open, 5)
