"""F10, F12, F13, L6: replies of the database get lost, and what Meta delivers comes twice, late or in another order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.driver import name_customer
from tests.faults.history import Message
from tests.faults.proxy import DROP, Matching, Trap, Verdict
from tests.faults.seen import (
    COMMIT_POINT,
    MEMBERS_DONE,
    OUTCOME,
    ambiguous,
    attempts_of,
    hold_gathering,
    labels_in,
    questions_about,
    row_of,
    say_together,
    sends_to,
    settle,
)
from tests.faults.world import NUMBERS, World, open_world
from tests.hub import until
from whatsapp_hub.cloud_api.messages import STATUS_RANKS
from whatsapp_hub.demo.faults import StatusPlan

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

#: No hub dies for long, and none shall think that it did: where a connection is lost, the driver lets everybody wait
#: for half a second, until it has looked at the server again.
TIMING = {"lease_s": 5.0, "self_fence_s": 4.0, "round_s": 0.1, "status_wait_s": 1.0}
NUMBER = "101"
TIME_LIMIT_EXCEEDED = 50  #: an error of the database after which the driver does not ask again
customers = map(name_customer, count())


@pytest_asyncio.fixture(name="laboratory", loop_scope="module", scope="module")
async def open_laboratory() -> AsyncIterator[World]:
    async with open_world(hubs=2, proxy=True, timing=TIMING) as world:
        yield world


@pytest_asyncio.fixture(name="world", loop_scope="module")
async def mend(laboratory: World) -> AsyncIterator[World]:
    """The world, with everything as it was in the beginning."""
    yield laboratory
    laboratory.graph.control.plan = StatusPlan()
    laboratory.graph.model.template = "{turn}"
    await laboratory.databases.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.fixture
def customer() -> str:
    return next(customers)


# F10: the database has done as it was told, and its reply is lost. The driver asks again by itself, and gets the same
# reply; nobody knows what happened only if it is refused then, or if it takes too long.


def lose_reply(world: World, command: str, matching: Matching | None = None, *, then_refuse: bool = False) -> Trap:
    async def lose() -> Verdict:
        if then_refuse:
            await fail_commands(world, command, {"times": 1}, errorCode=TIME_LIMIT_EXCEEDED)
        return DROP

    assert world.proxy is not None
    return world.proxy.on(command, "inbox", lose, when="reply", matching=matching)


async def fail_commands(world: World, command: str, mode: str | dict[str, int], **how: object) -> None:
    data = {"failCommands": [command], "namespace": world.database.inbox.full_name, **how}
    assert await world.databases.command({"configureFailPoint": "failCommand", "mode": mode, "data": data}) is not None


@pytest.mark.parametrize(("command", "matching"), [("insert", None), ("update", COMMIT_POINT), ("update", OUTCOME)])
async def test_lost_reply_is_asked_for_again(
    world: World, customer: str, command: str, matching: Matching | None
) -> None:
    before = await ambiguous(world)
    trap = lose_reply(world, command, matching)
    message = await world.driver.say(NUMBER, customer)
    row = await settle(world, message)
    assert trap.hits == 1
    assert [delivery.status for delivery in message.deliveries] == [200]
    assert "deliveries" not in row
    assert (row["attempts"], row["epoch"]) == (1, 1)
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]
    assert await ambiguous(world) == before


async def test_insert_with_an_unknown_result_is_refused_and_adopted(world: World, customer: str) -> None:
    lose_reply(world, "insert", then_refuse=True)
    message = await world.driver.say(NUMBER, customer)
    row = await settle(world, message)
    assert [delivery.status for delivery in message.deliveries] == [503, 200]
    assert row["deliveries"] == 1
    assert (row["attempts"], row["epoch"]) == (1, 2)
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_insert_whose_reply_is_lost_for_too_long_is_refused_and_adopted(world: World, customer: str) -> None:
    assert world.proxy is not None
    trap = world.proxy.on("insert", "inbox", DROP, when="reply", times=None)
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(world.driver.say(NUMBER, customer))
        await refusal(world)
        trap.remove()
    message = saying.result()
    row = await settle(world, message)
    assert trap.hits > 1
    assert message.deliveries[0].status == 503
    assert row["deliveries"] == sum(delivery.status == 200 for delivery in message.deliveries) == 1
    assert (row["attempts"], row["epoch"]) == (1, 2)
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_commit_point_with_an_unknown_result_is_kept(world: World, customer: str) -> None:
    before = await ambiguous(world)
    lose_reply(world, "update", COMMIT_POINT, then_refuse=True)
    message = await world.driver.say(NUMBER, customer)
    row = await settle(world, message)
    assert (row["attempts"], row["epoch"]) == (1, 2)
    [question] = questions_about(world, message)
    [send] = sends_to(world, customer)
    assert send.text == question.answer
    assert attempts_of([send]) == [(0, 2)]
    assert await ambiguous(world) - before == 1


async def test_end_of_the_members_with_an_unknown_result_is_told_again(world: World, customer: str) -> None:
    before = await ambiguous(world)
    lose_reply(world, "update", MEMBERS_DONE, then_refuse=True)
    leader, *members = await say_together(world, NUMBER, customer, 3)
    row = await settle(world, leader)
    assert row["members"] == [member.key for member in members]
    [send] = sends_to(world, customer)
    assert labels_in(send.text) == [leader.label, *(member.label for member in members)]
    assert attempts_of([send]) == [(0, 2)]
    assert await ambiguous(world) - before == 1


async def test_outcome_with_an_unknown_result_stops_neither_this_turn_nor_the_next(world: World, customer: str) -> None:
    before = await ambiguous(world)
    trap = lose_reply(world, "update", OUTCOME, then_refuse=True)
    message = await world.driver.say(NUMBER, customer)
    await trap.hit.wait()
    later = await world.driver.say(NUMBER, customer)
    await settle(world, later)
    row = await settle(world, message)
    assert (row["attempts"], row["epoch"]) == (1, 1)
    assert [labels_in(send.text) for send in sends_to(world, customer)] == [[message.label], [later.label]]
    assert await ambiguous(world) == before


@pytest.mark.parametrize("command", ["insert", "update"])
async def test_connection_closed_before_a_write_happens_is_not_noticed(
    world: World, customer: str, command: str
) -> None:
    await fail_commands(world, command, {"times": 1}, closeConnection=True)
    message = await world.driver.say(NUMBER, customer)
    row = await settle(world, message)
    assert [delivery.status for delivery in message.deliveries] == [200]
    assert (row["attempts"], row["epoch"]) == (1, 1)
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_insert_that_never_happens_is_refused_and_stored_when_it_comes_again(world: World, customer: str) -> None:
    await fail_commands(world, "insert", "alwaysOn", closeConnection=True)
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(world.driver.say(NUMBER, customer))
        await refusal(world)
        assert await world.database.inbox.find_one({"conversation": f"{NUMBER}:{customer}"}) is None
        await fail_commands(world, "insert", "off")
    message = saying.result()
    await settle(world, message)
    assert message.deliveries[0].status == 503
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def refusal(world: World) -> None:
    """Wait until one more webhook has been refused."""
    before = world.driver.refused

    async def is_refused() -> bool:
        return world.driver.refused > before

    await until(is_refused)


# F12: Meta delivers again what it has delivered before.


async def test_copies_one_after_the_other_are_counted_and_answered_once(world: World, customer: str) -> None:
    message = await world.driver.say(NUMBER, customer)
    for _ in range(4):
        await world.driver.replay(message)
    row = await settle(world, message)
    assert row["deliveries"] == 4
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


@pytest.mark.parametrize("hubs", [1, 2])
async def test_twenty_copies_at_once_are_counted_and_answered_once(world: World, customer: str, hubs: int) -> None:
    every = world.driver.urls
    world.driver.urls = every[:hubs]
    before = await duplicates(world)
    message = await world.driver.say(NUMBER, customer, copies=20)
    world.driver.urls = every
    row = await settle(world, message)
    assert [delivery.status for delivery in message.deliveries] == [200] * 20
    assert row["deliveries"] == await duplicates(world) - before == 19
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_copies_after_a_restart_are_counted_and_not_answered(world: World, customer: str) -> None:
    message = await world.driver.say(NUMBER, customer)
    await settle(world, message)
    hub = world.hubs[0]
    hub.kill()
    hub.start()
    await hub.ready()
    for _ in range(4):  # two to each hub
        await world.driver.replay(message)
    row = await settle(world, message)
    assert row["deliveries"] == 4
    assert len(questions_about(world, message)) == 1
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def duplicates(world: World) -> float:
    return sum(
        [await hub.sample("whatsapp_hub_items_total", kind="message", outcome="duplicate") for hub in world.hubs]
    )


# F13: what comes in another order than it was sent


async def test_messages_that_come_shuffled_are_answered_by_their_timestamps(world: World, customer: str) -> None:
    now = int(time.time())
    all_there = asyncio.Event()
    gathering = hold_gathering(world, all_there)
    first = await world.driver.say(NUMBER, customer, timestamp=now)
    await gathering.hit.wait()
    seconds = [1, 2, 3, 4, 5]
    Random(13).shuffle(seconds)
    shuffled = [await world.driver.say(NUMBER, customer, timestamp=now + second) for second in seconds]
    all_there.set()
    await settle(world, first)
    in_order = sorted(shuffled, key=lambda message: message.timestamp)
    assert in_order != shuffled
    [send] = sends_to(world, customer)
    assert labels_in(send.text) == [first.label, *(message.label for message in in_order)]


async def test_late_message_is_answered_after_those_that_overtook_it(world: World, customer: str) -> None:
    now = int(time.time())
    punctual = await world.driver.say(NUMBER, customer, timestamp=now)
    await settle(world, punctual)
    late = await world.driver.say(NUMBER, customer, timestamp=now - 3600)
    await settle(world, late)
    assert [labels_in(send.text) for send in sends_to(world, customer)] == [[punctual.label], [late.label]]


async def test_statuses_in_reverse_take_no_rank_back(world: World, customer: str) -> None:
    backwards = ("read", "delivered", "sent")
    steps = tuple((name, 0.1 * index) for index, name in enumerate(backwards))
    world.graph.control.plan = StatusPlan(steps=steps, copies=2)
    message = await world.driver.say(NUMBER, customer)
    ranks = []
    for name in backwards:
        part = await part_with_time(world, message, name)
        ranks.append(part["rank"])
    row = await settle(world, message)
    assert ranks == [STATUS_RANKS["read"]] * 3
    assert row["parts"][0]["times"].keys() == set(backwards)
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def part_with_time(world: World, message: Message, status: str) -> dict[str, Any]:
    """Wait until a status has come, and return the part that it is about."""

    async def found() -> dict[str, Any] | None:
        parts: Sequence[dict[str, Any]] = (await row_of(world, message)).get("parts", ())
        return parts[0] if parts and status in parts[0].get("times", {}) else None

    return await until(found)


# L6: many copies


async def test_three_in_ten_are_copies_and_old_ones_come_again(world: World) -> None:
    rng = Random(6)
    known = {message.key for message in world.driver.messages}
    before = len(world.graph.log.accepted)
    await world.driver.converse(
        numbers=NUMBERS,
        customers=30,
        rate_per_s=60,
        for_s=2,
        copies=lambda rng: rng.randrange(2, 6) if rng.random() < 0.3 else 1,
        first_customer=5_000,
    )
    await world.assert_holds()
    answered = len(world.graph.log.accepted) - before
    await let_days_pass(world, 8)  # Meta gives up after 7
    said = [message for message in world.driver.messages if message.key not in known]
    for message in rng.sample(said, len(said) // 3):
        await world.driver.replay(message, copies=2)
    await world.assert_holds()
    assert len(world.graph.log.accepted) - before == answered
    for message in world.driver.messages:
        if message.key in known:
            continue
        acknowledged = sum(delivery.status == 200 for delivery in message.deliveries)
        extra = (await row_of(world, message)).get("deliveries", 0)
        assert acknowledged - 1 <= extra <= len(message.deliveries) - 1, message.label


async def let_days_pass(world: World, days: int) -> None:
    """Make what is done older by days, and wait until the database has thrown away what is too old."""
    inbox = world.database.inbox
    await inbox.update_many({"state": "done"}, [{"$set": {"done_at": {"$subtract": ["$done_at", days * 86_400_000]}}}])
    aged = datetime.now(UTC) - timedelta(days=15)
    await inbox.insert_one({"_id": "0:expired", "conversation": "0:0", "state": "done", "done_at": aged})

    async def is_gone() -> bool:
        return await inbox.find_one({"_id": "0:expired"}) is None

    await until(is_gone)
