"""Death after death for minutes, under load: ``make soak``. Each test tells its figures."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

import click
import pytest

from tests.faults.driver import name_customer
from tests.faults.history import History
from tests.faults.outages import (
    PRODUCTION,
    UNREADY_WITHIN_S,
    Outage,
    answered_at,
    assert_back,
    assert_fresh,
    assert_refused,
    assert_told,
    assert_within,
    deliveries,
    recovery,
    talking,
    watching,
)
from tests.faults.sightings import Sightings
from tests.faults.world import World, open_world
from tests.hub import until
from whatsapp_hub.inbox.document import State

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

L1_PER_S: Final = 60.0  #: messages: each is followed by three statuses
REST_S: Final = 60.0
RECOVERED_WITHIN_S: Final = 20.0  #: a lease and a round of production, and what it takes to get going


async def test_a_database_that_is_killed_five_times_in_a_minute() -> None:
    async with open_world() as world, watching(world.hubs[0]) as watch, telling(world):
        outages: list[Outage] = []
        async with talking(world, for_s=62, rate_per_s=L1_PER_S):
            for _ in range(5):
                await asyncio.sleep(6)
                await world.kill_server()
                began_at = time.monotonic()
                await asyncio.sleep(3.5)
                ended_at = time.monotonic()
                await world.start_server()
                await world.primary()
                outages.append(Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic()))
        await world.assert_holds(timeout_s=REST_S, recoveries=[recovery(world, outage.back_at) for outage in outages])
        for outage in outages:
            assert_refused(world, outage)
            assert_back(world, outage)
            assert_told(watch, outage)
        await assert_fresh(world, after=outages[-1].back_at + world.timing["lease_s"] + world.timing["round_s"])


@pytest.mark.parametrize("hubs", [1, 3])
async def test_a_primary_that_sleeps_for_15_s_and_comes_back_as_an_old_one(hubs: int) -> None:
    async with open_world(hubs=hubs, servers=3, nginx=True) as world, telling(world):
        async with talking(world, for_s=30, rate_per_s=L1_PER_S):
            await asyncio.sleep(3)
            old = await world.primary()
            world.pause_server(old)
            asleep_at = time.monotonic()
            assert await world.primary() != old
            elected_at = time.monotonic()
            await asyncio.sleep(15 - (elected_at - asleep_at))
            world.resume_server(old)
        await world.assert_holds(timeout_s=REST_S, recoveries=[recovery(world, elected_at)])
        asleep = Outage(began_at=asleep_at, ended_at=asleep_at + 1, back_at=elected_at)
        assert_refused(world, asleep)
        assert_back(world, asleep)


async def test_a_database_that_hangs_is_told_in_time_with_the_times_of_production() -> None:
    async with open_world(timing=PRODUCTION) as world, watching(world.hubs[0]) as watch, telling(world):
        async with talking(world, for_s=8):
            await asyncio.sleep(1)
            world.pause_server()
            began_at = time.monotonic()
            await asyncio.sleep(UNREADY_WITHIN_S + 1)
            ended_at = time.monotonic()
            world.resume_server()
            outage = Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic())
        await world.assert_holds(timeout_s=REST_S)
        assert_refused(world, outage)
        assert_back(world, outage)
        assert_told(watch, outage)


async def test_a_killed_hub_is_succeeded_with_the_times_of_production() -> None:
    async with open_world(hubs=2, nginx=True, timing=PRODUCTION) as world, telling(world):
        world.graph.model.latency_s = (3.0, 3.0)
        world.driver.urls = [world.hubs[1].url]
        messages = await asyncio.gather(*(world.driver.say("101", name_customer(index)) for index in range(50)))
        world.hubs[1].kill()
        killed_at = time.monotonic()
        world.graph.model.latency_s = (0.0, 0.0)
        keys = [message.key for message in messages]

        async def are_done() -> bool:
            return await world.database.inbox.count_documents({"_id": {"$in": keys}, "state": State.DONE}) == len(keys)

        await until(are_done, REST_S)
        await world.assert_holds(timeout_s=REST_S)
        answers = answered_at(world)
        assert_within(
            max(answers[message.label] for message in messages) - killed_at, RECOVERED_WITHIN_S, "all was answered"
        )


@pytest.mark.parametrize("servers", [1, 3])
async def test_hubs_that_are_killed_every_2_s_at_200_messages_a_second(servers: int) -> None:
    for_s = 120.0
    async with open_world(hubs=3, servers=servers, nginx=True) as world, telling(world):
        async with talking(world, for_s=for_s, rate_per_s=200, customers=1000), asyncio.TaskGroup() as group:
            group.create_task(keep_killing_hubs(world, for_s))
            if servers > 1:
                group.create_task(keep_killing_primaries(world, for_s))
        for hub in world.hubs:
            await hub.ready()
        await world.assert_holds(timeout_s=REST_S)


async def keep_killing_hubs(world: World, for_s: float) -> None:
    """Kill one hub after the other, and start it again at once."""
    ends_at = time.monotonic() + for_s
    for hub in cycle(world.hubs):
        await asyncio.sleep(2)
        if time.monotonic() > ends_at:
            return
        hub.kill()
        hub.start()


async def keep_killing_primaries(world: World, for_s: float) -> None:
    """Kill the primary every 15 s; it is a secondary when it comes back."""
    ends_at = time.monotonic() + for_s
    while time.monotonic() + 15 < ends_at:
        due = time.monotonic() + 15
        primary = await world.primary()
        await world.kill_server(primary)
        await asyncio.sleep(5)
        await world.start_server(primary)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


class AmbiguousCount:
    """How many sends the hubs counted as ambiguous, as far as they could be asked before they died."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], float] = {}

    @property
    def total(self) -> int:
        return int(sum(self._counted.values()))

    async def run(self, world: World) -> None:
        """Ask again and again, until cancelled."""
        while True:
            for hub in world.hubs:
                if hub.alive and not hub.paused:
                    key = (hub.name, hub.starts)
                    value = await hub.sample("whatsapp_hub_replies_total", result="ambiguous")
                    self._counted[key] = max(value, self._counted.get(key, 0.0))
            await asyncio.sleep(0.5)


