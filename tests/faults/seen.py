"""What became of one customer's messages in a world, for tests that claim it exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.history import Message
from tests.faults.proxy import Matching, Trap
from tests.faults.world import World
from tests.hub import until
from whatsapp_hub.cloud_api.outgoing import read_callback_data
from whatsapp_hub.demo.models import ModelRequest
from whatsapp_hub.demo.sends import Send


async def row_of(world: World, message: Message) -> dict[str, Any]:
    row: dict[str, Any] | None = await world.database.inbox.find_one({"_id": message.key})
    assert row is not None
    return row


async def reach_stage(world: World, message: Message, stage: str) -> None:
    async def has_reached() -> bool:
        return bool((await row_of(world, message))["stage"] == stage)

    await until(has_reached)


async def settle(world: World, message: Message) -> dict[str, Any]:
    """Wait until all is done and holds, and return the row of a message, which has to be answered.

    Whether a status spared the second copy, each test has to say itself.
    """
    await world.assert_holds(statuses_echoed=False)
    row = await row_of(world, message)
    assert (row["state"], row["outcome"]) == ("done", "replied")
    return row


def sends_to(world: World, customer: str) -> list[Send]:
    """Return what a customer got."""
    return [send for send in world.graph.log.accepted if send.customer == customer]


def attempts_of(sends: Sequence[Send]) -> list[tuple[int, int]]:
    """Return which part of its turn each send was, and which attempt at it."""
    named = [read_callback_data(send.callback) for send in sends]
    return [(data.part, data.attempt) for data in named if data is not None]


def questions_about(world: World, message: Message) -> list[ModelRequest]:
    """Return what the assistant was asked in the turn of a message."""
    return [one for one in world.graph.model.requests if message.label in one.body["messages"][-1]["content"]]


def labels_in(text: str) -> list[str]:
    return [word for word in text.split() if "#" in word]


async def ambiguous(world: World) -> float:
    """Return how many sends the hubs of now have counted as ambiguous."""
    return sum([await hub.sample("whatsapp_hub_replies_total", result="ambiguous") for hub in world.hubs if hub.alive])


def sets(name: str, value: str) -> Matching:
    """Match the updates that set this."""
    return lambda command: any(update["u"].get("$set", {}).get(name) == value for update in command["updates"])


COMMIT_POINT = sets("stage", "replying")
OUTCOME = sets("outcome", "replied")
MEMBERS_DONE = sets("outcome", "in_turn")


def hold_gathering(world: World, until_set: asyncio.Event) -> Trap:
    """Keep the next turn from seeing which messages wait; it answers all that come meanwhile."""

    async def wait() -> None:
        await until_set.wait()

    assert world.proxy is not None
    return world.proxy.on("find", "inbox", wait, when="request", matching=_looks_for_queued)


async def say_together(world: World, number: str, customer: str, count: int) -> list[Message]:
    """Say several things one after the other that one turn answers, if the customer's first turn is still to come."""
    all_there = asyncio.Event()
    hold_gathering(world, all_there)
    messages = [await world.driver.say(number, customer) for _ in range(count)]
    all_there.set()
    return messages


def _looks_for_queued(command: Mapping[str, Any]) -> bool:
    return bool(command["filter"].get("state") == "queued")
