"""What a business's own document limits: its turns a day, and how many of its messages may wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.hub import Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.http import keys
from whatsapp_hub.inbox.daily_turns import FIELD, DailyTurns
from whatsapp_hub.inbox.dead import DeadLetters
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.inbox.erasable import Whose
from whatsapp_hub.inbox.erasure import Eraser
from whatsapp_hub.tenants.business import Business

OVER = "over the limit of 3 turns a day (assistant.maxTurnsPerDay)"


async def limited(database: Database, **assistant: Any) -> None:
    await database.businesses.insert_many([business("101", assistant=assistant), business("102")])


async def reasons(hub: Hub) -> list[str]:
    return [letter.reason for letter in await DeadLetters(hub.database).find()]


# Turns a day


async def test_turns_beyond_the_limit_of_the_day_become_dead_letters_of_that_business_alone(
    start_hub: StartHub, database: Database
) -> None:
    await limited(database, maxTurnsPerDay=3)
    hub = await start_hub()
    for n in range(5):
        await hub.say("101", f"m{n}", f"wamid.{n}", sender=f"49{n}")
        await hub.say("102", "other", f"wamid.{n}", sender=f"49{n}")
        await hub.at_rest()
    assert [text for text in hub.texts if text != "other"] == ["m0", "m1", "m2"]
    assert hub.texts.count("other") == 5
    assert await reasons(hub) == [OVER] * 2
    counters = await database.events.find({"field": FIELD}).to_list(None)
    assert [counter["count"] for counter in counters] == [4]  # the first that is over is known from then on


async def test_processes_count_together_and_after_a_restart(start_hub: StartHub, database: Database) -> None:
    await limited(database, maxTurnsPerDay=3)
    first, second = await start_hub(), await start_hub()
    await asyncio.gather(
        *(hub.say("101", "m", f"wamid.{n}", sender=f"49{n}") for n, hub in enumerate([first, second] * 4))
    )
    await first.at_rest()
    assert len(first.texts) == 3
    await first.stop()
    await second.stop()
    third = await start_hub()
    await third.say("101", "m", "wamid.9", sender="499")
    await third.at_rest()
    assert len(third.texts) == 3
    assert await reasons(third) == [OVER] * 6


async def test_each_customer_is_told_of_the_limit_once(start_hub: StartHub, database: Database) -> None:
    await limited(database, maxTurnsPerDay=3, limitText="Come back tomorrow.")
    hub = await start_hub()
    for n in range(3):
        await hub.say("101", f"m{n}", f"wamid.{n}", sender="490")
        await hub.at_rest()
    for n, sender in enumerate(["491", "492", "491", "492", "490"]):
        await hub.say("101", "more", f"wamid.1{n}", sender=sender)
        await hub.at_rest()
    told = [send.customer for send in hub.graph.log.accepted if send.text == "Come back tomorrow."]
    assert told == ["491", "492", "490"]
    assert await reasons(hub) == [OVER] * 2


async def test_turn_that_is_tried_again_counts_once(start_hub: StartHub, database: Database) -> None:
    await limited(database, kind="openai", maxTurnsPerDay=3)
    hub = await start_hub(ai_model="stand-in", ai_api_key="key")
    hub.graph.control.faults.arm(Fault(endpoint="chat", status=500, times=9))
    await hub.say("101", "m", "wamid.1")
    await hub.at_rest()
    (counter,) = await database.events.find({"field": FIELD}).to_list(None)
    assert counter["count"] == 1


async def test_limit_ends_with_the_day(database: Database) -> None:
    row = InboxRow.from_document(
        {
            **dict.fromkeys(("owner", "profile_name"), ""),
            **dict.fromkeys(("epoch", "attempts", "place", "arrival"), 1),
            "_id": "101:wamid.1",
            "conversation": "101:490",
            "state": "active",
            "stage": "new",
            "item": b"{}",
        }
    )
    counts, evening = DailyTurns(database), datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    assert [await counts.count("b", row, evening) for _ in range(3)] == [1, 2, 3]
    assert await counts.count("b", row, evening + timedelta(seconds=1)) == 1
    assert await counts.claim_notice("b", row, evening)
    assert await counts.claim_notice("b", row, evening)  # the same message, after a crash
    row.id = "101:wamid.2"
    assert not await counts.claim_notice("b", row, evening)
    assert await counts.claim_notice("b", row, evening + timedelta(seconds=1))


async def test_dead_letter_of_a_full_day_can_be_retried_when_there_is_more(
    start_hub: StartHub, database: Database
) -> None:
    await limited(database, maxTurnsPerDay=1)
    hub = await start_hub()
    for n in range(2):
        await hub.say("101", f"m{n}", f"wamid.{n}", sender=f"49{n}")
        await hub.at_rest()
    await database.businesses.update_one({"subDomain": "b101"}, {"$set": {"assistant.maxTurnsPerDay": 5}})

    async def seen() -> bool:
        found = await hub.app[keys.DIRECTORY].find("101")
        return isinstance(found, Business) and found.assistant is not None and found.assistant.max_turns_per_day == 5

    await until(seen)
    assert await DeadLetters(database).retry("101:wamid.1")
    await hub.row_where("101", "wamid.1", state="done")
    assert hub.texts == ["m0", "m1"]


async def test_business_without_a_limit_costs_nothing(hub: Hub) -> None:
    await hub.say("101", "m", "wamid.1")
    await hub.at_rest()
    assert await hub.database.events.count_documents({"field": FIELD}) == 0


async def test_erasing_takes_the_counters_along(start_hub: StartHub, database: Database) -> None:
    await limited(database, maxTurnsPerDay=1, limitText="Come back tomorrow.")
    hub = await start_hub()
    for n in range(3):
        await hub.say("101", "m", f"wamid.{n}", sender=f"49{n}")
        await hub.at_rest()
    document = await database.businesses.find_one({"subDomain": "b101"})
    assert document is not None
    business_id = str(document["_id"])
    await database.events.insert_one({"_id": "alert:x", "at": datetime.now(UTC), "kind": "alert"})

    async def erase(customer: str | None) -> None:
        whose = Whose(business_id=business_id, numbers=("101",), account_id=None, customer=customer)
        await Eraser(database, whose, lease_s=1, stragglers_s=0).erase()

    assert await database.events.count_documents({"field": FIELD}) == 3
    await erase("491")
    left = await database.events.find({"field": FIELD}).to_list(None)
    assert sorted(one["item"] for one in left) == [b"", b"492"]
    await erase(None)
    assert await database.events.count_documents({"field": FIELD}) == 0


# Messages that wait


async def test_newest_of_what_waits_beyond_the_limit_becomes_dead_letters(
    start_hub: StartHub, database: Database
) -> None:
    await limited(database, maxPending=4)
    hub = await start_hub(timing={"pending_look_s": 0.1}, assistant="openai", ai_model="stand-in")
    hub.graph.control.faults.arm(Fault(endpoint="chat", effect=Effect.HANG, delay_s=1.0, times=None))
    for n in range(6):  # two conversations of three, one after the other
        await hub.say("101", "m", f"wamid.{n}", sender=f"49{n % 2}")
    for n in range(4):
        await hub.say("101", "m", f"wamid.1{n}", sender=f"495{n}")
        await hub.say("102", "m", f"wamid.1{n}", sender=f"495{n}")

    async def given_up() -> bool:
        return await database.inbox.count_documents({"state": "dead"}) == 6

    await until(given_up)
    dead = [row["_id"] async for row in database.inbox.find({"state": "dead"})]
    assert sorted(dead) == [f"101:wamid.{n}" for n in ("10", "11", "12", "13", "4", "5")]
    assert set(await reasons(hub)) == {"more than 4 messages of the business were waiting (assistant.maxPending)"}
    others = await database.inbox.find({"_id": {"$regex": "^102"}}).to_list(None)
    assert [row["state"] for row in others] == ["active"] * 4
    hub.graph.control.faults.clear()
    await hub.at_rest()
    assert await database.inbox.count_documents({"state": "dead"}) == 6
    assert len([send for send in hub.graph.log.accepted if send.phone_number_id == "101"]) >= 2


async def test_what_waits_for_a_token_is_limited_too_and_what_comes_later_is_answered(
    start_hub: StartHub, database: Database, webhooks: Any
) -> None:
    await limited(database, maxPending=5)
    hub = await start_hub(timing={"pending_look_s": 0.1})
    hub.graph.control.faults.arm(Fault(status=401, code=190, token="token-101", times=None))
    await hub.say("101", "first", "wamid.first", sender="490")
    await hub.row_where("101", "wamid.first", stage="held")
    crowd = [text_message(f"m{n}", wamid=f"wamid.{n}", sender=f"491{n:02}") for n in range(30)]
    assert await hub.post(webhook_of(*crowd, number="101")) == 200

    async def few() -> bool:
        return await database.inbox.count_documents({"owner": {"$exists": True}}) == 5

    await until(few)
    token = webhooks.encrypt("token-new")
    await database.businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappAccessToken": token}})
    await hub.at_rest()
    assert hub.texts[0] == "first"
    assert sorted(hub.texts[1:]) == ["m0", "m1", "m2", "m3"]
    await hub.say("101", "again", "wamid.again", sender="49129")  # whose message was given up
    await hub.at_rest()
    assert hub.texts[-1] == "again"


@pytest.mark.parametrize("field", ["maxTurnsPerDay", "maxPending"])
@pytest.mark.parametrize("value", [0, -1, "many", True, 1.5])
async def test_limit_that_is_none_is_told_as_a_fault(
    start_hub: StartHub, database: Database, field: str, value: object
) -> None:
    await limited(database, **{field: value})
    hub = await start_hub()
    await hub.say("101", "m", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="held")
    assert row["reason"] == f"assistant.{field} is not a whole number above 0"
