"""I6 to I8 and I10, and the loads L1, L3, L4 and L8 in short. The long forms are in ``test_soak_load.py``."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.driver import PATH, name_customer
from tests.faults.flood import Flood, flood
from tests.faults.history import Message
from tests.faults.hubs import HubProcess
from tests.faults.loads import (
    FLOOR_S,
    PRODUCTION,
    acks_s,
    answers_s,
    drain_backlog,
    hold_steadily,
    messages_between,
    percentile,
    serve_many_tenants,
    settle,
    take_burst,
    usage_of,
)
from tests.faults.world import World, open_world
from tests.hub import SECRET, VAULT, until
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.demo.faults import Effect, Fault

pytestmark = pytest.mark.deadlines

READY_WITHIN_S = 3.0

# I6


async def test_whatever_is_refused_or_fails_is_counted_and_logged() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        await post_rubbish(world, {b"{}": "wrong", b"[]": "wrong", b"no JSON": sign(b"no JSON", SECRET.encode())})
        faults = [
            Fault(customer=name_customer(1), status=400, code=100),
            Fault(customer=name_customer(2), status=503, code=2, times=2),
            Fault(customer=name_customer(3), effect=Effect.CLOSE_AFTER),
            Fault(endpoint="chat", text="speechless", effect=Effect.GARBAGE, status=200),
        ]
        world.graph.control.faults.arm(*faults)
        for index in (1, 2, 3):
            await world.driver.say("101", name_customer(index))
        await world.driver.say("101", name_customer(4), text="speechless")
        await world.assert_holds(fallback_texts=frozenset({FALLBACK_TEXT}))
        found = {
            "401": await hub.sample("webhook_requests_total", status="401"),
            "400": await hub.sample("webhook_requests_total", status="400"),
            **{
                o: await hub.sample("whatsapp_hub_graph_requests_total", outcome=o)
                for o in ("dead", "retry", "unknown")
            },
            **{r: await hub.sample("whatsapp_hub_replies_total", result=r) for r in ("failed", "ambiguous")},
            "fallback": await hub.sample("whatsapp_hub_assistant_requests_total", outcome="fallback"),
        }
        expected = {"401": 2, "400": 1, "dead": 1, "retry": 2, "unknown": 1, "failed": 1, "ambiguous": 1, "fallback": 1}
        assert found == expected
        await until_logged(hub, {401: 2, 400: 1})
        logged = Counter(line["message"] for line in log_of(hub))
        assert (logged["reply not sent"], logged["dead letter"]) == (4, 1)
        assert logged["assistant gave no answer, the fallback is sent"] == 1
        await until_sampled(hub, "whatsapp_hub_dead_letters", 1)


async def post_rubbish(world: World, signatures: dict[bytes, str]) -> None:
    for body, signature in signatures.items():
        headers = {"X-Hub-Signature-256": signature}
        async with world.driver._client.post(world.url + PATH, data=body, headers=headers) as response:
            assert response.status in {400, 401}


def log_of(hub: HubProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in hub.log_path.read_text().splitlines()]


async def until_logged(hub: HubProcess, refused: dict[int, int]) -> None:
    """Wait until the log tells of so many refused webhooks by status: it writes one line a second."""

    async def told() -> bool:
        counts: Counter[int] = Counter()
        for line in log_of(hub):
            if line["message"] == "webhooks refused":
                counts[line["status"]] += line["count"]
        return counts == refused

    await until(told)


async def until_sampled(hub: HubProcess, name: str, value: float) -> None:
    async def has() -> bool:
        return await hub.sample(name) == value

    await until(has)


@pytest.mark.timeout(60)
async def test_readiness_tells_of_an_outage_and_of_its_end_within_seconds_and_no_refusal_is_lost() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        world.pause_server()
        assert await seconds_until_ready_is(hub, 503) <= READY_WITHIN_S
        async with asyncio.TaskGroup() as group:
            for index in range(5):
                group.create_task(world.driver.say("101", name_customer(index)))
            await asyncio.sleep(2)
            world.resume_server()
            assert await seconds_until_ready_is(hub, 200) <= READY_WITHIN_S
        await world.assert_holds()
        refused = Counter(d.status for m in world.driver.messages for d in m.deliveries if d.status != 200)
        assert refused.keys() == {503}
        assert await hub.sample("webhook_requests_total", status="503") == refused[503]
        await until_logged(hub, dict(refused))


async def seconds_until_ready_is(hub: HubProcess, status: int) -> float:
    began = time.monotonic()

    async def is_told() -> bool:
        return (await hub.get("/ready"))[0] == status

    await until(is_told, 15)
    return time.monotonic() - began


# I7


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What a business that did nothing wrong noticed."""

    ack_p99_s: float
    answer_p99_s: float

    def are_bearable(self, baseline: Waits) -> bool:
        return self.ack_p99_s <= 2 * max(baseline.ack_p99_s, FLOOR_S) and self.answer_p99_s <= 2 * max(
            baseline.answer_p99_s, FLOOR_S
        )


