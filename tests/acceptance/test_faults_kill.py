"""F1 to F7: a hub is killed between any two of its steps, at exactly that moment, and nothing is lost or said twice.

One world lives through all the kills, one after the other, and after each its whole history is checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
import pytest_asyncio

from tests.faults.connection import Direction
from tests.faults.driver import name_customer
from tests.faults.history import Message
from tests.faults.proxy import DROP, Matching, Verdict
from tests.faults.seen import (
    COMMIT_POINT,
    MEMBERS_DONE,
    OUTCOME,
    ambiguous,
    attempts_of,
    labels_in,
    questions_about,
    reach_stage,
    row_of,
    say_together,
    sends_to,
    sets,
    settle,
)
from tests.faults.world import World, open_world
from tests.hub import until
from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

TIMING = {"heartbeat_s": 0.2, "lease_s": 1.2, "round_s": 0.1, "self_fence_s": 0.9, "status_wait_s": 1.0}
NUMBER = "101"
MANY_WORDS = " and so on" * 600  #: too many for one part
FIRST_PART_SETTLED = sets("parts.0.state", "sent")
customers = map(name_customer, count())


@pytest_asyncio.fixture(name="laboratory", loop_scope="module", scope="module")
async def open_laboratory() -> AsyncIterator[World]:
    async with open_world(proxy=True, timing=TIMING) as world:
        yield world


@pytest_asyncio.fixture(name="world", loop_scope="module")
async def mend(laboratory: World) -> AsyncIterator[World]:
    """The world, with a hub that runs, and an assistant that never says the same twice."""
    control = laboratory.graph.control
    control.model.template = "{turn} {nonce}"
    yield laboratory
    control.faults.clear()
    control.plan = StatusPlan()
    if not laboratory.hubs[0].alive:
        await laboratory.start()


@pytest.fixture
def customer() -> str:
    return next(customers)


# How to die. Each way begins to wait when it is chosen, and is over when the hub is dead.

Death = Awaitable[object]


def die_on(world: World, command: str, collection: str, *, when: Direction, matching: Matching | None = None) -> Death:
    """Die when a command comes by, which then never arrives, or when its reply does, which nobody reads any more."""

    async def kill() -> Verdict:
        world.hubs[0].kill()
        return DROP

    assert world.proxy is not None
    return world.proxy.on(command, collection, kill, when=when, matching=matching).hit.wait()


async def die_when(world: World, has_come: Callable[[], bool]) -> None:
    """Die when one of the stand-ins, which will not answer, has been asked."""

    async def come() -> bool:
        return has_come()

    await until(come)
    world.hubs[0].kill()


async def say_and_die(world: World, customer: str, death: Death) -> Message:
    """Have a customer write, and start the hub again when it is dead."""
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(world.driver.say(NUMBER, customer))
        await death
        await revive(world)
    return saying.result()


async def revive(world: World) -> None:
    """Start the dead hub again, and wait until it has declared its former self dead."""
    assert not world.hubs[0].alive
    await world.start()

    async def is_alone() -> bool:
        return await world.database.nodes.count_documents({"state": "living"}) == 1

    await until(is_alone)


# F1, F2: around the insert


async def test_killed_before_the_insert_it_has_acknowledged_nothing(world: World, customer: str) -> None:
    death = die_on(world, "insert", "inbox", when="request")
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(world.driver.say(NUMBER, customer))
        await death
        assert await world.database.inbox.find_one({"conversation": f"{NUMBER}:{customer}"}) is None
        await revive(world)
    message = saying.result()
    row = await settle(world, message)
    assert message.deliveries[0].status == 0
    assert "deliveries" not in row
    assert row["attempts"] == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_killed_after_the_insert_it_takes_the_redelivery_for_a_copy(world: World, customer: str) -> None:
    message = await say_and_die(world, customer, die_on(world, "insert", "inbox", when="reply"))
    row = await settle(world, message)
    assert message.deliveries[0].status == 0
    assert row["deliveries"] == sum(delivery.status == 200 for delivery in message.deliveries) == 1
    assert row["attempts"] == 2
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


# F3, F4: before anything is decided


async def test_killed_between_the_answer_to_meta_and_the_turn_it_goes_on(world: World, customer: str) -> None:
    is_dead = asyncio.Event()

    async def wait() -> None:
        await is_dead.wait()

    assert world.proxy is not None
    first_step = world.proxy.on("find", "conversations", wait, when="request")
    message = await world.driver.say(NUMBER, customer)
    await first_step.hit.wait()
    world.hubs[0].kill()
    is_dead.set()
    assert [delivery.status for delivery in message.deliveries] == [200]
    assert not questions_about(world, message)
    await revive(world)
    row = await settle(world, message)
    assert row["attempts"] == 2
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_killed_while_the_assistant_works_it_asks_again(world: World, customer: str) -> None:
    world.graph.control.faults.arm(Fault(effect=Effect.HANG, endpoint="chat"))
    asked = len(world.graph.model.requests)
    death = die_when(world, lambda: len(world.graph.model.requests) > asked)
    message = await say_and_die(world, customer, death)
    row = await settle(world, message)
    assert row["attempts"] == 2
    unanswered, answered = questions_about(world, message)
    assert unanswered.answer is None
    assert [send.text for send in sends_to(world, customer)] == [answered.answer]
    assert await ambiguous(world) == 0


# F5, F6: around the send


async def test_killed_after_the_reply_is_written_it_sends_that_one(world: World, customer: str) -> None:
    death = die_on(world, "update", "inbox", when="reply", matching=COMMIT_POINT)
    message = await say_and_die(world, customer, death)
    assert not sends_to(world, customer)
    await settle(world, message)
    [question] = questions_about(world, message)
    [send] = sends_to(world, customer)
    assert send.text == question.answer
    assert attempts_of([send]) == [(0, 2)]
    assert await ambiguous(world) == 1  # seen from the database it looks as if it had been sent


@pytest.mark.parametrize("graph_has_answered", [False, True])
@pytest.mark.parametrize("is_told", [False, True])
async def test_killed_before_a_send_is_recorded_it_sends_again_unless_a_status_tells(
    world: World, customer: str, graph_has_answered: bool, is_told: bool
) -> None:
    world.graph.control.plan = StatusPlan(steps=())
    if graph_has_answered:
        death: Death = die_on(world, "update", "inbox", when="request", matching=OUTCOME)
    else:
        world.graph.control.faults.arm(Fault(effect=Effect.HANG, accepted=True))
        death = die_when(world, lambda: bool(sends_to(world, customer)))
    message = await say_and_die(world, customer, death)
    [first] = sends_to(world, customer)
    await reach_stage(world, message, "ambiguous")
    if is_told:
        world.graph.statuses.schedule(first, StatusPlan())
    row = await settle(world, message)
    [question] = questions_about(world, message)
    copies = sends_to(world, customer)
    assert {copy.text for copy in copies} == {question.answer}
    assert attempts_of(copies) == ([(0, 1)] if is_told else [(0, 1), (0, 2)])
    assert row["parts"][0]["wamid"] == copies[-1].wamid
    assert await ambiguous(world) == 1


async def test_a_status_that_comes_while_nobody_is_there_spares_the_copy(world: World, customer: str) -> None:
    death = die_on(world, "update", "inbox", when="request", matching=OUTCOME)
    message = await say_and_die(world, customer, death)
    row = await settle(world, message)
    [send] = sends_to(world, customer)
    assert (row["parts"][0]["attempt"], row["parts"][0]["wamid"]) == (1, send.wamid)


# F7: around the outcome


async def test_killed_after_the_outcome_of_one_message_it_sends_no_more(world: World, customer: str) -> None:
    death = die_on(world, "update", "inbox", when="reply", matching=OUTCOME)
    message = await say_and_die(world, customer, death)
    row = await settle(world, message)
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]
    assert (row["attempts"], row["epoch"]) == (1, 1)
    assert await ambiguous(world) == 0


async def test_killed_after_the_outcome_of_a_turn_with_members_it_sends_no_more(world: World, customer: str) -> None:
    death = die_on(world, "update", "inbox", when="reply", matching=OUTCOME)
    leader, *members = await say_together(world, NUMBER, customer, 3)
    await death
    await revive(world)
    row = await settle(world, leader)
    assert row["members"] == [member.key for member in members]
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]
    assert await ambiguous(world) == 0


async def test_killed_after_the_outcome_of_two_parts_it_sends_no_more(world: World, customer: str) -> None:
    world.graph.model.template += MANY_WORDS
    death = die_on(world, "update", "inbox", when="reply", matching=OUTCOME)
    message = await say_and_die(world, customer, death)
    row = await settle(world, message)
    assert attempts_of(sends_to(world, customer)) == [(0, 1), (1, 1)]
    assert [part["state"] for part in row["parts"]] == ["sent", "sent"]
    assert await ambiguous(world) == 0


async def test_killed_when_the_members_are_done_and_their_leader_is_not(world: World, customer: str) -> None:
    death = die_on(world, "update", "inbox", when="reply", matching=MEMBERS_DONE)
    leader, *members = await say_together(world, NUMBER, customer, 3)
    await death
    assert [(await row_of(world, one))["state"] for one in (leader, *members)] == ["active", "done", "done"]
    assert not sends_to(world, customer)
    await revive(world)
    await settle(world, leader)
    [question] = questions_about(world, leader)
    [send] = sends_to(world, customer)
    assert send.text == question.answer
    assert labels_in(send.text) == [leader.label, *(member.label for member in members)]
    assert attempts_of([send]) == [(0, 2)]
    assert await ambiguous(world) == 1


async def test_killed_between_two_parts_it_sends_only_the_second(world: World, customer: str) -> None:
    world.graph.model.template += MANY_WORDS
    death = die_on(world, "update", "inbox", when="reply", matching=FIRST_PART_SETTLED)
    message = await say_and_die(world, customer, death)
    await settle(world, message)
    assert attempts_of(sends_to(world, customer)) == [(0, 1), (1, 2)]
    assert len(questions_about(world, message)) == 1
    assert await ambiguous(world) == 1
