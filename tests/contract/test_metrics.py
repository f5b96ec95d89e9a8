"""Every metric of the contract, by name and labels, as Prometheus sees it after real traffic of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from prometheus_client.samples import Sample

from tests.contract.conftest import Failing
from tests.hub import VAULT, Hub, StartHub, business, hubs_on, own_database, text_message, until, webhook_of
from whatsapp_hub import __version__
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.inbox import census

#: The labels of each metric, without those that a histogram has by itself.
TABLE: Mapping[str, set[str]] = {
    "webhook_requests_total": {"business", "status"},
    "webhook_request_duration_seconds": set(),
    "whatsapp_hub_items_total": {"kind", "outcome"},
    "whatsapp_hub_replies_total": {"result", "business"},
    "whatsapp_hub_pending_messages": set(),
    "whatsapp_hub_oldest_pending_seconds": set(),
    "whatsapp_hub_dead_letters": {"business"},
    "whatsapp_hub_commit_seconds": set(),
    "whatsapp_hub_commit_rows": set(),
    "whatsapp_hub_turn_seconds": {"stage"},
    "whatsapp_hub_graph_requests_total": {"endpoint", "outcome"},
    "whatsapp_hub_business_cache_hits_total": set(),
    "whatsapp_hub_business_cache_misses_total": set(),
    "whatsapp_hub_business_cache_size": set(),
    "whatsapp_hub_rate_limited_total": {"route"},
    "whatsapp_hub_ready": set(),
    "whatsapp_hub_build_info": {"version"},
    "whatsapp_hub_business_held": {"business", "reason"},
    "whatsapp_hub_token_expires_seconds": {"business"},
    "whatsapp_hub_assistant_tokens_total": {"business", "direction"},
}
HISTOGRAMS = {name for name in TABLE if name.endswith("_seconds") and "pending" not in name and "token" not in name}
HISTOGRAMS |= {"whatsapp_hub_commit_rows"}

#: What the traffic below has to leave behind: a metric, its labels, and what it is at least.
TRACES: list[tuple[str, dict[str, str], float]] = [
    ("webhook_requests_total", {"business": "b101", "status": "200"}, 2),
    ("webhook_requests_total", {"business": "several", "status": "200"}, 1),
    ("webhook_requests_total", {"business": "unverified", "status": "401"}, 1),
    ("webhook_requests_total", {"business": "other", "status": "400"}, 1),
    ("webhook_request_duration_seconds_count", {}, 5),
    ("whatsapp_hub_items_total", {"kind": "message", "outcome": "new"}, 6),
    ("whatsapp_hub_items_total", {"kind": "message", "outcome": "duplicate"}, 1),
    ("whatsapp_hub_items_total", {"kind": "message", "outcome": "ignored"}, 1),
    ("whatsapp_hub_items_total", {"kind": "status", "outcome": "new"}, 1),
    ("whatsapp_hub_items_total", {"kind": "status", "outcome": "ignored"}, 1),
    ("whatsapp_hub_items_total", {"kind": "other", "outcome": "ignored"}, 1),
    ("whatsapp_hub_replies_total", {"business": "b101", "result": "sent"}, 1),
    ("whatsapp_hub_replies_total", {"business": "b102", "result": "failed"}, 1),
    ("whatsapp_hub_replies_total", {"business": "b103", "result": "ambiguous"}, 1),
    ("whatsapp_hub_pending_messages", {}, 1),
    ("whatsapp_hub_oldest_pending_seconds", {}, 0.001),
    ("whatsapp_hub_dead_letters", {"business": "b102"}, 1),
    ("whatsapp_hub_commit_seconds_count", {}, 1),
    ("whatsapp_hub_commit_rows_count", {}, 1),
    ("whatsapp_hub_commit_rows_sum", {}, 6),
    *[("whatsapp_hub_turn_seconds_count", {"stage": stage}, 1) for stage in ("queue", "assistant", "send", "total")],
    ("whatsapp_hub_graph_requests_total", {"endpoint": "messages"}, 3),
    ("whatsapp_hub_graph_requests_total", {"endpoint": "typing"}, 1),
    ("whatsapp_hub_business_cache_hits_total", {}, 1),
    ("whatsapp_hub_business_cache_misses_total", {}, 1),
    ("whatsapp_hub_business_cache_size", {}, 4),
    ("whatsapp_hub_rate_limited_total", {"route": "webhook"}, 1),
    ("whatsapp_hub_rate_limited_total", {"route": "metrics"}, 1),
    ("whatsapp_hub_ready", {}, 1),
    ("whatsapp_hub_build_info", {"version": __version__}, 1),
    ("whatsapp_hub_business_held", {"business": "b104"}, 1),
    ("whatsapp_hub_token_expires_seconds", {"business": "b101"}, 3000),
    ("whatsapp_hub_assistant_tokens_total", {"business": "b101", "direction": "input"}, 20),
    ("whatsapp_hub_assistant_tokens_total", {"business": "b101", "direction": "output"}, 10),
]

on_the_shared_hub = pytest.mark.asyncio(loop_scope="module")


async def make_traffic(hub: Hub) -> None:
    """Let something of every kind happen."""
    messages = hub.graph.control.faults
    messages.arm(Fault(token="token-102", code=131047, status=400))
    messages.arm(Fault(token="token-103", effect=Effect.CLOSE_BEFORE))
    for number in ("101", "102", "103", "104"):
        await hub.say(number, "hello", "wamid.1")
    await hub.say("101", "hello", "wamid.1")
    own = [webhook_of(text_message("hello", wamid="wamid.own"), number=n)["entry"][0] for n in ("105", "101")]
    assert await hub.post({"entry": own}, path="/whatsapp_response/b105", secret="own secret") == 200
    mixed = [webhook_of(text_message("hello", wamid="wamid.2"), number=n)["entry"][0] for n in ("102", "103")]
    assert await hub.post({"entry": mixed}) == 200
    assert await hub.post({"of": "tomorrow"}) == 200
    assert await hub.post(webhook_of(number="101", statuses=[{"id": "wamid.x", "status": "read"}])) == 200
    assert await hub.post(b"no JSON") == 400
    assert [await hub.post(b"{}", secret="guessed") for _ in range(2)] == [401, 429]
    assert [(await hub.exchange("GET", "/metrics")).status for _ in range(2)] == [200, 429]


@pytest_asyncio.fixture(name="scraped", loop_scope="module", scope="module")
async def _scraped(mongodb_uri: str) -> AsyncIterator[list[Sample]]:
    """What a scrape says after all that."""
    expires = {"whatsappTokenExpiresAt": datetime.now(UTC) + timedelta(hours=1)}
    own = {"whatsappAppSecret": VAULT.encrypt("own secret")}
    documents = [
        business("101", **expires),
        business("102"),
        business("103"),
        business("104", whatsappAccessToken="damaged"),
        business("105", **own),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "EVERY_S", 0.05)
        async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
            await database.businesses.insert_many(documents)
            yield await scrape(start)


async def scrape(start: StartHub) -> list[Sample]:
    hub = await start(
        ASSISTANT="openai",
        AI_MODEL="stand-in",
        TYPING_INDICATOR="true",
        WARMUP_CACHE="false",
        RATE_LIMIT_WEBHOOK="1/hour",
        RATE_LIMIT_METRICS="1/hour",
    )
    await make_traffic(hub)
    samples: list[Sample] = []

    async def all_there() -> bool:
        samples[:] = await hub.samples()
        return all(find(samples, name, labels) >= least for name, labels, least in TRACES)

    with suppress(TimeoutError):  # the tests below say what is missing
        await until(all_there, 5)
    return samples


def find(samples: list[Sample], name: str, labels: Mapping[str, str]) -> float:
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@on_the_shared_hub
@pytest.mark.parametrize(("name", "labels", "least"), TRACES, ids=str)
async def test_trace_of_the_traffic(scraped: list[Sample], name: str, labels: dict[str, str], least: float) -> None:
    assert find(scraped, name, labels) >= least


@on_the_shared_hub
@pytest.mark.parametrize("name", TABLE)
async def test_metric_has_the_labels_of_the_contract(scraped: list[Sample], name: str) -> None:
    if name in HISTOGRAMS:
        found = [set(s.labels) for s in scraped if s.name in {f"{name}_count", f"{name}_sum"}]
        found += [set(s.labels) - {"le"} for s in scraped if s.name == f"{name}_bucket"]
    else:
        found = [set(s.labels) for s in scraped if s.name == name]
    assert found
    assert all(labels == TABLE[name] for labels in found)


@on_the_shared_hub
@pytest.mark.parametrize(
    ("name", "label", "known"),
    [
        ("whatsapp_hub_items_total", "kind", {"message", "status", "other"}),
        ("whatsapp_hub_items_total", "outcome", {"new", "duplicate", "ignored"}),
        ("whatsapp_hub_replies_total", "result", {"sent", "failed", "ambiguous"}),
        ("whatsapp_hub_turn_seconds_count", "stage", {"queue", "assistant", "send", "total"}),
    ],
)
async def test_label_has_the_values_of_the_contract(
    scraped: list[Sample], name: str, label: str, known: set[str]
) -> None:
    assert {sample.labels[label] for sample in scraped if sample.name == name} <= known


@on_the_shared_hub
async def test_histograms_never_carry_a_business(scraped: list[Sample]) -> None:
    buckets = [sample for sample in scraped if "le" in sample.labels]
    assert len(buckets) > 50
    assert all("business" not in sample.labels for sample in buckets)


@on_the_shared_hub
async def test_business_is_a_subdomain_or_one_of_three_words(scraped: list[Sample]) -> None:
    names = {sample.labels["business"] for sample in scraped if "business" in sample.labels}
    assert names <= {"b101", "b102", "b103", "b104", "b105", "unverified", "several", "other"}


@on_the_shared_hub
async def test_no_label_tells_of_a_customer_or_a_message(scraped: list[Sample]) -> None:
    values = " ".join(value for sample in scraped for value in sample.labels.values())
    assert not any(secret in values for secret in ("4917", "wamid", "hello", "token-"))


async def test_business_label_is_capped_at_business_cache_size_and_then_other(
    database: Database, start_hub: StartHub
) -> None:
    numbers = [str(number) for number in range(201, 206)]
    await database.businesses.insert_many(map(business, numbers))
    hub = await start_hub(BUSINESS_CACHE_SIZE="3")
    for number in numbers:
        await hub.say(number, "hello", "wamid.1")
    await hub.at_rest()
    for name in ("webhook_requests_total", "whatsapp_hub_replies_total"):
        found = [s.labels["business"] for s in await hub.samples() if s.name == name and s.value]
        assert len({*found} - {"several", "other"}) == 3
        assert "other" in found


async def test_ready_follows_the_probe(hub: Hub, failing: Failing) -> None:
    assert await hub.sample("whatsapp_hub_ready") == 1
    with failing("find", "update", "insert", "aggregate"):

        async def is_not_ready() -> bool:
            return await hub.sample("whatsapp_hub_ready") == 0

        await until(is_not_ready)
        assert (await hub.exchange("GET", "/ready")).status == 503
