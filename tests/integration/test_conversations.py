"""From a signed webhook to a delivered reply, over real HTTP and a real database."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

import orjson
import pytest

from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan


async def test_message_is_answered_with_the_token_of_its_business(hub: Any) -> None:
    hub.graph.control.tokens = {number: f"token-{number}" for number in ("101", "102", "103")}
    for number in ("101", "102", "103"):
        await hub.say(number, f"hello {number}", "wamid.1")
    sends = await hub.graph.log.wait_for(3)
    assert {(send.phone_number_id, send.to, send.text) for send in sends} == {
        (number, "491700000001", f"hello {number}") for number in ("101", "102", "103")
    }


async def test_statuses_raise_the_rank_of_the_reply_and_never_lower_it(hub: Any) -> None:
    hub.graph.control.plan = StatusPlan(steps=(("read", 0.0), ("delivered", 0.05), ("sent", 0.1)))
    await hub.say("101", "hello", "wamid.1")
    row = await _row_with_times(hub, 3)
    assert row["parts"][0]["rank"] == 3
    assert await hub.database.events.count_documents({}) == 0


async def _row_with_times(hub: Any, count: int) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            row: dict[str, Any] = await hub.row("101", "wamid.1")
            if len((row.get("parts") or [{}])[0].get("times", {})) == count:
                return row
            await asyncio.sleep(0.01)


async def test_twenty_concurrent_copies_are_answered_once(hub: Any, webhooks: Any) -> None:
    payload = webhooks.of(webhooks.text("hello", wamid="wamid.1"), number="101")
    assert await asyncio.gather(*(hub.post(payload) for _ in range(20))) == [200] * 20
    await hub.at_rest()
    assert hub.texts == ["hello"]
    assert (await hub.row("101", "wamid.1"))["deliveries"] == 19


async def test_copy_that_names_its_sender_otherwise_is_a_copy(hub: Any, webhooks: Any) -> None:
    first = webhooks.text("hello", wamid="wamid.1")
    assert await hub.post(webhooks.of(first, number="101")) == 200
    assert await hub.post(webhooks.of({**first, "from_user_id": "US.1"}, number="101")) == 200
    await hub.at_rest()
    assert hub.texts == ["hello"]
    assert (await hub.row("101", "wamid.1"))["deliveries"] == 1


async def test_batch_of_fifty_messages_of_ten_businesses_is_answered_whole(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    numbers = [f"20{n}" for n in range(10)]
    await database.businesses.insert_many([webhooks.business(number) for number in numbers])
    hub = await start_hub()
    entries = []
    for n, number in enumerate(numbers):
        messages = [
            webhooks.text(f"{number}#{m}", wamid=f"wamid.{n}.{m}", sender=f"4917000000{n}{m}") for m in range(5)
        ]
        entries += webhooks.of(*messages, number=number)["entry"]
    assert await hub.post({"object": "whatsapp_business_account", "entry": entries}) == 200
    sends = await hub.graph.log.wait_for(50)
    assert sorted(send.text for send in sends) == sorted(f"{number}#{m}" for number in numbers for m in range(5))
    assert all(send.text.startswith(send.phone_number_id) for send in sends)


@pytest.mark.parametrize(
    "oddity",
    [
        pytest.param(b'"big":18446744073709551615', id="integer of 2^64-1"),
        pytest.param(b'"big":123456789012345678901234567890', id="integer beyond 64 bits"),
        pytest.param(b'"a\\u0000b":1', id="NUL in a key"),
        pytest.param(b'"lone":"\\ud800"', id="lone surrogate"),
        pytest.param(b'"$where":{"$gt":"."},"a.b":1', id="operators and dots as keys"),
    ],
)
async def test_item_that_cannot_be_encoded_costs_its_neighbours_nothing(hub: Any, webhooks: Any, oddity: bytes) -> None:
    before, odd, after = (webhooks.text(t, wamid=f"wamid.{t}", sender=f"4917{t}") for t in ("before", "odd", "after"))
    body = orjson.dumps(webhooks.of(before, odd, after, number="101"))
    body = body.replace(b'"id":"wamid.odd"', b'"id":"wamid.odd",' + oddity)
    assert await hub.post(body) == 200
    await hub.at_rest()
    assert sorted(hub.texts) == ["after", "before", "odd"]


async def test_numbered_messages_of_200_conversations_come_in_order(hub: Any) -> None:
    async def customer(c: int) -> None:
        for n in range(5):
            await hub.say("101", f"{c}#{n}", f"wamid.{c}.{n}", sender=f"4917{c:08}")

    await asyncio.gather(*map(customer, range(200)))
    await hub.at_rest()
    seen: dict[str, list[Any]] = defaultdict(list)
    for send in hub.graph.log.accepted:
        seen[send.customer] += [line.partition("#")[::2] for line in send.text.split("\n")]
    assert len(seen) == 200
    for c in range(200):
        assert seen[f"4917{c:08}"] == [(str(c), str(n)) for n in range(5)]


async def test_what_comes_while_a_turn_runs_is_answered_in_one_turn(hub: Any) -> None:
    hub.graph.control.latency_s = (0.3, 0.3)
    await hub.say("101", "first", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="replying")
    for n in range(2, 6):
        await hub.say("101", f"more {n}", f"wamid.{n}")
    await hub.at_rest()
    assert hub.texts == ["first", "more 2\nmore 3\nmore 4\nmore 5"]
    assert (await hub.row("101", "wamid.2"))["members"] == [f"101:wamid.{n}" for n in (3, 4, 5)]
    assert (await hub.row("101", "wamid.4"))["turn"] == "101:wamid.2"


async def test_a_turn_takes_at_most_fifty_messages(hub: Any, webhooks: Any) -> None:
    hub.graph.control.latency_s = (0.3, 0.3)
    await hub.say("101", "first", "wamid.first")
    await hub.row_where("101", "wamid.first", stage="replying")
    messages = [webhooks.text(f"m{n:03}", wamid=f"wamid.{n}", timestamp=str(int(time.time()))) for n in range(120)]
    assert await hub.post(webhooks.of(*messages, number="101")) == 200
    await hub.at_rest()
    turns = [text.split("\n") for text in hub.texts]
    assert [len(turn) for turn in turns] == [1, 50, 50, 20]
    assert [line for turn in turns[1:] for line in turn] == [f"m{n:03}" for n in range(120)]


async def test_sends_of_one_conversation_never_overlap(hub: Any) -> None:
    hub.graph.control.latency_s = (0.03, 0.03)
    for n in range(6):
        await hub.say("101", str(n), f"wamid.{n}")
        await asyncio.sleep(0.01)
    await hub.at_rest()
    times = [send.time for send in hub.graph.log.accepted]
    assert all(later - earlier >= 0.03 for earlier, later in pairwise(times))


async def test_long_reply_goes_out_in_parts_in_order(hub: Any) -> None:
    words = " ".join(f"word{n:05}" for n in range(1000))
    await hub.say("101", words, "wamid.1")
    await hub.at_rest()
    assert len(hub.texts) == 3
    assert " ".join(hub.texts) == words
    parts = (await hub.row("101", "wamid.1"))["parts"]
    assert [part["state"] for part in parts] == ["sent", "sent", "sent"]


async def test_history_reaches_the_assistant(database: Database, start_hub: Any, webhooks: Any) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    hub = await start_hub(assistant="openai", ai_model="stand-in", history_turns=2)
    for n in range(4):
        await hub.say("101", f"question {n}", f"wamid.{n}")
        await hub.at_rest()
    asked = hub.graph.model.requests[-1].body["messages"]
    assert [m["role"] for m in asked] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m["content"] for m in asked if m["role"] == "user"] == ["question 1", "question 2", "question 3"]


async def test_reaction_is_stored_and_not_answered(hub: Any, webhooks: Any) -> None:
    reaction = {
        **webhooks.text("", wamid="wamid.1"),
        "type": "reaction",
        "reaction": {"message_id": "wamid.x", "emoji": "👍"},
    }
    del reaction["text"]
    assert await hub.post(webhooks.of(reaction, number="101")) == 200
    await hub.row_where("101", "wamid.1", state="done", outcome="no_reply")
    assert hub.texts == []


async def test_business_that_is_switched_off_is_not_answered(database: Database, start_hub: Any, webhooks: Any) -> None:
    await database.businesses.insert_one(webhooks.business("101", isActive=False))
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="no_reply")
    assert hub.texts == []


async def test_message_for_a_number_that_no_business_has_is_answered_when_one_appears(hub: Any, webhooks: Any) -> None:
    await hub.say("999", "hello", "wamid.1")
    row = await hub.row_where("999", "wamid.1", stage="held")
    assert row["reason"] == "no business has this phone number"
    await hub.database.businesses.insert_one(webhooks.business("999"))
    await hub.row_where("999", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["hello"]


async def test_message_that_is_too_old_becomes_a_dead_letter(hub: Any, webhooks: Any) -> None:
    old = webhooks.text("hello", wamid="wamid.1", timestamp=str(int(time.time()) - 7 * 3600))
    assert await hub.post(webhooks.of(old, number="101")) == 200
    row = await hub.row_where("101", "wamid.1", state="dead")
    assert row["reason"].startswith("too old")
    assert hub.texts == []


# What Graph can do wrong


async def test_refused_token_holds_its_business_alone_and_a_new_one_releases_it(hub: Any, webhooks: Any) -> None:
    hub.graph.control.tokens = {"101": "another", "102": "token-102"}
    await hub.say("101", "held", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="held")
    await hub.say("102", "free", "wamid.2")
    await hub.row_where("102", "wamid.2", state="done")
    assert hub.texts == ["free"]
    assert row["attempts"] == 1

    changed = {"$set": {"whatsappAccessToken": webhooks.encrypt("another")}}
    await hub.database.businesses.update_one({"subDomain": "b101"}, changed)
    row = await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["free", "held"]
    assert row["attempts"] == 1


async def test_refused_message_becomes_a_dead_letter_with_its_reason(hub: Any) -> None:
    hub.graph.control.faults.arm(Fault(code=131047, status=400))
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="dead")
    assert row["reason"].startswith("131047 over 24 hours since the customer's last message")
    await hub.say("101", "again", "wamid.2")
    await hub.row_where("101", "wamid.2", state="done")
    assert hub.texts == ["again"]


@pytest.mark.parametrize("code", [2, 4, 130429, 131016, 131056, 131000])
async def test_send_that_graph_refuses_for_now_is_tried_again(hub: Any, code: int) -> None:
    hub.graph.control.faults.arm(Fault(code=code, status=500, times=3))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["hello"]


async def test_send_that_keeps_failing_becomes_a_dead_letter(hub: Any) -> None:
    hub.graph.control.faults.arm(Fault(code=131000, status=500, times=None))
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="dead")
    assert row["reason"].startswith("failed 5 times: 131000")


@pytest.mark.parametrize("effect", [Effect.CLOSE_AFTER, Effect.TRUNCATED, Effect.NO_ID, Effect.CUT])
async def test_send_that_was_accepted_is_not_repeated_where_a_status_tells(hub: Any, effect: Effect) -> None:
    hub.graph.control.faults.arm(Fault(effect=effect, times=1))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["hello"]


async def test_send_of_unknown_outcome_is_repeated_only_after_the_wait(hub: Any) -> None:
    hub.graph.control.faults.arm(Fault(effect=Effect.CLOSE_BEFORE, times=1))
    began = time.monotonic()
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="ambiguous")
    assert row["attempts"] == 1
    row = await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["hello"]
    assert time.monotonic() - began >= hub.settings.timing.status_wait_s
    assert row["parts"][0]["attempt"] == 2


async def test_second_part_is_not_lost_to_the_first_parts_status(hub: Any) -> None:
    hub.graph.control.faults.arm(Fault(effect=Effect.CLOSE_BEFORE, text="tail", times=1))
    await hub.say("101", "x" * 4095 + " tail", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["x" * 4095, "tail"]


async def test_failed_status_makes_a_dead_letter_of_an_answered_message(hub: Any) -> None:
    hub.graph.control.plan = StatusPlan(steps=(("sent", 0.0), ("failed", 0.1)), failed_code=131026)
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="dead")
    assert "131026" in row["reason"]
    assert row["parts"][0]["rank"] == 9


async def test_status_that_matches_nothing_is_kept_as_an_event(hub: Any, webhooks: Any) -> None:
    status = {"id": "wamid.unknown", "status": "read", "timestamp": "1", "recipient_id": "491700000001"}
    payload = webhooks.of(number="101", statuses=[status])
    assert [await hub.post(payload), await hub.post(payload)] == [200, 200]
    assert await hub.database.events.count_documents({}) == 1


async def test_forged_callback_data_changes_nothing_of_another_business(hub: Any, webhooks: Any) -> None:
    hub.graph.control.plan = StatusPlan(steps=())
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="done")
    send = hub.graph.log.accepted[0]
    for callback in (send.callback, send.callback.replace("wamid.1", "101:wamid.1")):
        forged = {"id": send.wamid, "status": "failed", "timestamp": "1", "biz_opaque_callback_data": callback}
        assert await hub.post(webhooks.of(number="102", statuses=[forged])) == 200
    assert await hub.row("101", "wamid.1") == row
    assert await hub.database.events.count_documents({}) == 1


async def test_fault_that_takes_the_place_of_another_is_told(hub: Any, database: Database, webhooks: Any) -> None:
    """An operator who mends one thing and breaks another has to hear of that."""
    hub.graph.control.faults.arm(Fault(status=401, code=190, token="token-101", times=None))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="held")
    assert await hub.sample("whatsapp_hub_business_held", business="b101", reason="refused") == 1
    await database.businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappAccessToken": "not encrypted"}})
    async with asyncio.timeout(5):
        while await hub.sample("whatsapp_hub_business_held", business="b101", reason="fault") != 1:
            await asyncio.sleep(0.02)
    assert await hub.sample("whatsapp_hub_business_held", business="b101", reason="refused") == 0
    token = webhooks.encrypt("token-new")
    await database.businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappAccessToken": token}})
    await hub.row_where("101", "wamid.1", state="done")
    assert hub.texts == ["hello"]


# What the assistant can do wrong


async def test_assistant_that_fails_for_good_is_replaced_by_a_polite_text(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await database.businesses.insert_one(webhooks.business("101", assistant={"fallbackText": "One moment, please."}))
    hub = await start_hub(assistant="openai", ai_model="stand-in")
    hub.graph.control.faults.arm(Fault(endpoint="chat", status=400, code=1, times=None))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.texts == ["One moment, please."]


# Stopping and going on


async def test_second_hub_goes_on_where_a_stopped_one_left_off(hub: Any, start_hub: Any) -> None:
    hub.graph.control.faults.arm(Fault(effect=Effect.CLOSE_BEFORE, times=1))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="ambiguous")
    await hub.stop()
    node: Any = await hub.database.nodes.find_one({"_id": (await hub.row("101", "wamid.1"))["owner"]})
    assert node["state"] == "stopped"  # nobody has to wait for its lease
    second = await start_hub()
    row = await second.row_where("101", "wamid.1", state="done", outcome="replied")
    assert row["attempts"] == 1
    assert second.texts == ["hello"]


async def test_running_turns_are_finished_before_the_stop(hub: Any) -> None:
    hub.graph.control.latency_s = (0.4, 0.4)
    for n in range(10):
        await hub.say("101", f"hello {n}", f"wamid.{n}", sender=f"49170000000{n}")
    await hub.stop()
    assert sorted(hub.texts) == [f"hello {n}" for n in range(10)]
    assert await hub.database.inbox.count_documents({"state": "done"}) == 10


async def test_two_hubs_keep_the_order_of_a_conversation(hub: Any, start_hub: Any) -> None:
    second = await start_hub()
    for n in range(30):
        await (hub, second)[n % 2].say("101", str(n), f"wamid.{n}")
    await hub.at_rest()
    assert [line for text in hub.texts for line in text.split("\n")] == [str(n) for n in range(30)]