@pytest.mark.soak  # figures that other tests at the same time would spoil
@pytest.mark.timeout(120)
async def test_business_that_is_noisy_slow_or_broken_is_not_noticed_by_another() -> None:
    """All of it at once. What the machine itself does in between is told apart by trying it again."""
    numbers = ("noisy", "speechless", "slow", "refused", "good")
    # With few turns to share, who takes too many of them shows before the machine's own limits do.
    async with open_world(numbers=numbers, timing=FEW_TURNS) as world:
        world.graph.control.latency_s = (0.05, 0.1)
        said: list[Message] = []
        seen: list[tuple[Waits, Waits]] = []
        while len(seen) < 3 and not any(waits.are_bearable(baseline) for waits, baseline in seen):
            baseline = await waits_of_the_good_one(world)
            make_trouble(world)
            async with asyncio.TaskGroup() as group:
                noise = group.create_task(flood(noisy(world, f"n{len(seen)}x")))
                group.create_task(talk(world))
                waits = await waits_of_the_good_one(world)
            said += noise.result()
            seen.append((waits, baseline))
            await end_trouble(world, f"token-refused-{len(seen)}")
            await world.assert_holds(messages=[*world.driver.messages, *said], timeout_s=45)
        assert seen[-1][0].are_bearable(seen[-1][1]), seen


GOOD_PER_S = 4.0
FEW_TURNS = {**PRODUCTION, "held_recheck_s": 0.5, "max_turns": 20, "max_conversations": 400}


async def waits_of_the_good_one(world: World, for_s: float = 4.0) -> Waits:
    began = time.monotonic()
    await world.driver.converse(numbers=("good",), customers=40, rate_per_s=GOOD_PER_S, for_s=for_s)
    messages = messages_between(world, began, time.monotonic(), "good")

    async def answered() -> Sequence[float] | None:
        try:
            return answers_s(world, messages)
        except KeyError:
            return None

    answers = await until(answered)
    return Waits(ack_p99_s=percentile(acks_s(messages), 0.99), answer_p99_s=percentile(answers, 0.99))


def noisy(world: World, name: str) -> Flood:
    rate_per_s = 20 * GOOD_PER_S
    return Flood(
        port=world.hubs[0].port,
        rate_per_s=rate_per_s,
        for_s=4,
        numbers=("noisy",),
        customers=200,
        name=name,
        connections=50,
    )


async def talk(world: World) -> None:
    numbers = ("speechless", "slow", "refused")
    await world.driver.converse(
        numbers=numbers, customers=60, rate_per_s=12, for_s=4, first_customer=1_000, words=lambda _: HANGS
    )


HANGS = "silence"


def make_trouble(world: World) -> None:
    world.graph.control.faults.arm(
        Fault(endpoint="chat", text=HANGS, times=None, effect=Effect.HANG, delay_s=5.0),
        Fault(token="token-slow", times=None, effect=Effect.SLOW_BODY, delay_s=3.0),
        Fault(token="token-refused", times=None, status=401, code=190),
    )


async def end_trouble(world: World, token: str) -> None:
    world.graph.control.faults.clear()
    change = {"$set": {"whatsappAccessToken": VAULT.encrypt(token)}}
    await world.database.businesses.update_one({"whatsappPhoneNumberIds": "refused"}, change)


# I8

SMALL_POOLS = {"AI_MAX_CONNECTIONS": "50", "MOTOR_MAX_WORKERS": "8"}


@pytest.mark.soak  # figures that other tests at the same time would spoil
@pytest.mark.timeout(90)
async def test_what_a_hub_needs_goes_back_after_a_burst() -> None:
    # Pools keep what they have for a while, so they are small here and full before it counts.
    async with open_world(environment=SMALL_POOLS, timing=PRODUCTION) as world:
        hub = world.hubs[0]
        said: list[Message] = []

        async def burst(name: str) -> None:
            plan = Flood(
                port=hub.port,
                rate_per_s=300,
                for_s=1,
                numbers=("101", "102"),
                customers=500,
                name=name,
                connections=200,
            )
            said.extend(await flood(plan))
            await world.at_rest()

        await burst("a")
        await burst("b")
        before = usage_of(hub)
        await burst("c")
        after = await settle(hub, before, share=0.1, timeout_s=15)
        assert after.is_near(before, 0.1), (before, after)
        await world.assert_holds(messages=said)


async def test_threads_share_a_heap_that_is_there() -> None:
    async with open_world() as world:
        async with asyncio.TaskGroup() as group:
            for index in range(20):
                group.create_task(world.driver.say("101", name_customer(index)))
        await world.assert_holds()
        # The log's writer is there before the server, and may have one of its own.
        assert world.hubs[0].thread_heaps() <= 1


# Loads


@pytest.mark.soak  # figures that other tests at the same time would spoil
async def test_usual_load_is_acknowledged_at_once() -> None:
    await hold_steadily(for_s=5)


@pytest.mark.soak  # figures that other tests at the same time would spoil
@pytest.mark.timeout(90)
async def test_burst_is_taken_or_refused_and_soon_worked_off() -> None:
    await take_burst(for_s=2)


@pytest.mark.timeout(90)
async def test_backlog_at_a_cold_start_is_worked_off_in_bounded_memory() -> None:
    await drain_backlog(3_000)


@pytest.mark.soak  # figures that other tests at the same time would spoil
async def test_tenant_with_few_conversations_waits_no_longer_than_one_with_many() -> None:
    await serve_many_tenants(50, 1_000, rate_per_s=80, for_s=5)
