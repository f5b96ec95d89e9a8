"""Businesses never mix, also under load; and the cache of businesses is asked almost always with success."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from tests.hub import VAULT, Hub, StartHub, business, text_message, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import fingerprint

CONNECTIONS = 64
BATCH = 5  #: messages of one webhook, of different businesses

Said = tuple[str, str, str]  #: to whom, by whom, what


def wamid_of(said: Said) -> str:
    """Name a message; customers and ids are the same at every business, so that only the number tells them apart."""
    _, sender, text = said
    return f"wamid.{sender}.{text.rpartition(' ')[2]}"


async def post_all(hub: Hub, messages: Sequence[Said]) -> None:
    """Post messages, each webhook with those of several businesses, many at a time."""
    slots = asyncio.Semaphore(CONNECTIONS)

    async def post(batch: Iterable[Said]) -> None:
        entries = [
            webhook_of(text_message(said[2], wamid=wamid_of(said), sender=said[1]), number=said[0])["entry"][0]
            for said in batch
        ]
        async with slots:
            assert await hub.post({"entry": entries}) == 200

    await asyncio.gather(*(post(messages[start : start + BATCH]) for start in range(0, len(messages), BATCH)))


async def cache(hub: Hub) -> dict[str, float]:
    figures: dict[str, float] = (await hub.exchange("GET", "/metrics")).json["cache"]
    return figures


# Fifty businesses


def fifty_businesses() -> list[dict[str, Any]]:
    """Every other one is answered by a model, with instructions, a model and a key of its own."""
    model = {"kind": "openai"}
    return [
        business(
            number,
            assistant=model
            | {
                "model": f"model-{number}",
                "instructions": f"You are {number}.",
                "apiKey": VAULT.encrypt(f"key-{number}"),
            }
            if int(number) % 2
            else {"kind": "echo"},
        )
        for number in map(str, range(500, 550))
    ]


@pytest.mark.timeout(60)
@pytest.mark.deadlines  # at its load, and alone
async def test_fifty_businesses_never_mix_under_load(database: Database, start_hub: StartHub) -> None:
    documents = fifty_businesses()
    numbers = [document["whatsappPhoneNumberIds"][0] for document in documents]
    await database.businesses.insert_many(documents)
    hub = await start_hub(ASSISTANT="none", BUSINESS_CACHE_SIZE="20")
    hub.graph.control.tokens = {number: f"token-{number}" for number in numbers}
    hub.graph.control.latency_s = (0.0, 0.05)
    hub.graph.model.latency_s = (0.0, 0.05)
    messages = [
        (number, f"49{c}", f"business {number} m{n}") for n in range(3) for number in numbers for c in range(24)
    ]
    Random(1).shuffle(messages)

    await post_all(hub, messages)
    await hub.at_rest()

    assert len(messages) == 3600
    assert [send for send in hub.graph.log.sends if not send.accepted] == []  # no token was refused
    assert [send for send in hub.graph.log.sends if send.token != fingerprint(f"token-{send.phone_number_id}")] == []
    said = Counter((number, sender, text) for number, sender, text in messages)
    echoed = Counter(
        (send.phone_number_id, send.customer, line.removeprefix("echo: "))
        for send in hub.graph.log.accepted
        for line in send.text.split("\n")
        if int(send.phone_number_id) % 2 == 0
    )
    assert echoed == Counter({key: count for key, count in said.items() if int(key[0]) % 2 == 0})
    assert_models_heard_their_own(hub, said)


def assert_models_heard_their_own(hub: Hub, said: Counter[Said]) -> None:
    """Each question has the instructions, the model, the key, the customer's words and the history of one business."""
    asked = hub.graph.model.requests
    assert len(asked) >= 25
    for request in asked:
        number = request.body["model"].removeprefix("model-")
        system, *rest = request.body["messages"]
        assert request.authorization == f"Bearer key-{number}"
        assert system["content"] == f"You are {number}."
        words = "\n".join(message["content"] for message in rest)
        assert words.count("business ") == words.count(f"business {number} ") > 0
    answered = Counter(send.phone_number_id for send in hub.graph.log.accepted)
    for send in hub.graph.log.accepted:
        assert send.text.count("business ") == send.text.count(f"business {send.phone_number_id} ") > 0
    assert {*answered} == {number for number, _, _ in said}


# Five hundred


async def test_hit_rate_is_at_least_95_percent_after_the_warm_up_at_500_businesses(
    database: Database, start_hub: StartHub
) -> None:
    numbers = [str(number) for number in range(1000, 1500)]
    await database.businesses.insert_many(map(business, numbers))
    busy = numbers[::5]  # these hundred wrote last
    now = datetime.now(UTC)
    await database.conversations.insert_many(
        {"_id": f"{number}:491", "updated_at": now - timedelta(seconds=n), "business": "any", "turns": []}
        for n, number in enumerate(busy)
    )
    hub = await start_hub(ASSISTANT="none", RATE_LIMIT_METRICS="1000/minute")
    assert (await cache(hub))["size"] == 100

    # Right after the start, as days go: most of what comes is for those who were busy before.
    days_work = [(number, f"49{c}", f"m{c}") for c in range(10) for number in busy]
    await post_all(hub, [*days_work, *[(number, "49", "m") for number in numbers[:30]]])
    await hub.at_rest()
    figures = await cache(hub)
    assert figures["hits"] + figures["misses"] >= 1000
    assert figures["hit_rate"] >= 0.95

    # Once everybody has been heard of, whoever comes next.
    await post_all(hub, [(number, "48", "m") for number in numbers])
    await hub.at_rest()
    before = await cache(hub)
    await post_all(hub, [(number, f"47{c}", f"m{c}") for c in range(2) for number in numbers])
    await hub.at_rest()
    after = await cache(hub)
    assert after["size"] == 500
    hits, misses = (after[name] - before[name] for name in ("hits", "misses"))
    assert hits + misses >= 1000
    assert hits / (hits + misses) >= 0.95
    assert await hub.sample("whatsapp_hub_business_cache_hits_total") == after["hits"]
    assert await hub.sample("whatsapp_hub_business_cache_misses_total") == after["misses"]
