"""Hubs stop, die, sleep and are cut off while others work: what they had goes on elsewhere, once and in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pytest

from tests.faults.driver import name_customer
from tests.faults.history import Message
from tests.faults.hubs import HubProcess
from tests.faults.outages import (
    BACK_WITHIN_S,
    SLACK_S,
    UNREADY_WITHIN_S,
    answered_at,
    assert_fresh,
    assert_quick,
    assert_within,
    deliveries,
    talking,
    watching,
)
from tests.faults.proxy import Mode, open_proxy
from tests.faults.world import World, open_world
from tests.hub import until
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.inbox.document import Stage, State

pytestmark = pytest.mark.deadlines

ANNA: Final = "491700000001"
HANDED_OVER_WITHIN_S: Final = 2.0
DRAIN_S: Final = 5.0
STOPPED_WITHIN_S: Final = DRAIN_S + 7.0  #: and the deadlines of a commit and of the last word, if the database is down
LONG_LEASE: Final = {"lease_s": 60.0, "self_fence_s": 40.0}  #: so that nothing is taken over in its course
L1_PER_S: Final = 80.0


async def test_a_stop_in_the_middle_of_a_commit_answers_everyone() -> None:
    async with open_world(proxy=True) as world:
        hub = world.hubs[0]
        assert world.proxy is not None

        async def stop() -> None:
            await asyncio.sleep(0.1)  # the others wait for the next commit
            hub.terminate()
            await asyncio.sleep(0.2)

        trap = world.proxy.on("insert", "inbox", stop, when="request")
        messages = await say_all(world, 20)
        assert trap.hits
        assert await hub.wait(STOPPED_WITHIN_S) == 0
        assert [[one.status for one in message.deliveries] for message in messages] == [[200]] * 20
        hub.start()
        await hub.ready()
        await world.assert_holds()


async def test_a_second_sigterm_cuts_nothing_short() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        world.graph.model.latency_s = (1.0, 1.0)
        messages = await say_all(world, 10)
        hub.terminate()
        await asyncio.sleep(0.2)
        hub.terminate()
        assert await hub.wait(STOPPED_WITHIN_S) == 0
        assert set(answered_at(world)) == {message.label for message in messages}, "it stopped before its turns ended"
        hub.start()
        await hub.ready()
        await world.assert_holds()


@pytest.mark.timeout(60)
async def test_what_a_stopping_hub_cannot_finish_goes_on_elsewhere_at_once() -> None:
    async with open_world(hubs=2, nginx=True, timing=LONG_LEASE, environment={"DRAIN_TIMEOUT_S": "1"}) as world:
        hub, front = world.hubs[1], world.driver.urls
        world.graph.control.faults.arm(Fault(effect=Effect.HANG, endpoint="chat", times=20))
        world.driver.urls = [hub.url]
        messages = await say_all(world, 20)
        await until(lambda: were_asked(world, 20))
        world.driver.urls = front
        async with talking(world, for_s=4, rate_per_s=60):
            await asyncio.sleep(0.5)
            hub.terminate()
            assert await hub.wait(STOPPED_WITHIN_S) == 0
            stopped_at = time.monotonic()
        await world.assert_holds()
        answers = answered_at(world)
        assert_within(
            max(answers[message.label] for message in messages) - stopped_at, HANDED_OVER_WITHIN_S, "it went on"
        )
        rows = await world.database.inbox.find({"_id": {"$in": [message.key for message in messages]}}).to_list(None)
        assert {row["attempts"] for row in rows} == {1}, "a clean stop is no attempt"


@pytest.mark.timeout(60)
async def test_a_hub_that_is_stopped_while_the_database_is_down() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        world.graph.model.latency_s = (0.3, 0.3)
        await say_all(world, 20)
        async with asyncio.TaskGroup() as group:
            await world.kill_server()
            for index in range(20, 40):
                group.create_task(world.driver.say("101", name_customer(index)))
            await asyncio.sleep(0.5)
            hub.terminate()
            assert await hub.wait(STOPPED_WITHIN_S) == 0
            await world.start_server()
            hub.start()
            await hub.ready()
        await world.assert_holds()


@pytest.mark.timeout(60)
async def test_a_killed_hub_is_succeeded_by_the_others_within_a_lease() -> None:
    async with open_world(hubs=3, nginx=True) as world:
        world.graph.model.latency_s = (0.5, 0.5)
        hub = world.hubs[1]
        node = await node_of(world, hub)
        async with talking(world, for_s=4, rate_per_s=L1_PER_S):
            await asyncio.sleep(1)
            hub.kill()
            assert await owned_by(world, node), "it owned nothing"
            succeeded_s = await wait_for_succession(world, node)
        await world.at_rest()  # what came meanwhile is answered too
        recovered_at = time.monotonic()
        async with talking(world, for_s=1, rate_per_s=L1_PER_S):
            hub.start()
        await world.assert_holds()
        assert_within(succeeded_s, lease_and_round_s(world), "its documents were taken over")
        await assert_fresh(world, after=recovered_at)


async def test_the_backlog_of_a_killed_hub_is_drained_as_fast_as_it_came() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        world.graph.model.latency_s = (5.0, 5.0)
        messages = await say_all(world, 200)
        hub.kill()
        world.graph.model.latency_s = (0.0, 0.0)
        hub.start()
        await hub.ready()
        ready_at = time.monotonic()
        await world.assert_holds()
        answers = sorted(answered_at(world)[message.label] for message in messages)
        assert_within(answers[0] - ready_at, lease_and_round_s(world), "it went on")
        assert len(answers) / (answers[-1] - answers[0]) > 0.8 * L1_PER_S


@pytest.mark.timeout(60)
async def test_a_sleeper_that_decides_when_it_wakes_finds_its_write_fenced() -> None:
    async with open_world() as world, open_proxy(world.servers[0].address) as door:
        sleeper = await world.start_hub({"MONGODB_URI": door.uri})
        world.driver.urls = [sleeper.url]
        world.graph.model.latency_s = (1.0, 1.0)
        message = await world.driver.say("101", ANNA)
        await asyncio.sleep(0.4)  # the model is thinking
        sleeper.pause()
        answered = await until(lambda: answered_row(world, message))
        unaware = door.on("update", "nodes", lambda: asyncio.sleep(1), when="request")  # of its death, for a while
        wrote = door.on("update", "inbox", pass_on, when="reply")
        sleeper.resume()
        await asyncio.wait_for(wrote.hit.wait(), 5)
        assert unaware.hits
        await until(lambda: is_told(sleeper, "node lost"))
        await world.assert_holds(allowed_copies=0)
        row = await world.database.inbox.find_one({"_id": message.key})
        assert row is not None
        assert row["stamp"] == answered["stamp"], "the sleeper changed what was not its own any more"
        assert (row["epoch"], row["attempts"]) == (2, 2)
        assert len(world.graph.log.sends) == 1


@pytest.mark.timeout(60)
async def test_a_sleeper_that_wakes_right_before_its_send_does_not_send() -> None:
    async with (
        open_world(timing={"status_wait_s": 2.0}) as world,
        open_proxy(world.servers[0].address) as door,
    ):
        sleeper = await world.start_hub({"MONGODB_URI": door.uri})
        node = await node_of(world, sleeper)
        world.driver.urls = [sleeper.url]

        async def sleep() -> None:
            sleeper.pause()

        cleared = door.on("update", "inbox", sleep, when="reply", matching=is_written_by(node, Stage.REPLYING))
        message = await world.driver.say("101", ANNA)
        await until(lambda: answered_row(world, message), 15)
        assert cleared.hits == 1
        sleeper.resume()
        await until(lambda: is_told(sleeper, "node lost"))
        await sleeper.ready()
        await world.assert_holds(allowed_copies=0)
        assert len(world.graph.log.sends) == 1
        row = await world.database.inbox.find_one({"_id": message.key})
        assert row is not None
        assert row["parts"][0]["attempt"] == 2


@pytest.mark.timeout(60)
async def test_a_hub_that_is_cut_off_from_the_database_while_another_works() -> None:
    async with open_world() as world, open_proxy(world.servers[0].address) as door:
        cut_off = await world.start_hub({"MONGODB_URI": door.uri})
        world.graph.model.latency_s = (0.3, 0.3)
        node = await node_of(world, cut_off)
        async with watching(cut_off) as watch, watching(world.hubs[0]) as other, talking(world, for_s=8, rate_per_s=60):
            await asyncio.sleep(1)
            door.mode = Mode.BLACKHOLE
            cut_at = time.monotonic()
            succeeded_s = await wait_for_succession(world, node)
            await asyncio.sleep(1)
            door.mode = Mode.PASS
            back_at = time.monotonic()
            await cut_off.ready()
        await world.assert_holds(allowed_copies=0)
        assert_within(succeeded_s, lease_and_round_s(world), "its documents were taken over")
        unready = watch.first(503, after=cut_at)
        assert_within(unready.at - cut_at, UNREADY_WITHIN_S, "/ready told of it")
        assert unready.reasons
        assert_within(watch.first(200, after=back_at).at - back_at, BACK_WITHIN_S, "/ready was 200 again")
        assert {look.status for look in other.looks} == {200}
        assert_quick(deliveries(world))
        meanwhile = [one for one in deliveries(world) if cut_at < one.began_at < back_at]
        assert {one.status for one in meanwhile} == {200, 503}
        assert await node_of(world, cut_off) != node


@pytest.mark.soak
@pytest.mark.timeout(60)
async def test_three_hubs_answer_more_than_one() -> None:
    async with open_world(hubs=3, environment={"TIMING__MAX_TURNS": "10"}) as world:
        world.graph.model.latency_s = (0.2, 0.2)
        urls = world.driver.urls
        rates = []
        for serving in (urls[:1], urls):
            world.driver.urls = serving
            rates.append(await rush(world, first=len(world.driver.messages)))
        await world.assert_holds()
        assert rates[1] > 1.5 * rates[0], f"{rates[1]:.0f} messages/s with three, {rates[0]:.0f} with one"


async def rush(world: World, first: int) -> float:
    """Have many write at once, each twice; return how many messages were answered in a second."""
    began_at = time.monotonic()
    messages = [message for _ in range(2) for message in await say_all(world, 60, first=first)]
    await world.at_rest()
    answers = answered_at(world)
    return len(messages) / (max(answers[message.label] for message in messages) - began_at)


async def say_all(world: World, count: int, first: int = 0) -> Sequence[Message]:
    """Have as many customers write, all at once."""
    customers = [name_customer(first + index) for index in range(count)]
    return await asyncio.gather(*(world.driver.say("101", customer) for customer in customers))


def lease_and_round_s(world: World) -> float:
    """Return how long it may take until another hub goes on, on a busy machine."""
    return world.timing["lease_s"] + world.timing["round_s"] + SLACK_S


async def node_of(world: World, hub: HubProcess) -> str:
    """Return the id under which a hub works now."""
    node = await world.database.nodes.find_one({"pid": hub.pid, "state": "living"})
    assert node is not None
    return str(node["_id"])


async def owned_by(world: World, node: str) -> int:
    return await world.database.inbox.count_documents({"owner": node})


async def wait_for_succession(world: World, node: str) -> float:
    """Wait until a node owns nothing any more; return how long it took."""

    async def owns_nothing() -> bool:
        return not await owned_by(world, node)

    began_at = time.monotonic()
    await until(owns_nothing)
    return time.monotonic() - began_at


async def were_asked(world: World, times: int) -> bool:
    return len(world.graph.model.requests) >= times


async def answered_row(world: World, message: Message) -> Mapping[str, Any] | None:
    return await world.database.inbox.find_one({"_id": message.key, "state": State.DONE})


async def is_told(hub: HubProcess, words: str) -> bool:
    return words in hub.log_path.read_text()


async def pass_on() -> None:
    """Only count."""


def is_written_by(node: str, stage: Stage) -> Callable[[Mapping[str, Any]], bool]:
    """Fit updates of documents that a node takes for its own, of turns that get to this stage."""

    def fits(command: Mapping[str, Any]) -> bool:
        return any(
            update["q"].get("owner") == node and update["u"]["$set"].get("stage") == stage
            for update in command["updates"]
        )

    return fits
