"""F21: clocks jump, hours and days, forwards and back, of the hubs and of the database server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from bench.accounting import read_cpu
from tests.faults.clocks import FakeClock, clean_up
from tests.faults.driver import name_customer
from tests.faults.outages import SLACK_S
from tests.faults.world import World, open_world
from tests.hub import VAULT, until

pytestmark = [pytest.mark.deadlines, pytest.mark.rehearsal]

HOUR_S: Final = 3600
CUSTOMERS: Final = 8


@asynccontextmanager
async def two_hubs(folder: Path) -> AsyncIterator[tuple[World, FakeClock, FakeClock]]:
    """Open a world with two hubs, each with a clock of its own."""
    first, second = FakeClock(folder, "first"), FakeClock(folder, "second")
    async with open_world(prefix=first.prefix) as world:
        await world.start_hub(prefix=second.prefix)
        pids = [hub.pid for hub in world.hubs]
        try:
            yield world, first, second
        finally:
            clean_up(*pids)


async def say_round(world: World, round_number: int) -> None:
    """Have customers that are new say three things each; by Meta's clock, which is right, a second apart."""

    async def speak(customer: str) -> None:
        for second in range(3):
            await world.driver.say("101", customer, timestamp=int(time.time()) + second)

    async with asyncio.TaskGroup() as group:
        for index in range(CUSTOMERS):
            group.create_task(speak(name_customer(round_number * CUSTOMERS + index)))


async def living(world: World) -> set[str]:
    nodes = await world.database.nodes.find({"state": "living"}).to_list(None)
    return {node["_id"] for node in nodes}


def logged(world: World, *words: str) -> list[str]:
    lines = [line for hub in world.hubs for line in hub.log_path.read_text().splitlines()]
    return [line for line in lines if any(word in line for word in words)]


async def jump(world: World, clocks: tuple[FakeClock, FakeClock], jumps: Iterable[tuple[str, str]]) -> None:
    """Let the clocks jump again and again; stay for longer than a lease each time, and talk before and after."""
    nodes = await living(world)
    for number, offsets in enumerate(jumps):
        for clock, offset in zip(clocks, offsets, strict=True):
            clock.set(offset)
        await say_round(world, 2 * number)
        await asyncio.sleep(world.timing["lease_s"])
        await say_round(world, 2 * number + 1)
    assert await living(world) == nodes, "a jump cost a hub its lease"
    await world.assert_holds()
    assert not logged(world, "dead letter", "node lost", "declared dead")


@pytest.mark.timeout(60)
async def test_clocks_that_jump_apart_cost_no_lease_and_no_answer(tmp_path: Path) -> None:
    async with two_hubs(tmp_path) as (world, first, second):
        await jump(world, (first, second), [("+10d", "-10d")])


@pytest.mark.timeout(120)
async def test_clocks_that_jump_in_every_way_cost_no_lease_and_no_answer(tmp_path: Path) -> None:
    async with two_hubs(tmp_path) as (world, first, second):
        jumps = [("+1h", "-1h"), ("-1h", "+1h"), ("+10d", "-10d"), ("-10d", "+10d"), ("+0", "+0")]
        await jump(world, (first, second), jumps)


@pytest.mark.timeout(60)
async def test_lease_of_a_dead_hub_ends_in_time_whatever_the_clocks_say(tmp_path: Path) -> None:
    async with two_hubs(tmp_path) as (world, first, _):
        world.graph.control.latency_s = (0.4, 0.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(say_round(world, 0))
            await until(lambda: has_taken(world, CUSTOMERS))
        world.hubs[1].kill()
        world.driver.urls = [world.hubs[0].url]
        first.set("-10d")
        killed_at = time.monotonic()
        await world.at_rest()
        took_s = time.monotonic() - killed_at
        timing = world.timing
        # What was being sent waits for a status that came while its hub was dead, or in vain.
        assert took_s < timing["lease_s"] + timing["status_wait_s"] + 2 * SLACK_S
        assert len(logged(world, "declared dead")) == 1
        await world.assert_holds()


async def has_taken(world: World, count: int) -> bool:
    return world.driver.acknowledged >= count


@pytest.mark.timeout(60)
async def test_too_old_is_what_both_clocks_say_is_too_old(tmp_path: Path) -> None:
    async with two_hubs(tmp_path) as (world, first, second):
        first.set("+10d")
        second.set("-10d")
        world.driver.urls = [world.hubs[0].url]
        fresh = await world.driver.say("101", name_customer(0))
        old = await world.driver.say("101", name_customer(1), timestamp=int(time.time()) - 7 * HOUR_S)
        world.driver.urls = [world.hubs[1].url]
        late = await world.driver.say("101", name_customer(2), timestamp=int(time.time()) - 7 * HOUR_S)
        await world.assert_holds()
        states = {m.wamid: (await world.database.inbox.find_one({"_id": m.key}) or {}) for m in (fresh, old, late)}
        assert [row["state"] for row in states.values()] == ["done", "dead", "done"]
        assert states[old.wamid]["reason"].startswith("too old")


@pytest.mark.timeout(60)
async def test_database_with_a_clock_of_its_own_leaves_the_core_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_EMBEDDED", str(FakeClock(tmp_path, "database").wrap_mongod()))
    async with open_world() as world:
        pid = world.servers[0].pid
        assert pid is not None
        try:
            await asyncio.sleep(1)  # it has just been set up
            before = read_cpu(pid).total_s
            await asyncio.sleep(3)
            assert read_cpu(pid).total_s - before < 0.5 * 3, "something in it waits in a loop"
        finally:
            clean_up(pid)


@pytest.mark.timeout(90)
async def test_database_whose_clock_jumps_throws_away_nothing_that_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(tmp_path, "database")
    monkeypatch.setenv("HUB_EMBEDDED", str(clock.wrap_mongod()))
    async with open_world() as world:
        pid = world.servers[0].pid
        try:
            nodes = await living(world)
            world.graph.control.tokens = {"101": "token-101", "102": "another"}
            await world.driver.say("102", name_customer(0))
            await until(lambda: has_rows(world, "102", 1, stage="held"))
            await world.driver.say("102", name_customer(0))  # waits behind it
            for number, offset in enumerate(("+1h", "+10d"), 1):
                clock.set(offset)
                await say_round(world, number)
            await until(lambda: has_rows(world, "101", 2 * 3 * CUSTOMERS, state="done"))
            clock.set("+100d")
            await until(lambda: has_rows(world, "101", 0, state="done"), 20)
            # Backwards last: the server's sweeps then stand still until its clock has caught up.
            for number, offset in enumerate(("+0", "-1h", "-10d"), 3):
                clock.set(offset)
                await say_round(world, number)
            assert await has_rows(world, "102", 2)
            world.graph.control.tokens = None
            change = {"$set": {"whatsappAccessToken": VAULT.encrypt("another")}}
            await world.database.businesses.update_one({"whatsappPhoneNumberIds": "102"}, change)
            await world.at_rest()
            assert await has_rows(world, "102", 2, state="done")
            assert await living(world) == nodes
            said = sorted(word for send in world.graph.log.accepted for word in send.text.split() if "#" in word)
            assert said == sorted(message.label for message in world.driver.messages), "all was answered once"
        finally:
            clean_up(pid)


async def has_rows(world: World, number: str, count: int, **fields: str) -> bool:
    own = {"_id": {"$gte": f"{number}:", "$lt": f"{number};"}}
    return await world.database.inbox.count_documents({**own, **fields}) == count
