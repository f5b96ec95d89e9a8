"""Several processes on one database: who is alive, who takes over, and what was left behind."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.inbox.nodes import Nodes
from whatsapp_hub.settings import Timing

TIMING = Timing(heartbeat_s=0.1, lease_s=0.4, round_s=0.02, self_fence_s=0.3)


@pytest.fixture
async def two_nodes(database: Database) -> tuple[Nodes, Nodes]:
    nodes = Nodes(database, TIMING), Nodes(database, TIMING)
    for node in nodes:
        await node.join()
    return nodes


async def look_until_gone(observer: Nodes, other: Nodes) -> float:
    """Keep the observer alive until it sees the other one gone; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(5):
        while True:
            assert await observer.renew()
            if other.id in (await observer.look()).gone:
                return time.monotonic() - began
            await asyncio.sleep(TIMING.round_s)


async def test_node_that_stands_still_for_a_lease_is_declared_dead(two_nodes: tuple[Nodes, Nodes]) -> None:
    observer, other = two_nodes
    assert await look_until_gone(observer, other) >= TIMING.lease_s
    assert not await other.renew()
    assert not other.may_send()


async def test_node_that_renews_lives(two_nodes: tuple[Nodes, Nodes]) -> None:
    observer, other = two_nodes
    ends_at = time.monotonic() + 2 * TIMING.lease_s
    while time.monotonic() < ends_at:
        assert await observer.renew()
        assert await other.renew()
        assert (await observer.look()).living == {observer.id, other.id}
        await asyncio.sleep(TIMING.round_s)


async def test_takeover_loses_to_renewal(database: Database, two_nodes: tuple[Nodes, Nodes]) -> None:
    """The other one renews between the observer's look and its verdict."""
    observer, other = two_nodes
    await observer.look()
    document = await database.nodes.find_one({"_id": other.id})
    assert document is not None
    await observer.renew()
    await other.renew()
    assert not await observer._declare_dead(other.id, document["counter"])
    assert await other.renew()


async def test_outage_of_the_database_kills_no_node(two_nodes: tuple[Nodes, Nodes]) -> None:
    """Nobody could renew for longer than a lease: that says nothing of the others."""
    observer, other = two_nodes
    await observer.look()
    await asyncio.sleep(1.5 * TIMING.lease_s)
    assert await observer.renew()
    assert other.id in (await observer.look()).living


async def test_who_joins_again_gives_up_its_old_id_at_once(database: Database, two_nodes: tuple[Nodes, Nodes]) -> None:
    observer, other = two_nodes
    former = other.id
    await other.join()
    view = await observer.look()
    assert former in view.gone
    assert other.id in view.living


# Whole hubs


async def test_work_of_a_dead_process_is_taken_over(database: Database, start_hub: Any, webhooks: Any) -> None:
    """What a process leaves behind that was killed before it asked the assistant."""
    await database.businesses.insert_one(webhooks.business("101"))
    await leave_behind(database, "wamid.1", state="active", place=int(time.time()))
    await leave_behind(database, "wamid.2", state="queued", place=int(time.time()) + 1)
    hub = await start_hub()
    await hub.at_rest()
    assert [line for text in hub.texts for line in text.split("\n")] == ["hello wamid.1", "hello wamid.2"]
    assert (await hub.row("101", "wamid.1"))["attempts"] == 2


