"""The database dies, refuses, hangs, steps down and elects: nothing acknowledged is lost, and the hub tells it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import pytest
from pymongo.errors import PyMongoError

from tests.faults.history import Message
from tests.faults.hubs import HubProcess
from tests.faults.outages import (
    BACK_WITHIN_S,
    PRODUCTION,
    REFUSED_WITHIN_S,
    UNREADY_WITHIN_S,
    Outage,
    assert_back,
    assert_fresh,
    assert_quick,
    assert_refused,
    assert_told,
    deliveries,
    recovery,
    talking,
    watching,
)
from tests.faults.world import DATABASE, World, open_world
from tests.hub import until
from whatsapp_hub.demo.database_server import DatabaseServer

pytestmark = pytest.mark.deadlines

ANNA: Final = "491700000001"
BERT: Final = "491700000002"
TIMING: Final = {"status_wait_s": 4.0}  #: longer than statuses take that are delivered again
NOT_CONFIRMED: Final = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}


async def test_a_hub_that_starts_before_its_database_waits_for_it() -> None:
    async with open_world(start=False, timing=TIMING) as world:
        await world.kill_server()
        began_at = time.monotonic()
        hub = world.hubs[0]
        hub.start()
        await until(lambda: is_up(hub))
        pid = hub.pid
        async with watching(hub) as watch, asyncio.TaskGroup() as group:
            group.create_task(world.driver.say("101", ANNA))
            await asyncio.sleep(3)
            assert hub.alive
            ended_at = time.monotonic()
            await world.start_server()
            outage = Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic())
            await hub.ready(BACK_WITHIN_S)
        assert hub.pid == pid, "it started anew"
        await world.assert_holds()
        assert_refused(world, outage)
        assert_back(world, outage)
        assert_told(watch, outage)


@pytest.mark.timeout(60)
async def test_a_database_that_is_killed_twice_under_load() -> None:
    async with open_world(timing=TIMING) as world, watching(world.hubs[0]) as watch:
        async with talking(world, for_s=11):
            outages = []
            for _ in range(2):
                await asyncio.sleep(1.5)
                outages.append(await kill_database(world, down_s=3.2))
        await world.at_rest()  # what came meanwhile is answered too
        recovered_at = time.monotonic()
        async with talking(world, for_s=1):
            pass
        await world.assert_holds(recoveries=[recovery(world, outage.back_at) for outage in outages])
        for outage in outages:
            assert_refused(world, outage)
            assert_back(world, outage)
            assert_told(watch, outage)
        await assert_fresh(world, after=recovered_at)


async def test_what_no_majority_confirmed_is_not_acknowledged() -> None:
    async with open_world(timing=TIMING) as world:
        async with talking(world, for_s=4):
            await asyncio.sleep(1)
            began_at = time.monotonic()
            await fail(world, "alwaysOn", ["insert"], writeConcernError=NOT_CONFIRMED)
            failing_at = time.monotonic()
            await asyncio.sleep(1.5)
            ended_at = time.monotonic()
            stored = await world.database.inbox.distinct("_id")
            await fail(world, "off")
            outage = Outage(began_at=failing_at, ended_at=ended_at, back_at=time.monotonic())
        await world.assert_holds()
        assert_refused(world, outage)
        assert_back(world, outage)
        refused = {
            message.key
            for message in world.driver.messages
            if failing_at < message.sent_at < ended_at - REFUSED_WITHIN_S
        }
        assert refused
        assert refused <= set(stored), "the write was there, and only its confirmation was missing"
        assert began_at < failing_at


async def test_a_write_that_hangs_is_refused_in_time_and_answered_once() -> None:
    async with open_world(timing=TIMING) as world:
        async with talking(world, for_s=4):
            await asyncio.sleep(0.5)
            await fail(world, {"times": 2}, ["insert"], blockConnection=True, blockTimeMS=2_000)
            began_at = time.monotonic()
        await world.assert_holds()
        slow = [one for one in deliveries(world) if one.began_at > began_at]
        assert any(one.status == 503 for one in slow)
        assert_quick(slow)


@pytest.mark.timeout(60)
async def test_a_primary_that_steps_down_and_one_that_is_killed_under_load() -> None:
    async with open_world(servers=3, hubs=3, nginx=True, timing=TIMING) as world:
        async with talking(world, for_s=10):
            await asyncio.sleep(1)
            first = await world.primary()
            await world.databases.command({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 2}, first)
            second = await world.primary()
            stepped_down_at = time.monotonic()
            await asyncio.sleep(2)
            await world.kill_server(second)
            killed_at = time.monotonic()
            third = await world.primary()
            elected_at = time.monotonic()
            await asyncio.sleep(1)
            await world.start_server(second)
        await world.assert_holds(recoveries=[recovery(world, at) for at in (stepped_down_at, elected_at)])
        assert len({first, second, third}) > 1
        assert_back(world, Outage(began_at=stepped_down_at, ended_at=stepped_down_at, back_at=stepped_down_at))
        # It takes the others more than a second to notice that it is dead; meanwhile nobody can confirm anything.
        killed = Outage(began_at=killed_at, ended_at=min(killed_at + 1, elected_at), back_at=elected_at)
        assert_refused(world, killed)
        assert_back(world, killed)


@pytest.mark.timeout(60)
async def test_what_an_old_primary_took_alone_was_never_acknowledged() -> None:
    async with open_world(servers=3, timing=TIMING) as world:
        before = await world.driver.say("101", ANNA)
        await world.at_rest()  # and the business is in the hub's cache
        async with asyncio.TaskGroup() as group:
            old = await world.primary()
            alone, said = await let_take_alone(world, old, group)
            taken = time.monotonic()
            assert await world.primary() != old
            elected_at = time.monotonic()
            message = await said
            world.resume_server(old)

            async def is_rolled_back() -> bool:
                try:
                    kept = await read_from(world.servers[old])
                except PyMongoError:  # it is at it
                    return False
                return kept is None or kept["arrival"] != alone["arrival"]

            await until(is_rolled_back, 20)
        await world.assert_holds()
        assert message.acked_at is not None
        assert message.acked_at > taken, "the old primary's write was acknowledged"
        assert message.acked_at - elected_at < BACK_WITHIN_S
        assert {one.status for one in message.deliveries[:-1]} == {503}
        assert [send.text.split()[0] for send in world.graph.log.accepted] == [before.label, message.label]


@pytest.mark.timeout(60)
async def test_one_secondary_may_die_and_two_are_told_in_time() -> None:
    async with open_world(servers=3, timing={**PRODUCTION, "status_wait_s": 3.0}) as world:
        primary = await world.primary()
        first, second = (index for index in range(3) if index != primary)
        async with watching(world.hubs[0]) as watch, talking(world, for_s=11):
            await asyncio.sleep(0.5)
            await world.kill_server(first)
            await asyncio.sleep(1)
            await next_renewal(world)  # the worst moment: the next is the first that fails
            unnoticed, looks = deliveries(world), list(watch.looks)
            await world.kill_server(second)
            began_at = time.monotonic()
            await asyncio.sleep(UNREADY_WITHIN_S + 0.5)
            ended_at = time.monotonic()
            await world.start_server(first)
            await world.primary()
            outage = Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic())
            await world.hubs[0].ready()
        await world.start_server(second)
        await world.assert_holds()
        assert {one.status for one in unnoticed} == {200}
        assert {look.status for look in looks} == {200}
        assert_refused(world, outage)
        assert_back(world, outage)
        assert_told(watch, outage)


async def kill_database(world: World, *, down_s: float) -> Outage:
    """Kill the one server, and start it again after a while."""
    await world.kill_server()
    began_at = time.monotonic()
    await asyncio.sleep(down_s)
    ended_at = time.monotonic()
    await world.start_server()
    await world.primary()
    return Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic())


async def next_renewal(world: World) -> None:
    """Wait until a node has just said that it is alive."""

    async def read() -> int:
        return sum([node["counter"] async for node in world.database.nodes.find({"state": "living"})])

    former = await read()

    async def has_renewed() -> bool:
        return await read() != former

    await until(has_renewed)


async def fail(world: World, mode: object, commands: list[str] | None = None, **failure: Any) -> None:
    """Have the server fail commands on the inbox, or stop that (``off``)."""
    data = {"failCommands": commands or [], "namespace": f"{DATABASE}.inbox", **failure}
    command = {"configureFailPoint": "failCommand", "mode": mode, **({"data": data} if commands else {})}
    assert await world.databases.command(command) is not None


async def let_take_alone(
    world: World, old: int, group: asyncio.TaskGroup
) -> tuple[Mapping[str, Any], asyncio.Task[Message]]:
    """Have a primary store a message that no other server gets, and put it to sleep; return what it stored."""
    others = [index for index in range(len(world.servers)) if index != old]
    for index in others:  # killed: in the sockets of one that sleeps the write would wait for it
        await world.kill_server(index)
    said = group.create_task(world.driver.say("101", BERT))
    alone = await until(lambda: read_from(world.servers[old]), 2)
    world.pause_server(old)
    for index in others:
        await world.start_server(index)
    return alone, said


async def read_from(server: DatabaseServer) -> dict[str, Any] | None:
    """Return what one server has of Bert's message, confirmed or not."""

    def read() -> dict[str, Any] | None:
        with server.connect() as client:
            return client[DATABASE].inbox.find_one({"conversation": f"101:{BERT}"})

    return await asyncio.to_thread(read)


async def is_up(hub: HubProcess) -> bool:
    """Tell whether a hub answers at all."""
    return (await hub.get("/health"))[0] == 200
