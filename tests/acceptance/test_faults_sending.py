"""What a business sends by itself outlives the process that took it in, and is sent once, whoever asks how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.api import api_key, stored_key, text_to
from tests.faults.driver import name_customer
from tests.faults.proxy import DROP, Verdict
from tests.faults.seen import COMMIT_POINT, OUTCOME, ambiguous, attempts_of, sends_to
from tests.faults.world import World, open_world
from tests.hub import until
from whatsapp_hub.demo.faults import StatusPlan

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

TIMING = {"heartbeat_s": 0.2, "lease_s": 1.2, "round_s": 0.1, "self_fence_s": 0.9, "status_wait_s": 1.0}
KEY, STORED = api_key("key of 101")[0], stored_key("key of 101")
customers = map(name_customer, count(500))


async def knows_the_key(url: str) -> bool:
    path, headers = f"{url}/api/v1/b101/messages/of-nobody", {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.request("GET", path, headers=headers) as answer:
        return answer.status == 404


@pytest_asyncio.fixture(name="world", loop_scope="module", scope="module")
async def _world() -> AsyncIterator[World]:
    async with open_world(proxy=True, timing=TIMING, assistant="echo") as world:
        await world.database.businesses.update_one({"subDomain": "b101"}, {"$set": {"apiKeys": [STORED]}})
        await until(partial(knows_the_key, world.url))
        yield world


@pytest_asyncio.fixture(name="client", loop_scope="module", scope="module")
async def _client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
def customer() -> str:
    """Somebody whom no other test writes to."""
    return next(customers)


async def send(client: aiohttp.ClientSession, url: str, customer: str, key: str) -> tuple[int, Any]:
    """Ask once for a message to be sent; 0 where nobody answered."""
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": key}
    try:
        async with client.post(f"{url}/api/v1/b101/messages", json=text_to(customer, key), headers=headers) as answer:
            return answer.status, await answer.json()
    except (aiohttp.ClientError, OSError):
        return 0, None


async def send_until_accepted(client: aiohttp.ClientSession, world: World, customer: str, key: str) -> str:
    """Ask as long as it takes, as a client does that wants to be sure; return the id."""

    async def is_accepted() -> str | None:
        status, answer = await send(client, world.url, customer, key)
        return str(answer["id"]) if status == 202 else None

    return await until(is_accepted)


async def state_of(client: aiohttp.ClientSession, url: str, message_id: str) -> str:
    path = f"{url}/api/v1/b101/messages/{message_id}"
    async with client.get(path, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        return str((await answer.json())["state"])


async def reaches(client: aiohttp.ClientSession, world: World, message_id: str, state: str) -> None:
    async def has_come() -> bool:
        return await state_of(client, world.url, message_id) == state

    await until(has_come)


def kill_on(world: World, command: str, **when: Any) -> asyncio.Event:
    """Kill the hub when a command comes by, or its reply; return what tells that it is dead."""

    async def kill() -> Verdict:
        world.hubs[0].kill()
        return DROP

    assert world.proxy is not None
    return world.proxy.on(command, "inbox", kill, **when).hit


async def test_killed_between_the_insert_and_the_answer_it_takes_the_next_request_for_a_copy(
    world: World, client: aiohttp.ClientSession, customer: str
) -> None:
    is_dead = kill_on(world, "insert", when="reply")
    assert await send(client, world.url, customer, "insert") == (0, None)
    await is_dead.wait()
    await world.start()
    message_id = await send_until_accepted(client, world, customer, "insert")
    await reaches(client, world, message_id, "read")
    await world.at_rest()
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_killed_before_the_send_it_sends_what_was_accepted(
    world: World, client: aiohttp.ClientSession, customer: str
) -> None:
    is_dead = kill_on(world, "update", when="request", matching=COMMIT_POINT)
    message_id = await send_until_accepted(client, world, customer, "send")
    await is_dead.wait()
    assert not sends_to(world, customer)
    await world.start()
    await reaches(client, world, message_id, "read")
    assert [send.text for send in sends_to(world, customer)] == ["send"]
    assert await ambiguous(world) == 0


async def test_killed_before_a_send_is_recorded_it_waits_for_the_status(
    world: World, client: aiohttp.ClientSession, customer: str
) -> None:
    is_dead = kill_on(world, "update", when="request", matching=OUTCOME)
    message_id = await send_until_accepted(client, world, customer, "status")
    await is_dead.wait()
    await world.start()
    await reaches(client, world, message_id, "read")
    await world.at_rest()
    assert attempts_of(sends_to(world, customer)) == [(0, 1)]


async def test_twenty_copies_at_two_processes_are_one_message_and_one_of_the_two_may_die(
    world: World, client: aiohttp.ClientSession, customer: str
) -> None:
    first, second = world.hubs[0], await world.start_hub()
    world.graph.control.plan = StatusPlan(steps=())
    is_dead = kill_on(world, "update", when="request", matching=COMMIT_POINT)
    urls = [hub.url for hub in (first, second)] * 10
    answers = await asyncio.gather(*(send(client, url, customer, "both") for url in urls))
    await is_dead.wait()
    accepted = {answer["id"] for status, answer in answers if status == 202}

    assert len(accepted) == 1
    [message_id] = accepted

    async def is_sent() -> bool:
        return await state_of(client, second.url, message_id) == "sent"

    await until(is_sent)
    await world.at_rest()
    assert {status for status, _ in answers} <= {0, 202}
    assert [send.text for send in sends_to(world, customer)] == ["both"]