async def test_reply_that_was_decided_is_sent_as_it_was_decided(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    """Recovery uses the stored parts and members, and asks nobody again."""
    await database.businesses.insert_one(webhooks.business("101"))
    part = {"body": b'{"type":"text","text":{"body":"decided"}}', "attempt": 0, "failures": 0, "wamid": "", "rank": 0}
    await leave_behind(
        database,
        "wamid.1",
        state="active",
        stage="replying",
        parts=[{**part, "state": "waiting"}],
        members=["101:wamid.2"],
    )
    await leave_behind(database, "wamid.2", state="queued")
    hub = await start_hub()
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert (await hub.row("101", "wamid.2"))["turn"] == "101:wamid.1"
    assert hub.texts == ["decided"]


async def test_reply_that_may_have_been_sent_waits_for_a_status(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    part = {"body": b'{"type":"text","text":{"body":"decided"}}', "attempt": 1, "failures": 0, "wamid": "", "rank": 0}
    await leave_behind(database, "wamid.1", state="active", stage="replying", parts=[{**part, "state": "sending"}])
    hub = await start_hub(timing={"status_wait_s": 30.0})
    await hub.row_where("101", "wamid.1", stage="ambiguous")
    status = {
        "id": "wamid.reply",
        "status": "delivered",
        "timestamp": "1",
        "biz_opaque_callback_data": "hub1|0|1|491700000001|wamid.1",
    }
    assert await hub.post(webhooks.of(number="101", statuses=[status])) == 200
    row = await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert row["parts"][0]["wamid"] == "wamid.reply"
    assert hub.texts == []


async def test_status_that_came_to_another_process_settles_the_send(hub: Any, start_hub: Any, webhooks: Any) -> None:
    second = await start_hub(timing={"status_wait_s": 30.0})
    second.graph.statuses.target = None  # they would all go to the second one
    second.graph.control.faults.arm(Fault(effect=Effect.CLOSE_AFTER))
    await second.say("101", "hello", "wamid.1")
    await second.row_where("101", "wamid.1", stage="ambiguous")
    status = {
        "id": second.graph.log.accepted[0].wamid,
        "status": "sent",
        "timestamp": "1",
        "biz_opaque_callback_data": second.graph.log.accepted[0].callback,
    }
    assert await hub.post(webhooks.of(number="101", statuses=[status])) == 200
    await second.row_where("101", "wamid.1", state="done", outcome="replied")
    assert second.texts == ["hello"]


async def test_message_that_keeps_killing_the_process_becomes_a_dead_letter(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    await leave_behind(database, "wamid.1", state="active", attempts=5)
    await leave_behind(database, "wamid.2", state="queued", place=int(time.time()) + 1)
    hub = await start_hub()
    row = await hub.row_where("101", "wamid.1", state="dead")
    assert row["reason"].startswith("failed 5 times")
    await hub.row_where("101", "wamid.2", state="done", outcome="replied")
    assert hub.texts == ["hello wamid.2"]


async def test_poison_gathers_nothing(database: Database, start_hub: Any, webhooks: Any) -> None:
    """With two attempts behind it a message is tried alone, so that it takes nobody along."""
    await database.businesses.insert_one(webhooks.business("101"))
    await leave_behind(database, "wamid.1", state="active", attempts=2)
    await leave_behind(database, "wamid.2", state="queued", place=int(time.time()) + 1)
    hub = await start_hub()
    await hub.at_rest()
    assert hub.texts == ["hello wamid.1", "hello wamid.2"]


async def test_newcomer_steps_back_behind_a_full_turn(database: Database, start_hub: Any, webhooks: Any) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    now = int(time.time())
    await leave_behind(database, "wamid.new", state="active", place=now)
    for n in range(60):
        await leave_behind(database, f"wamid.{n:02}", state="queued", place=now - 100 + n)
    hub = await start_hub()
    await hub.at_rest()
    lines = [line for text in hub.texts for line in text.split("\n")]
    assert lines == [f"hello wamid.{n:02}" for n in range(60)] + ["hello wamid.new"]


async def test_insert_that_lands_late_is_adopted(database: Database, start_hub: Any, webhooks: Any) -> None:
    """The database took longer than Meta waits: 503, and yet the message is there."""
    await database.businesses.insert_one(webhooks.business("101"))
    hub = await start_hub(timing={"ack_timeout_s": 0.5})
    await database.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"times": 1},
            "data": {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 1500},
        }
    )
    from_customer = hub.say("101", "hello", "wamid.1")
    with pytest.raises(AssertionError):
        await from_customer
    async with asyncio.timeout(10):
        while not await database.inbox.find_one({"_id": "101:wamid.1", "state": "done"}):
            await asyncio.sleep(0.02)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    assert hub.texts == ["hello"]


