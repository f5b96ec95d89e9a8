"""What a node keeps in memory is bounded: a backlog of any size waits in the database, and delays nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.hub import Hub, StartHub, Webhooks, business
from whatsapp_hub import app as app_module
from whatsapp_hub.cloud_api.messages import InboundMessage
from whatsapp_hub.conversation.dispatcher import TURNS_WHEN_LATE, Dispatcher
from whatsapp_hub.conversation.pacing import Pacer
from whatsapp_hub.conversation.steps import End
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox import group_commit
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.metrics import Metrics

NOW = int(time.time())


def dispatcher_of(hub: Hub) -> Dispatcher:
    """Return the dispatcher of a hub: what it has in memory shows nowhere else."""
    rounds: Any = hub.app[app_module._SIDE_TASKS]._tasks["rounds"].get_coro()
    dispatcher: Dispatcher = rounds.cr_frame.f_locals["self"]._worker
    return dispatcher


def left_behind(number: str, customer: int, **values: Any) -> dict[str, Any]:
    """Return a message as a process that is no more left it."""
    return {
        "_id": f"{number}:wamid.{customer}",
        "conversation": f"{number}:4917{customer:08}",
        "state": "queued",
        "stage": "new",
        "owner": "a node that nobody remembers",
        "epoch": 1,
        "attempts": 0,
        "place": NOW,
        "arrival": time.time_ns(),
        "item": b'{"type":"text","text":{"body":"%s %d"}}' % (number.encode(), customer),
        "profile_name": "",
        **values,
    }


async def prepare(database: Database, *numbers: str) -> None:
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    await database.businesses.insert_many([business(number) for number in numbers])


async def owners_of(database: Database, prefix: str) -> int:
    return await database.inbox.count_documents({"owner": {"$regex": f"^{prefix}"}})


async def test_backlog_beyond_the_room_in_memory_is_answered_in_full_and_in_order(
    database: Database, start_hub: StartHub
) -> None:
    await prepare(database, "101")
    rows = [left_behind("101", customer) for customer in range(400)]
    later = [{**row, "_id": f"{row['_id']}.2", "place": NOW + 1} for row in rows]
    await database.inbox.insert_many(rows + later)
    hub = await start_hub(timing={"max_conversations": 50}, rate_limit_business="100000/second")
    most = 0
    async with asyncio.timeout(20):
        while await database.inbox.count_documents({"owner": {"$exists": True}}):
            most = max(most, len(dispatcher_of(hub)))
            await asyncio.sleep(0.005)
    assert 20 < most <= 50
    assert await database.inbox.count_documents({"state": "done", "outcome": {"$in": ["replied", "in_turn"]}}) == 800
    lines = [line for text in hub.texts for line in text.split("\n")]
    assert sorted(lines) == sorted([f"101 {customer}" for customer in range(400)] * 2)
    assert await database.inbox.count_documents({"attempts": {"$gt": 1}}) == 0


async def test_messages_that_come_while_there_is_no_room_are_stored_and_answered_later(
    database: Database, start_hub: StartHub, webhooks: Webhooks
) -> None:
    await prepare(database, "101", "102")
    hub = await start_hub(timing={"max_conversations": 20})
    hub.graph.control.latency_s = (0.5, 0.5)
    for customer in range(60):
        await hub.say("101", f"101 {customer}", f"wamid.{customer}", sender=f"4917{customer:08}")
    assert await owners_of(database, "spilled:101") > 0
    assert len(dispatcher_of(hub)) <= 20
    await hub.say("102", "102 has room", "wamid.x")
    await hub.row_where("102", "wamid.x", state="done")
    assert await owners_of(database, "spilled:101") > 0  # it did not have to wait for these
    hub.graph.control.latency_s = (0.0, 0.0)
    await hub.at_rest()
    assert sorted(hub.texts) == sorted([f"101 {customer}" for customer in range(60)] + ["102 has room"])


async def test_conversation_that_is_spilled_keeps_its_order_when_the_next_message_finds_room(
    database: Database, start_hub: StartHub
) -> None:
    await prepare(database, "101")
    hub = await start_hub(timing={"round_s": 2.0, "heartbeat_s": 2.0, "lease_s": 8.0, "self_fence_s": 5.0})
    await database.inbox.insert_one(left_behind("101", 1, owner="spilled:101"))
    await hub.say("101", "second", "wamid.second", sender="491700000001")
    await hub.at_rest()
    assert "\n".join(hub.texts) == "101 1\nsecond"


async def test_what_a_number_that_is_held_has_waiting_delays_nobody(database: Database, start_hub: StartHub) -> None:
    await prepare(database, "101", "102")
    await database.inbox.insert_many([left_behind("101", customer) for customer in range(300)])
    hub = await start_hub(timing={"max_conversations": 40, "max_turns": 20}, rate_limit_business="100000/second")
    hub.graph.control.faults.arm(Fault(effect=Effect.ERROR, status=401, code=190, token="token-101", times=None))
    async with asyncio.timeout(10):
        while not await owners_of(database, "spilled:101"):
            await asyncio.sleep(0.01)
    for n in range(20):
        await hub.say("102", f"{n}", f"wamid.{n}", sender=f"49180000000{n}")
    async with asyncio.timeout(5):
        while await database.inbox.count_documents({"_id": {"$regex": "^102:"}, "state": "done"}) < 20:
            await asyncio.sleep(0.01)
    assert sorted(hub.texts) == sorted(str(n) for n in range(20))


async def test_business_whose_assistant_hangs_leaves_turns_for_the_others(
    database: Database, start_hub: StartHub
) -> None:
    """All its turns wait for an answer; they may not be all the turns there are."""
    await prepare(database, "101", "102")
    hub = await start_hub(
        assistant="openai",
        ai_model="stand-in",
        timing={"max_turns": 10},
        rate_limit_business="100000/second",
        ai_timeout_s=20,
    )
    hub.graph.control.faults.arm(Fault(endpoint="chat", effect=Effect.HANG, text="101", times=None, delay_s=20))
    for customer in range(30):
        await hub.say("101", f"101 {customer}", f"wamid.{customer}", sender=f"4917{customer:08}")
    began = time.monotonic()
    await hub.say("102", "hello", "wamid.x")
    await hub.row_where("102", "wamid.x", state="done", outcome="replied")
    assert time.monotonic() - began < 2


async def test_lane_that_holds_too_much_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING_BYTES", 100)
    go_on = asyncio.Event()

    async def write(items: Any) -> list[None]:
        await go_on.wait()
        return [None] * len(items)

    lane: GroupCommit[int, None] = GroupCommit(write)
    first = lane.submit(0, 60)
    await asyncio.sleep(0)
    waiting = [lane.submit(n, 60) for n in (1, 2)]
    with pytest.raises(StoreUnavailable):
        await lane.submit(3, 60)
    go_on.set()
    await asyncio.gather(first, *waiting)
    await lane.submit(4, 60)


# What runs beside the turns does not scan


def scans(profile: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{entry['op']} {entry.get('command')}" for entry in profile if "COLLSCAN" in entry.get("planSummary", "")]


async def test_every_read_and_write_of_the_inbox_uses_an_index(database: Database, start_hub: StartHub) -> None:
    """Whatever a hub does while it takes over a backlog and answers it, as the database itself explains it."""
    await prepare(database, "101")
    waiting = [left_behind("101", customer) for customer in range(300)]
    held = [left_behind("101", customer, owner="spilled:101") for customer in range(300, 400)]
    await database.inbox.insert_many(waiting + held)
    inbox_database = database.inbox.database
    await inbox_database.command({"profile": 2})
    hub = await start_hub(timing={"max_conversations": 100}, rate_limit_business="100000/second")
    hub.graph.control.faults.arm(Fault(effect=Effect.CLOSE_AFTER, times=3))
    await hub.say("101", "hello", "wamid.new")
    await hub.at_rest()
    await asyncio.sleep(5.1)  # the census comes by
    await inbox_database.command({"profile": 0})
    profile = await inbox_database["system.profile"].find({"ns": database.inbox.full_name}).to_list(None)
    plans = {entry.get("planSummary", "") for entry in profile}
    assert any("owned" in str(plan) or "owner" in str(plan) for plan in plans), plans
    assert {"update", "query", "command"} <= {entry["op"] for entry in profile}
    assert scans(profile) == []


# Turns can wait, and webhooks cannot


class Endless:
    """Turns that go on until they are told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.end = asyncio.Event()

    async def advance(self, row: InboxRow) -> End:
        self.begun += 1
        await self.end.wait()
        return End.FINISHED


async def test_while_the_loop_is_late_few_turns_are_begun_and_later_the_others() -> None:
    turns, is_late = Endless(), True
    dispatcher = Dispatcher(
        own_id=lambda: "us",
        turns=turns,  # type: ignore[arg-type]
        outcomes=None,  # type: ignore[arg-type]  # nothing is queued
        metrics=Metrics(),
        loop_is_late=lambda: is_late,
        timing=Timing(),
        business_pacer=Pacer(amount=100_000, per_s=1.0),
        customer_pacer=None,
    )
    for n in range(300):
        message = InboundMessage(
            phone_number_id="101", id=f"wamid.{n}", sender=f"4917{n:08}", timestamp=NOW, item=b'{"type":"text"}'
        )
        dispatcher.stored(dispatcher.enter(message))
    await asyncio.sleep(0.1)
    assert turns.begun == TURNS_WHEN_LATE
    is_late = False
    async with asyncio.timeout(2):
        while turns.begun < 300:
            await asyncio.sleep(0.01)
    turns.end.set()
    await dispatcher.drain(2)
