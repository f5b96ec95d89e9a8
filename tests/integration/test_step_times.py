"""An inbox document tells when each step of its message was."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from tests.api import Caller, api_key, stored_key
from tests.hub import Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox.dead import DeadLetters
from whatsapp_hub.inbox.timeline import Clock, Kind, build_timeline


async def row_with_status(hub: Hub, wamid: str, status: str) -> dict[str, Any]:
    async def told() -> dict[str, Any] | None:
        row = await hub.row("101", wamid)
        return row if any(status in part.get("times", {}) for part in row.get("parts", ())) else None

    return await until(told)


async def test_answered_message_has_the_time_of_each_step(hub: Hub) -> None:
    began = time.time_ns()
    await hub.say("101", "hello", "wamid.1")
    row = await row_with_status(hub, "wamid.1", "delivered")
    times, [part] = row["times"], row["parts"]
    moments = [began, row["arrival"], *(times[name] for name in ("stored", "begun", "asked", "answered"))]
    moments += [*part["posted"], time.time_ns()]
    assert moments == sorted(moments)
    timeline = build_timeline(row)
    kinds = [step.kind for step in timeline.steps]
    assert kinds[1:8] == ["received", "stored", "begun", "asked", "answered", "posted", "accepted"]
    assert {Kind.SENT, Kind.DELIVERED} <= set(kinds[8:])
    assert timeline.reply_s == pytest.approx((part["posted"][1] - row["arrival"]) / 1e9, abs=2e-6)


async def test_message_that_needs_no_answer_has_times_too(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub()
    reaction = text_message("", wamid="wamid.1", type="reaction", reaction={"message_id": "wamid.0", "emoji": "x"})
    assert await hub.post(webhook_of(reaction, number="101")) == 200
    row = await hub.row_where("101", "wamid.1", state="done")
    assert sorted(row["times"]) == ["begun", "stored"]


async def test_messages_answered_together_tell_the_steps_of_the_turn(hub: Hub) -> None:
    payload = webhook_of(*(text_message(f"line {n}", wamid=f"wamid.{n}") for n in range(3)), number="101")
    assert await hub.post(payload) == 200
    await hub.at_rest()
    rows = [await hub.row("101", f"wamid.{n}") for n in range(3)]
    by_id = {row["_id"]: row for row in rows}
    taken = [row for row in rows if row["outcome"] == "in_turn"]
    assert taken
    for row in taken:
        timeline = build_timeline(row, by_id[row["turn"]])
        assert [step.kind for step in timeline.steps if step.clock is Clock.HUB][-2:] == ["posted", "accepted"]
        assert timeline.reply_s is not None


async def test_send_that_had_to_be_tried_again_tells_the_last_one(hub: Hub) -> None:
    hub.graph.control.faults.arm(Fault(code=131016, times=1))
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="done")
    [send] = hub.graph.log.accepted
    [part] = row["parts"]
    assert part["attempt"] == 2
    assert len(part["posted"]) == 2
    assert part["posted"][0] > row["times"]["answered"]
    assert "reply was sent, in 2 attempts" in build_timeline(row).facts
    assert send.text == "hello"


async def test_retried_letter_tells_its_whole_story(hub: Hub) -> None:
    hub.graph.control.faults.arm(Fault(code=131026, times=1))
    await hub.say("101", "hello", "wamid.1")
    dead = await hub.row_where("101", "wamid.1", state="dead")
    assert await DeadLetters(hub.database).retry(dead["_id"])
    row = await hub.row_where("101", "wamid.1", state="done")
    timeline = build_timeline(row)
    kinds = [step.kind for step in timeline.steps if step.clock is Clock.HUB]
    assert kinds == ["received", "dead", "retried", "begun", "asked", "answered", "posted", "accepted"]
    known = [step.at for step in timeline.steps if step.at and step.clock is Clock.HUB]
    assert all(earlier <= later for earlier, later in pairwise(known))


async def test_message_sent_from_outside_has_times(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101", apiKeys=[stored_key("caller")]))
    hub = await start_hub()
    caller = Caller(hub=hub, sub_domain="b101", key=api_key("caller")[0])
    message_id = await caller.say("good morning")
    row = await hub.row_where("101", message_id, state="done")
    kinds = [step.kind for step in build_timeline(row).steps if step.clock is Clock.HUB]
    assert kinds == ["received", "stored", "begun", "posted", "accepted"]
