"""F27: thousands of conversations of one business at once, none of them known, and its token changes meanwhile."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

from tests.faults.driver import name_customer
from tests.faults.loads import PRODUCTION, leave_backlog
from tests.faults.world import DATABASE, World, open_world
from tests.hub import VAULT, until
from whatsapp_hub.demo.graph import fingerprint

NUMBER: Final = "101"
COLD: Final = {"WARMUP_CACHE": "false"}
TTL_S: Final = 3.0


async def count_reads(world: World) -> int:
    """Return how often the businesses of a number were looked for, by the server's own profiler."""
    lookups = {"ns": f"{DATABASE}.businesses", "command.filter.whatsappPhoneNumberIds": {"$exists": True}}
    return await world.database.inbox.database["system.profile"].count_documents(lookups)


async def profile(world: World) -> None:
    filtered: dict[str, Any] = {"filter": {"ns": f"{DATABASE}.businesses"}}
    await world.database.inbox.database.command("profile", 1, **filtered)


async def change_token(world: World, token: str) -> None:
    change = {"$set": {"whatsappAccessToken": VAULT.encrypt(token)}}
    await world.database.businesses.update_one({"whatsappPhoneNumberIds": NUMBER}, change)


async def answer_stampede(count: int) -> None:
    """Start a hub on that many conversations; in the midst of it Graph wants another token."""
    async with open_world(environment=COLD, timing={**PRODUCTION, "held_recheck_s": 0.5}, start=False) as world:
        messages = await leave_backlog(world, count, [NUMBER])
        await profile(world)
        world.graph.model.latency_s = (0.0, 2.0)  # so that all are not answered before the token changes
        await world.start()
        await world.graph.log.wait_for(count // 5, timeout_s=30)
        assert await count_reads(world) == 1
        world.graph.control.tokens = {NUMBER: "renewed"}
        await until(lambda: is_held(world))
        held_at, reads = time.monotonic(), await count_reads(world)
        await change_token(world, "renewed")
        changed_at = time.monotonic()
        await until(lambda: is_used(world, "renewed"))
        assert time.monotonic() - changed_at < 5
        await world.assert_holds(messages=messages, timeout_s=60)
        # One look every recheck while it is held, one for the change, one for whoever asks then: no more for thousands.
        assert await count_reads(world) - reads <= (time.monotonic() - held_at) / 0.5 + 2
        rows = await world.database.inbox.distinct("attempts")
        assert rows == [1], "a token that is refused burns no attempts"


async def is_held(world: World) -> bool:
    return '"business held"' in world.hubs[0].log_path.read_text()


async def is_used(world: World, token: str) -> bool:
    return any(send.token == fingerprint(token) for send in world.graph.log.accepted)


async def test_cold_conversations_of_one_business_read_it_once() -> None:
    await answer_stampede(300)


@pytest.mark.rehearsal
@pytest.mark.timeout(180)
async def test_thousands_of_cold_conversations_of_one_business_read_it_once() -> None:
    await answer_stampede(5_000)


@pytest.mark.rehearsal
@pytest.mark.timeout(60)
async def test_changed_token_is_used_within_the_ttl_where_changes_cannot_be_followed() -> None:
    settings = {**COLD, "BUSINESS_CACHE_TTL": str(TTL_S)}
    async with open_world(environment=settings, start=False) as world:
        refuse = {
            "configureFailPoint": "failCommand",
            "mode": "alwaysOn",
            "data": {"failCommands": ["aggregate"], "namespace": f"{DATABASE}.businesses", "errorCode": 40573},
        }
        assert await world.databases.command(refuse) is not None
        await world.start()
        await profile(world)
        began = time.monotonic()
        await world.driver.say(NUMBER, name_customer(0))
        await world.at_rest()
        await change_token(world, "renewed")
        changed_at = time.monotonic()
        index = 0
        while not await is_used(world, "renewed"):
            index += 1
            await world.driver.say(NUMBER, name_customer(index))
            assert time.monotonic() - changed_at < TTL_S + 1
        await world.assert_holds()
        assert await count_reads(world) <= 1 + (time.monotonic() - began) / (0.9 * TTL_S)
