"""The loads in their long forms, the way into overload, and upstreams that take a minute: ``make soak``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import click
import pytest

from tests.faults.driver import name_customer
from tests.faults.flood import Flood, flood
from tests.faults.history import Delivery, Message
from tests.faults.loads import (
    PRODUCTION,
    Usage,
    acks_s,
    drain_backlog,
    hold_steadily,
    percentile,
    serve_many_tenants,
    take_burst,
    usage_of,
)
from tests.faults.world import NUMBERS, World, open_world
from whatsapp_hub.demo.faults import Effect, Fault

pytestmark = pytest.mark.soak

RAMP_PER_S = (250, 500, 1_000, 2_000, 4_000)
STEP_S = 4.0
REFUSED_WITHIN_S = 2.0  # a second of the hub's, and what a full machine is late


@pytest.mark.timeout(180)
async def test_l1_usual_load_for_a_minute() -> None:
    await hold_steadily(for_s=60)


@pytest.mark.timeout(180)
async def test_l3_ten_times_the_usual_load_for_five_seconds() -> None:
    await take_burst(for_s=5)


@pytest.mark.timeout(600)
async def test_l4_backlog_of_twenty_thousand_messages() -> None:
    await drain_backlog(20_000)


@pytest.mark.timeout(300)
async def test_l8_thousand_tenants_with_ten_thousand_conversations() -> None:
    await serve_many_tenants(1_000, 10_000, rate_per_s=100, for_s=60)


@pytest.mark.timeout(300)
async def test_l2_past_what_it_can_take_it_refuses_at_once_and_loses_nothing() -> None:
    async with open_world(assistant="echo", timing=PRODUCTION) as world:
        said: list[Message] = []
        for rate_per_s in RAMP_PER_S:
            step = await flood(ramp_step(world, rate_per_s))
            tell_of(rate_per_s, step)
            said += step
            await world.at_rest(120)
        await world.assert_holds(messages=said)  # whatever was answered 200 is stored, and no answer takes 5 s
        refusals = [d for m in said for d in m.deliveries if d.status != 200]
        assert {refusal.status for refusal in refusals} <= {503}
        assert all(refusal.retry_after for refusal in refusals)
        assert max(map(duration_s, refusals), default=0.0) <= REFUSED_WITHIN_S


def ramp_step(world: World, rate_per_s: float) -> Flood:
    return Flood(
        port=world.hubs[0].port,
        rate_per_s=rate_per_s,
        for_s=STEP_S,
        numbers=NUMBERS,
        customers=2_000,
        name=f"r{rate_per_s}x",
        connections=1_000,
    )


def duration_s(delivery: Delivery) -> float:
    return delivery.ended_at - delivery.began_at


def tell_of(rate_per_s: float, said: Sequence[Message]) -> None:
    statuses = Counter(delivery.status for message in said for delivery in message.deliveries)
    acks, refused = acks_s(said), [duration_s(d) for m in said for d in m.deliveries if d.status == 503]
    worst = f", refusals at most {max(refused):.3f} s" if refused else ""
    p50, p99 = percentile(acks, 0.5), percentile(acks, 0.99)
    click.echo(
        f"L2: {rate_per_s}/s offered, {len(said) / STEP_S:.0f}/s sent, {dict(statuses)}, ack p50 {p50:.3f}"
        f" p99 {p99:.3f} max {max(acks):.3f} s{worst}"
    )


@pytest.mark.timeout(240)
async def test_i8_what_a_hub_needs_goes_back_when_its_connections_have_been_idle() -> None:
    async with open_world(timing=PRODUCTION) as world:
        hub, said = world.hubs[0], list[Message]()
        seen: list[Usage] = []
        for n in range(12):
            plan = Flood(port=hub.port, rate_per_s=400, for_s=2, numbers=NUMBERS, customers=500, name=f"i{n}x")
            said += await flood(plan)
            await world.at_rest()
            seen.append(usage_of(hub))
            click.echo(f"I8: after burst {n}: {seen[n]}")
        await asyncio.sleep(75)  # longer than idle connections are kept
        after = usage_of(hub)
        click.echo(f"I8: in the end: {after}")
        assert after.rss_bytes <= seen[5].rss_bytes * 1.1
        assert after.files <= 60
        await world.assert_holds(messages=said)


@pytest.mark.timeout(240)
async def test_upstreams_that_take_longer_than_anybody_waits() -> None:
    """F14 and F16 at their real times: Graph is waited for 30 s, a model a minute and more."""
    async with open_world(hubs=2, environment={"AI_TIMEOUT_S": "90"}) as world:
        world.graph.control.faults.arm(
            Fault(customer=name_customer(1), effect=Effect.HANG, accepted=False),
            Fault(customer=name_customer(2), effect=Effect.HANG, accepted=True),
            Fault(endpoint="chat", text="slow", effect=Effect.SLOW_BODY, delay_s=60.0),
        )
        for index in (1, 2):
            await world.driver.say("101", name_customer(index))
        await world.driver.say("102", name_customer(3), text="slow")
        await world.assert_holds(timeout_s=120)
        tries = Counter(send.customer for send in world.graph.log.sends)
        assert [tries[name_customer(index)] for index in (1, 2, 3)] == [2, 1, 1]
        assert len(world.graph.model.requests) == 3
        rows = await world.database.inbox.find({}, {"attempts": 1}).to_list(None)
        assert [row["attempts"] for row in rows] == [1, 1, 1]
