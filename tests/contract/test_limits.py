"""What one address may do: the limits of every route, whom they count, and whom they never refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest

from tests.hub import SECRET, Answer, Hub, StartHub, business, text_message, webhook_of
from tests.redis_server import RedisServer
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database

HELLO = orjson.dumps(webhook_of(text_message("hello", wamid="wamid.1"), number="101"))
SIGNED = {"X-Hub-Signature-256": sign(HELLO, SECRET.encode())}
ADMIN_TOKEN = "a-token-of-24-characters"
OPERATOR = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
WEBHOOK = "/whatsapp_response"
CLEAR, WARM = "/admin/cache/clear", "/admin/cache/warmup"
FIRST, SECOND = "203.0.113.1", "203.0.113.2"

Ask = Callable[..., Awaitable[Answer]]


async def post(hub: Hub, path: str = WEBHOOK, **headers: str) -> Answer:
    return await hub.exchange("POST", path, data=HELLO, headers=headers)


async def get(hub: Hub, path: str, **headers: str) -> Answer:
    return await hub.exchange("GET", path, headers=headers)


def coming_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def forged(hub: Hub) -> Answer:
    return await post(hub)


async def asked_to_clear(hub: Hub) -> Answer:
    return await post(hub, CLEAR, **OPERATOR)


async def looked_at(hub: Hub, path: str) -> Answer:
    return await get(hub, path)


ROUTES = [
    pytest.param("RATE_LIMIT_WEBHOOK", "webhook", forged, 401, 100, id="RATE_LIMIT_WEBHOOK"),
    pytest.param("RATE_LIMIT_HEALTH", "health", lambda hub: get(hub, "/health"), 200, 100, id="RATE_LIMIT_HEALTH"),
    pytest.param("RATE_LIMIT_METRICS", "metrics", lambda hub: get(hub, "/metrics"), 200, 10, id="RATE_LIMIT_METRICS"),
    pytest.param("RATE_LIMIT_ADMIN", "admin.cache.clear", asked_to_clear, 200, 1, id="RATE_LIMIT_ADMIN"),
]


@pytest.mark.parametrize(("variable", "route", "ask", "status", "most"), ROUTES)
async def test_requests_over_a_default_limit_get_429_with_retry_after(
    start_hub: StartHub, variable: str, route: str, ask: Ask, status: int, most: int
) -> None:
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN, **{variable: ""})
    # While it started, somebody may have asked whether it is ready; that is another route.
    assert [(await ask(hub)).status for _ in range(most)] == [status] * most
    refused = await ask(hub)
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert await hub.sample("whatsapp_hub_rate_limited_total", route=route) == 1


async def test_limits_can_be_set_and_count_each_route_apart(start_hub: StartHub) -> None:
    hub = await start_hub(
        ADMIN_TOKEN=ADMIN_TOKEN,
        RATE_LIMIT_WEBHOOK="2/hour",
        RATE_LIMIT_HEALTH="30/hour",
        RATE_LIMIT_METRICS="4/hour",
        RATE_LIMIT_ADMIN="3/hour",
    )
    assert [(await forged(hub)).status for _ in range(3)] == [401, 401, 429]
    assert [(await get(hub, "/health")).status for _ in range(31)] == [200] * 30 + [429]
    assert [(await get(hub, "/metrics")).status for _ in range(5)] == [200] * 4 + [429]
    assert [(await post(hub, CLEAR, **OPERATOR)).status for _ in range(4)] == [200] * 3 + [429]
    assert (await post(hub, WARM, **OPERATOR)).status == 200
    # Prometheus may ask as often as it likes.
    assert [(await get(hub, "/metrics", Accept="text/plain")).status for _ in range(6)] == [200] * 6
    assert [(await get(hub, "/prometheus/metrics")).status for _ in range(6)] == [200] * 6


async def test_verified_webhook_is_never_refused_because_of_its_address(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(RATE_LIMIT_WEBHOOK="2/hour")
    assert [(await post(hub, WEBHOOK, **SIGNED)).status for _ in range(10)] == [200] * 10
    assert [(await forged(hub)).status for _ in range(3)] == [401, 401, 429]
    assert [(await post(hub, WEBHOOK, **SIGNED)).status for _ in range(10)] == [200] * 10
    large = orjson.dumps({"of": "x" * 200_000})
    assert await hub.post(large) == 200


async def test_failed_handshakes_count_too(start_hub: StartHub) -> None:
    hub = await start_hub(RATE_LIMIT_WEBHOOK="2/hour")
    assert [(await get(hub, WEBHOOK)).status for _ in range(3)] == [403, 403, 429]


async def test_large_body_of_an_address_over_its_limit_is_not_read(start_hub: StartHub) -> None:
    hub = await start_hub(RATE_LIMIT_WEBHOOK="1/hour")
    assert (await forged(hub)).status == 401

    async def never_comes() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with asyncio.timeout(2):
        large = {"Content-Length": str(64 * 1024 + 1)}
        assert (await hub.exchange("POST", WEBHOOK, data=never_comes(), headers=large)).status == 429


async def test_every_request_counts_where_nothing_is_signed(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(WHATSAPP_APP_SECRET="", ALLOW_UNSIGNED_WEBHOOKS="true", RATE_LIMIT_WEBHOOK="3/hour")
    hub.graph.statuses.target = None  # what comes of the reply would be counted too
    assert [(await post(hub, WEBHOOK, **SIGNED)).status for _ in range(4)] == [200] * 3 + [429]


@pytest.mark.parametrize(
    ("proxies", "first", "second", "together"),
    [
        pytest.param("", FIRST, SECOND, True, id="nobody is trusted"),
        pytest.param("10.0.0.0/8", FIRST, SECOND, True, id="another is trusted"),
        pytest.param("127.0.0.1", FIRST, SECOND, False, id="the proxy is trusted"),
        pytest.param("127.0.0.1", f"{FIRST}, {SECOND}", SECOND, True, id="right-most hop that is not trusted"),
        pytest.param("127.0.0.1,10.0.0.0/8", f"{FIRST}, 10.0.0.1", FIRST, True, id="a trusted hop behind it"),
        pytest.param("127.0.0.1", "2001:db8::1", "2001:db8::2", True, id="one IPv6 network"),
        pytest.param("127.0.0.1", "2001:db8::1", "2001:db8:0:1::1", False, id="two IPv6 networks"),
    ],
)
async def test_trusted_proxies_say_who_it_is(
    start_hub: StartHub, proxies: str, first: str, second: str, together: bool
) -> None:
    hub = await start_hub(TRUSTED_PROXIES=proxies, RATE_LIMIT_WEBHOOK="1/hour")
    assert (await post(hub, WEBHOOK, **coming_from(first))).status == 401
    assert (await post(hub, WEBHOOK, **coming_from(second))).status == (429 if together else 401)


# With a Redis


async def test_limits_are_shared_through_the_redis_of_redis_url(start_hub: StartHub, redis_server: RedisServer) -> None:
    limits = {"REDIS_URL": redis_server.url, "RATE_LIMIT_WEBHOOK": "3/hour", "RATE_LIMIT_METRICS": "2/hour"}
    hubs = [await start_hub(**limits) for _ in range(2)]
    assert [(await forged(hub)).status for hub in (*hubs, *hubs)] == [401, 401, 401, 429]
    assert [(await get(hub, "/metrics")).status for hub in (*hubs, *hubs)] == [200, 200, 429, 429]


async def test_webhooks_pass_and_admin_closes_while_redis_is_away(
    database: Database, start_hub: StartHub, redis_server: RedisServer
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(REDIS_URL=redis_server.url, ADMIN_TOKEN=ADMIN_TOKEN, RATE_LIMIT_WEBHOOK="1/hour")
    await redis_server.stop()
    assert [(await forged(hub)).status for _ in range(3)] == [401] * 3
    assert (await post(hub, WEBHOOK, **SIGNED)).status == 200
    assert (await get(hub, "/health")).status == 200
    closed = await post(hub, CLEAR, **OPERATOR)
    assert (closed.status, int(closed.headers["Retry-After"]) > 0) == (503, True)
