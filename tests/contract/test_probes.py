"""The rows of the HTTP table that watch the hub: health, readiness, metrics in both forms; and what comes later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.conftest import Failing
from tests.hub import Answer, Hub, StartHub, business, hubs_on, own_database, until
from whatsapp_hub.database import Database
from whatsapp_hub.http import keys
from whatsapp_hub.telemetry import health

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
AWAY = "203.0.113.7"


@pytest_asyncio.fixture(name="shared_hub", loop_scope="module", scope="module")
async def _shared_hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for every case that leaves it as it is; whoever asks says from where."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        yield await start(TRUSTED_PROXIES="127.0.0.1", RATE_LIMIT_METRICS="100000/minute")


on_the_shared_hub = pytest.mark.asyncio(loop_scope="module")


async def get(hub: Hub, path: str, **headers: str) -> Answer:
    return await hub.exchange("GET", path, headers=headers)


async def wait_for_status(hub: Hub, path: str, status: int) -> Answer:
    async def answer() -> Answer | None:
        found = await get(hub, path)
        return found if found.status == status else None

    return await until(answer)


# Health


@on_the_shared_hub
async def test_health_has_the_four_keys_of_the_guide(shared_hub: Hub) -> None:
    answer = await get(shared_hub, "/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "healthy",
        "timestamp": pytest.approx(time.time(), abs=5),
        "database": "healthy",
        "service": "whatsapp-webhook",
    }


async def test_health_is_200_and_names_a_database_that_is_down(hub: Hub, failing: Failing) -> None:
    with failing("find", "update", "insert", "aggregate"):
        await wait_for_status(hub, "/ready", 503)
        answer = await get(hub, "/health")
        assert (answer.status, answer.json["status"], answer.json["database"]) == (200, "healthy", "unhealthy")


async def test_health_is_503_once_the_loop_lagged(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.LAG_LIMIT_S >= 1  # seconds, as the contract says
    monkeypatch.setattr(health, "LAG_LIMIT_S", 0.2)
    hub = await start_hub()
    assert (await get(hub, "/health")).status == 200
    time.sleep(0.2 + health.LAG_CHECK_S)  # noqa: ASYNC251 - this is what is tested
    answer = await get(hub, "/health")
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")


async def test_health_is_503_while_the_process_stops(hub: Hub) -> None:
    hub.app[keys.HEALTH].stop()
    answer = await get(hub, "/health")
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    assert (await get(hub, "/ready")).json["reasons"] == ["stopping"]


# Readiness


@on_the_shared_hub
async def test_ready_has_two_keys(shared_hub: Hub) -> None:
    await wait_for_status(shared_hub, "/ready", 200)  # it stood still between two tests
    answer = await get(shared_hub, "/ready")
    assert answer.status == 200
    assert answer.json == {"ready": True, "timestamp": pytest.approx(time.time(), abs=5)}


async def test_ready_is_503_with_reasons_while_nothing_can_be_stored(hub: Hub, failing: Failing) -> None:
    with failing("find", "update", "insert", "aggregate"):
        answer = await wait_for_status(hub, "/ready", 503)
        assert {*answer.json} == {"ready", "timestamp", "reasons"}
        assert answer.json["ready"] is False
        assert answer.json["reasons"] == ["the database does not answer"]
    await wait_for_status(hub, "/ready", 200)


async def test_ready_stays_200_and_names_nobody_while_businesses_are_held(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_one(business("101", whatsappAccessToken="damaged"))
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="held")
    answer = await get(hub, "/ready")
    assert answer.status == 200
    assert {*answer.json} == {"ready", "timestamp"}


async def test_probes_do_not_ask_the_database(hub: Hub, failing: Failing) -> None:
    with failing("find", "update", "insert", "aggregate", "ping", "hello", "getMore", "count"):
        async with asyncio.timeout(1):
            for path in ("/health", "/ready", "/metrics", "/prometheus/metrics"):
                assert (await get(hub, path)).status in {200, 503}


# Metrics


async def test_metrics_are_the_json_of_the_guide_and_more(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(
        BUSINESS_CACHE_TTL="120",
        BUSINESS_CACHE_SIZE="50",
        WARMUP_CACHE="false",
        MONGODB_MAX_POOL_SIZE="40",
        MONGODB_MIN_POOL_SIZE="4",
    )
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    body = (await get(hub, "/metrics")).json
    asked = body["cache"]["hits"] + body["cache"]["misses"]
    assert body == {
        "cache": {
            "size": 1,
            "max_size": 50,
            "ttl_seconds": 120,
            "hits": asked - 1,
            "misses": 1,
            "hit_rate": pytest.approx((asked - 1) / asked, abs=0.001),
        },
        "connection_pool": {"max_pool_size": 40, "min_pool_size": 4},
        "inbox": {
            "pending_messages": pytest.approx(0, abs=1),
            "oldest_pending_seconds": pytest.approx(0, abs=5),
            "dead_letters": 0,
        },
        "timestamp": pytest.approx(time.time(), abs=5),
    }


@on_the_shared_hub
@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/metrics", "", "application/json"),
        ("/metrics", "*/*", "application/json"),
        ("/metrics", "application/json", "application/json"),
        ("/metrics", "text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        ("/metrics", "application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/metrics", PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/prometheus/metrics", "", "text/plain; version=0.0.4; charset=utf-8"),
        ("/prometheus/metrics", "application/json", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_form_of_the_metrics(shared_hub: Hub, path: str, accept: str, content_type: str) -> None:
    answer = await get(shared_hub, path, Accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert (b"whatsapp_hub_build_info" in answer.body) == ("json" not in content_type)


@on_the_shared_hub
@pytest.mark.parametrize("accept", ["*/*", "text/plain", PROMETHEUS])
@pytest.mark.parametrize("path", ["/metrics", "/prometheus/metrics"])
@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("10.0.0.1", 200), ("192.168.0.1", 200), ("fd00::1", 200), (AWAY, 403)],
)
async def test_default_of_metrics_allow(shared_hub: Hub, path: str, accept: str, address: str, status: int) -> None:
    assert (await get(shared_hub, path, **{"Accept": accept, "X-Forwarded-For": address})).status == status


async def test_metrics_allow_lets_others_in_and_the_default_ones_out(start_hub: StartHub) -> None:
    hub = await start_hub(METRICS_ALLOW="203.0.113.0/24", TRUSTED_PROXIES="127.0.0.1")
    for path in ("/metrics", "/prometheus/metrics"):
        assert (await get(hub, path, **{"X-Forwarded-For": AWAY})).status == 200
        assert (await get(hub, path)).status == 403
    assert (await get(hub, "/health")).status == 200


# Every answer


@on_the_shared_hub
@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/nothing"])
async def test_answer_is_neither_stored_nor_taken_for_something_else(shared_hub: Hub, path: str) -> None:
    answer = await get(shared_hub, path)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/json"


@on_the_shared_hub
@pytest.mark.parametrize("path", ["/prometheus/metrics", "/metrics"])
async def test_text_of_the_metrics_is_neither_stored_nor_taken_for_something_else(shared_hub: Hub, path: str) -> None:
    answer = await get(shared_hub, path, Accept="text/plain")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Elsewhere


@on_the_shared_hub
async def test_playground_is_in_the_demo_only(shared_hub: Hub) -> None:
    answer = await shared_hub.exchange("GET", "/playground")
    assert answer.status == 404
    assert "whatsapp-hub demo" in answer.json["error"]
