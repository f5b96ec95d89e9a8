"""The laboratory itself: what it starts works, dies, comes back, and is checked."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.world import open_world


async def test_one_hub_answers_before_and_after_a_kill() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        first = await world.driver.say("101", "491700000001")
        await world.at_rest()
        former = hub.pid
        hub.kill()
        assert not hub.alive
        later = asyncio.create_task(world.driver.say("101", "491700000001"))
        hub.start()
        await hub.ready()
        assert hub.pid != former
        second = await later
        await world.assert_holds()
        assert [send.text.split()[0] for send in world.graph.log.accepted] == [first.label, second.label]
        assert len(second.deliveries) > 1
        assert await hub.sample("whatsapp_hub_replies_total", result="sent") == 1
        assert hub.rss_bytes() > 10_000_000
        assert hub.open_files() > 3


@pytest.mark.soak
@pytest.mark.timeout(60)
async def test_three_hubs_behind_nginx_on_three_servers() -> None:
    async with open_world(hubs=3, servers=3, nginx=True) as world:
        await world.driver.converse(numbers=("101", "102"), customers=12, rate_per_s=60, for_s=1)
        await world.kill_server(await world.primary())
        await world.driver.say("103", "491700000099", copies=3)
        await world.assert_holds()
        shares = [await hub.sample("webhook_requests_total") for hub in world.hubs]
        assert all(shares), shares


async def test_what_is_lost_is_told_in_words() -> None:
    async with open_world() as world:
        message = await world.driver.say("101", "491700000001")
        await world.at_rest()
        await world.database.inbox.delete_one({"_id": message.key})
        with pytest.raises(AssertionError, match="I1"):
            await world.assert_holds()
