"""The shipped nginx in front of three real hubs that share their limits in a real Redis."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp
import orjson
import pytest
import pytest_asyncio
import redis.asyncio

from tests.deploy.front import HANDSHAKE, PATH, Front, ask_by, client_of, in_pieces, open_front, whole
from tests.faults.driver import Driver
from tests.faults.history import Delivery
from tests.faults.world import NUMBERS, World, open_world
from tests.hub import SECRET, VERIFY_TOKEN
from tests.redis_server import RedisServer
from whatsapp_hub.cloud_api.signature import sign

LIMIT: Final = 6
TALK_S: Final = 2.0
PER_S: Final = 60.0
HUNG_S: Final = 2.0  # proxy_read_timeout
LONG_LEASE: Final = {
    "lease_s": 60.0,
    "self_fence_s": 40.0,
}  # so that who sleeps for a while is not given up by the others
SLACK_S: Final = 1.5

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
    environment = {
        "REDIS_URL": redis_server.url,
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "RATE_LIMIT_WEBHOOK": f"{LIMIT}/hour",
    }
    async with open_world(hubs=3, assistant="echo", environment=environment) as world:
        yield world


@pytest_asyncio.fixture(name="front", loop_scope="module", scope="module")
async def _front(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    home = tmp_path_factory.mktemp("front") / "nginx"
    async with open_front([hub.port for hub in world.hubs], home) as front, client_of(front) as client:
        world.driver = Driver(client, [front.url])
        yield front


async def post(client: aiohttp.ClientSession, front: Front, body: bytes, **options: bool) -> int:
    """Post a signed webhook, ``chunked`` or not."""
    data = in_pieces(body) if options.get("chunked") else whole(body)
    headers = {"X-Hub-Signature-256": sign(body, SECRET.encode()), "Content-Type": "application/json"}
    return await ask_by(client, front, data=data, headers=headers)


async def forge(client: aiohttp.ClientSession, front: Front, headers: Sequence[tuple[str, str]] = ()) -> int:
    return await ask_by(client, front, data=b"{}", headers=[("X-Hub-Signature-256", "sha256=" + 64 * "0"), *headers])


def of_size(size: int, **more: object) -> bytes:
    """Return a webhook about something that is no message, so that nobody answers it."""
    value = {"text": "é \U0001f600 \u2028", "x": "x" * size, **more}
    change = {"field": "of_a_test", "value": value}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [{"id": "waba-101", "changes": [change]}]})


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_signatures_hold_through_it(world: World, front: Front, size: int, chunked: bool) -> None:
    before = await world.database.events.count_documents({})
    async with client_of(front) as client:
        assert await post(client, front, of_size(size, chunked=chunked), chunked=chunked) == 200
    assert await world.database.events.count_documents({}) == before + 1


async def test_escaped_text_is_signed_as_it_is_written(front: Front) -> None:
    body = of_size(1)
    escaped = json.dumps(orjson.loads(body)).encode()
    assert b"\\ud83d\\ude00" in escaped
    async with client_of(front) as client:
        assert await post(client, front, escaped) == 200
        other = {"X-Hub-Signature-256": sign(escaped, SECRET.encode())}
        assert await ask_by(client, front, data=body, headers=other) == 401


async def test_handshake_passes(front: Front) -> None:
    async with client_of(front, "127.9.0.1") as client:
        query = {**HANDSHAKE, "hub.verify_token": VERIFY_TOKEN}
        async with client.get(front.url + PATH, params=query) as response:
            assert (response.status, await response.text()) == (200, HANDSHAKE["hub.challenge"])


FORGED: Final = (
    [("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "203.0.113.9, 127.0.0.1")],
    [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.7, 127.0.0.1")],
)


async def test_forged_forwarded_for_gives_no_new_allowance(redis_server: RedisServer, front: Front) -> None:
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        await connection.flushdb()
    async with client_of(front, "127.7.0.1") as client, client_of(front, "127.7.0.2") as other:
        statuses = [await forge(client, front, FORGED[index % 3]) for index in range(2 * LIMIT)]
        assert statuses == [401] * LIMIT + [429] * LIMIT
        assert await forge(other, front) == 401
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        keys = sorted(str(key) for key in await connection.keys("*:webhook/*"))
    assert [key.rpartition("LIMITER/")[2].partition(":")[0] for key in keys] == ["127.7.0.1", "127.7.0.2"]


async def test_three_hubs_limit_as_one(world: World, front: Front) -> None:
    before = await count_unverified(world)
    async with client_of(front, "127.8.0.1") as client:
        statuses = await asyncio.gather(*(forge(client, front) for _ in range(8 * LIMIT)))
    assert (statuses.count(401), statuses.count(429)) == (LIMIT, 7 * LIMIT)
    counted = [now - then for now, then in zip(await count_unverified(world), before, strict=True)]
    assert sum(counted) == 8 * LIMIT
    assert min(counted) > 0, "one of them got none"


async def count_unverified(world: World) -> list[float]:
    return [await hub.sample("webhook_requests_total", business="unverified") for hub in world.hubs]


async def tries_during(
    world: World, fault: Awaitable[None], *, rate_per_s: float = PER_S, for_s: float = TALK_S
) -> list[Delivery]:
    """Have customers write while something happens; return every try to deliver what they wrote."""
    before = len(world.driver.messages)
    happening = asyncio.ensure_future(fault)
    await world.driver.converse(numbers=NUMBERS, customers=200, rate_per_s=rate_per_s, for_s=for_s)
    await happening
    tries = [one for message in world.driver.messages[before:] for one in message.deliveries]
    assert len(tries) > for_s * rate_per_s / 2
    return tries


async def test_killed_hub_and_one_that_comes_back_are_not_noticed(world: World, front: Front) -> None:
    hub = world.hubs[1]
    assert world.driver.urls == [front.url]

    async def kill() -> None:
        await asyncio.sleep(TALK_S / 4)
        hub.kill()
        await asyncio.sleep(TALK_S / 4)
        hub.start()
        await hub.ready()

    tries = await tries_during(world, kill())
    assert {one.status for one in tries} == {200}
    await world.assert_holds()


@pytest.mark.rehearsal
async def test_hub_that_hangs_is_given_up_and_nothing_is_refused(tmp_path: Path) -> None:
    async with (
        open_world(hubs=3, assistant="echo", timing=LONG_LEASE) as world,
        open_front([hub.port for hub in world.hubs], tmp_path / "nginx") as front,
        client_of(front) as client,
    ):
        world.driver = Driver(client, [front.url])
        hub = world.hubs[2]

        async def pause() -> None:
            await asyncio.sleep(TALK_S / 4)
            hub.pause()
            await asyncio.sleep(2 * HUNG_S)
            hub.resume()

        tries = await tries_during(world, pause())
        await world.assert_holds()
    assert {one.status for one in tries} == {200}
    took_s = sorted(one.ended_at - one.began_at for one in tries)
    assert HUNG_S <= took_s[-1] < HUNG_S + SLACK_S
    assert took_s[ceil(0.5 * len(took_s)) - 1] < HUNG_S / 2, "one of three hangs, and most wait for it"


@pytest.mark.rehearsal
@pytest.mark.timeout(120)
async def test_what_nginx_and_tls_cost(world: World, front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    ways = {"direct": [hub.url for hub in world.hubs], "through nginx, TLS": [front.url]}
    took_ms: dict[str, list[float]] = {way: [] for way in ways}
    for way in [*ways] * 3:
        world.driver.urls = ways[way]
        for one in await tries_during(world, asyncio.sleep(0), rate_per_s=100, for_s=5):
            assert one.status == 200
            took_ms[way].append(1000 * (one.ended_at - one.began_at))
    world.driver.urls = [front.url]
    lines = [f"{way}: {len(took)} webhooks, {describe(took)}" for way, took in took_ms.items()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert all(median(took) <= 250 for took in took_ms.values())


def describe(took_ms: Sequence[float]) -> str:
    return f"ack p50 {median(took_ms):.1f} ms, p99 {sorted(took_ms)[ceil(0.99 * len(took_ms)) - 1]:.1f} ms"