@asynccontextmanager
async def telling(world: World) -> AsyncIterator[None]:
    """Tell the figures at the end, whatever comes of it."""
    ambiguous = AmbiguousCount()
    task = asyncio.create_task(ambiguous.run(world))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        click.echo(f"\n{describe(world, await world.history(), ambiguous.total)}")


def describe(world: World, history: History, ambiguous: int) -> str:
    """Say in one line what came of it."""
    copies = sum(len(sent) - 1 for sent in Sightings(history).copies.values())
    resent = sum(
        max(0, part["attempt"] - part["failures"] - 1) for row in history.rows for part in row.get("parts", ())
    )
    statuses = Counter(one.status for one in deliveries(world))
    states = Counter(row["state"] for row in history.rows)
    outcomes = Counter(row.get("outcome") for row in history.rows if row["state"] == State.DONE)
    starts = sum(hub.starts for hub in world.hubs)
    reasons = Counter(row["reason"] for row in history.rows if row["state"] == State.DEAD)
    return (
        f"{len(world.driver.messages)} messages, {world.driver.acknowledged} acknowledged; answers {dict(statuses)};"
        f" {len(world.graph.log.accepted)} replies; {copies} copies, {resent} resent, {ambiguous} counted as ambiguous;"
        f" {dict(states)}, {dict(outcomes)}, dead: {dict(reasons)}; {starts} starts of hubs; {describe_waits(world)}"
    )


def describe_waits(world: World) -> str:
    """Say how long refusals, acknowledgements (since the first try) and replies (since the acknowledgement) took."""
    answers = answered_at(world)
    acked = [(message, message.acked_at) for message in world.driver.messages if message.acked_at is not None]
    waits_s = {
        "refused": [one.ended_at - one.began_at for one in deliveries(world) if one.status == 503],
        "acknowledged": [acked_at - message.sent_at for message, acked_at in acked],
        "answered": [answers[message.label] - acked_at for message, acked_at in acked if message.label in answers],
    }
    return ", ".join(f"{what} after {describe_quantiles(waits)}" for what, waits in waits_s.items() if waits)


def describe_quantiles(waits_s: Sequence[float]) -> str:
    ordered = sorted(waits_s)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"{p50:.2f} s (p99 {p99:.2f}, max {ordered[-1]:.2f})"