async def test_cache_is_cleared_at_every_process(hub: Any, start_hub: Any) -> None:
    second = await start_hub(admin_token="a token of at least 24 characters")
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    async with hub.client.post(
        f"{second.url}/admin/cache/clear", headers={"Authorization": "Bearer a token of at least 24 characters"}
    ) as response:
        assert response.status == 200
    async with asyncio.timeout(5):
        while True:
            async with hub.client.get(f"{hub.url}/metrics") as response:
                if (await response.json())["cache"]["size"] == 0:
                    break
            await asyncio.sleep(0.6)


async def leave_behind(database: Database, wamid: str, **values: Any) -> None:
    """Store a message as a process that is no more left it."""
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    text = f"hello {wamid}".encode()
    await database.inbox.insert_one(
        {
            "_id": f"101:{wamid}",
            "conversation": "101:491700000001",
            "stage": "new",
            "owner": "a node that nobody remembers",
            "epoch": 1,
            "attempts": 1 if values["state"] == "active" else 0,
            "place": int(time.time()),
            "arrival": time.time_ns(),
            "item": b'{"type":"text","text":{"body":"%s"}}' % text,
            "profile_name": "",
            **values,
        }
    )


# Who is to blame for a crash


async def test_message_that_only_waits_for_its_turn_is_not_blamed_for_a_crash_for_ever(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    """Poison kills the processes again and again: its neighbours must not be buried with it."""
    await database.businesses.insert_one(webhooks.business("101"))
    await leave_behind(database, "wamid.1", state="active", crashes=1, attempts=2)
    hub = await start_hub(ASSISTANT="openai", AI_MODEL="stand-in")
    hub.graph.control.faults.arm(Fault(endpoint="chat", effect=Effect.HANG, delay_s=10))
    asked = await hub.row_where("101", "wamid.1", stage="new", crashes=2)
    assert asked["attempts"] == 3  # this attempt has begun, and counts if the process dies
    await hub.stop()
    await database.inbox.update_one({}, {"$set": {"stage": "backoff", "owner": "a node that nobody remembers"}})
    second = await start_hub(ASSISTANT="echo")
    row = await second.row_where("101", "wamid.1", state="done")
    assert (row["attempts"], row["crashes"]) == (3, 2)  # it had not begun, and is not to blame


async def test_suspects_are_asked_about_one_at_a_time(database: Database, start_hub: Any, webhooks: Any) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    hub = await start_hub(ASSISTANT="openai", AI_MODEL="stand-in")
    hub.graph.model.latency_s = (0.1, 0.1)
    hub.graph.model.template = "{turn}"
    for n in range(4):
        conversation = f"101:49170000001{n}"
        values = {"state": "active", "stage": "backoff", "crashes": 3, "attempts": 4, "conversation": conversation}
        await leave_behind(database, f"wamid.{n}", **values, owner="")
    await hub.at_rest()
    times = sorted(request.time for request in hub.graph.model.requests)
    assert len(times) == 4
    assert all(later - earlier >= 0.09 for earlier, later in itertools.pairwise(times))
    assert await database.inbox.count_documents({"state": "done"}) == 4


async def test_retry_after_a_failure_counts_if_the_process_dies_of_it(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    await leave_behind(database, "wamid.1", state="active", stage="backoff", attempts=2)
    hub = await start_hub(ASSISTANT="openai", AI_MODEL="stand-in")
    hub.graph.control.faults.arm(Fault(endpoint="chat", effect=Effect.HANG, delay_s=10))
    assert (await hub.row_where("101", "wamid.1", stage="new"))["attempts"] == 2
