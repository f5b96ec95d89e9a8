"""Every error code of Meta's over real HTTP: in the answer to a send, and in a ``failed`` status."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub import VAULT, Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.cloud_api.error_codes import CODES
from whatsapp_hub.cloud_api.errors import read_failure, read_response
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.inbox.dead import DeadLetters

Entry = Mapping[str, Any]

ANSWERS: Final[list[Entry]] = json.loads((Path(__file__).parents[1] / "samples/errors/answers.json").read_bytes())
#: Slows everybody, so it would slow this test too.
OF_THE_APP: Final = 4
UNKNOWN: Final = range(999_000, 1_000_000)


def code_of(entry: Entry) -> int:
    code: int = entry["answer"]["error"]["code"]
    return code


def number_of(index: int) -> str:
    return f"9{index:03}"


def customer_of(index: int) -> str:
    return f"49170{index:06}"


async def say_all(hub: Hub, entries: Mapping[int, Entry]) -> None:
    """Have a customer of each one's own business write, all at once."""
    said = [
        webhook_of(text_message("hello", wamid=f"wamid.{i}", sender=customer_of(i)), number=number_of(i))
        for i in entries
    ]
    assert set(await asyncio.gather(*map(hub.post, said))) == {200}


async def renew_tokens(hub: Hub) -> None:
    for document in await hub.database.businesses.find({}, {"subDomain": 1}).to_list(None):
        token = VAULT.encrypt(f"new-token-of-{document['subDomain']}")
        await hub.database.businesses.update_one({"_id": document["_id"]}, {"$set": {"whatsappAccessToken": token}})


async def all_where(hub: Hub, indexes: list[int], **wanted: Any) -> dict[int, dict[str, Any]]:
    """Wait until the documents of all have these values; return them."""
    ids = {f"{number_of(i)}:wamid.{i}": i for i in indexes}
    found: dict[int, dict[str, Any]] = {}

    async def have() -> bool:
        rows = await hub.database.inbox.find({"_id": {"$in": list(ids)}, **wanted}).to_list(None)
        found.update({ids[row["_id"]]: row for row in rows})
        return len(rows) == len(ids)

    try:
        await until(have)
    except TimeoutError:
        pytest.fail(f"not {wanted}: {[ANSWERS[i]['answer'] for i in indexes if i not in found]}")
    return found


def indexes_of(entries: Mapping[int, Entry], verdict: str) -> list[int]:
    return [index for index, entry in entries.items() if entry["verdict"] == verdict]


def test_every_code_that_is_known_is_recorded() -> None:
    assert CODES.keys() <= {code_of(entry) for entry in ANSWERS}


def test_page_for_operators_names_every_code_with_its_consequence() -> None:
    page = (Path(__file__).parents[2] / "docs/errors.md").read_text("utf-8").partition("## Every code")[2]
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    told = {
        int(code): consequence.split()[0].strip(",;")
        for codes, _, consequence in rows
        for code in re.findall(r"(?<![\d-])\d+(?![\dx-])", codes)
    }
    assert told == told | {code: meaning.verdict.value for code, meaning in CODES.items()}


@pytest.mark.parametrize("entry", ANSWERS, ids=lambda entry: str(entry["answer"]["error"]["code"]))
def test_recorded_answer_is_read_as_the_table_says(entry: Entry) -> None:
    result = read_response(entry["status"], json.dumps(entry["answer"]).encode(), None)

    scope = None if result.scope is None else result.scope.value
    assert (result.verdict.value, scope, result.retry_after_s) == (entry["verdict"], entry["scope"], entry["wait_s"])
    assert result.reason.startswith(f"{code_of(entry)} ")
    if code_of(entry) not in UNKNOWN:
        assert read_failure(code_of(entry)).verdict is result.verdict


async def test_every_answer_has_its_consequence(start_hub: StartHub, database: Database) -> None:
    entries = {index: entry for index, entry in enumerate(ANSWERS) if code_of(entry) != OF_THE_APP}
    await database.businesses.insert_many([business(number_of(index)) for index in entries])
    hub = await start_hub()
    for index, entry in entries.items():
        hub.graph.control.faults.arm(
            Fault(
                effect=Effect.GARBAGE,
                status=entry["status"],
                body=json.dumps(entry["answer"]),
                customer=customer_of(index),
                retry_after="0.05" if entry["wait_s"] else None,
            )
        )
    await say_all(hub, entries)

    for index, row in (await all_where(hub, indexes_of(entries, "dead"), state="dead")).items():
        assert row["reason"].startswith(f"{code_of(entries[index])} ")
    for row in (await all_where(hub, indexes_of(entries, "retry"), state="done", outcome="replied")).values():
        assert (row["attempts"], row["parts"][0]["failures"], row["parts"][0]["attempt"]) == (1, 1, 2)
    held = indexes_of(entries, "hold")
    only_by_token = [index for index in held if code_of(entries[index]) in {0, 190}]
    for index, row in (await all_where(hub, only_by_token, stage="held")).items():
        assert row["reason"].startswith(f"{code_of(entries[index])} ")
        sub_domain = f"b{number_of(index)}"
        assert await hub.sample("whatsapp_hub_business_held", business=sub_domain, reason="refused") == 1
    await renew_tokens(hub)
    for row in (await all_where(hub, held, state="done", outcome="replied")).values():
        assert (row["attempts"], row["parts"][0]["failures"], row["parts"][0]["attempt"]) == (1, 0, 2)
    await hub.at_rest()
    assert len(hub.texts) == len(entries) - len(indexes_of(entries, "dead"))
    assert await hub.sample("whatsapp_hub_business_held") == 0


async def test_every_failed_status_has_its_consequence(start_hub: StartHub, database: Database) -> None:
    by_code = {code_of(entry): index for index, entry in enumerate(ANSWERS)}
    entries = {index: ANSWERS[index] for code, index in by_code.items() if code != OF_THE_APP and code not in UNKNOWN}
    await database.businesses.insert_many([business(number_of(index)) for index in entries])
    hub = await start_hub()
    for index, entry in entries.items():
        plan = StatusPlan(steps=(("sent", 0.0), ("failed", 0.05)), failed_code=code_of(entry))
        hub.graph.control.faults.arm(Fault(effect=Effect.NONE, customer=customer_of(index), statuses=plan))
    await say_all(hub, entries)

    dead = indexes_of(entries, "dead")
    for index, row in (await all_where(hub, dead, state="dead")).items():
        assert row["reason"] == f"Meta could not deliver the reply (error {code_of(entries[index])})"
    retried = indexes_of(entries, "retry")
    now = [index for index in retried if not entries[index]["wait_s"]]
    for row in (await all_where(hub, now, state="done", **{"parts.0.rank": 3})).values():
        assert (row["outcome"], row["parts"][0]["resends"]) == ("replied", 1)
    later = [index for index in retried if entries[index]["wait_s"]]
    await all_where(hub, later, stage="backoff", **{"parts.0.resends": 1})
    held = indexes_of(entries, "hold")
    for index, row in (await all_where(hub, held, stage="held")).items():
        assert row["reason"].startswith(f"{code_of(entries[index])} ")
    assert len(hub.texts) == len(entries) + len(now)
    await until(partial(_has_failed, hub, len(dead)))
    assert await hub.sample("whatsapp_hub_business_held", reason="refused") == len(held)
    await renew_tokens(hub)
    await all_where(hub, held, state="done", outcome="replied", **{"parts.0.rank": 3})
    assert await hub.database.inbox.count_documents({"attempts": {"$ne": 1}}) == 0


# Whom a limit slows


def of(sends: Sequence[Send], number: str) -> list[Send]:
    return [send for send in sends if send.phone_number_id == number]


@pytest.mark.parametrize(
    ("code", "slowed"), [(130429, {"101"}), (80007, {"101", "102"}), (4, {"101", "102", "103"}), (131056, set())]
)
async def test_limit_slows_what_it_concerns_and_the_others_go_on_at_full_speed(
    start_hub: StartHub, database: Database, code: int, slowed: set[str]
) -> None:
    numbers = ("101", "102", "103")
    accounts = {"101": "one", "102": "one", "103": "two"}
    await database.businesses.insert_many([business(number, wabaId=accounts[number]) for number in numbers])
    hub = await start_hub()
    hub.graph.control.faults.arm(Fault(code=code, status=400, retry_after="0.7", customer="490"))
    await hub.say("101", "hello", "wamid.0", sender="490")
    await hub.row_where("101", "wamid.0", stage="backoff")
    met = hub.graph.log.sends[0].time
    if slowed:
        scope = {1: "number", 2: "account", 3: "app"}[len(slowed)]
        assert await hub.sample("whatsapp_hub_slowed", scope=scope) == 1
    for number in numbers:
        await hub.say(number, "hello", f"wamid.{number}", sender="491")
    sends = await hub.graph.log.wait_for(4)

    first = {number: of([send for send in sends if send.customer == "491"], number)[0] for number in numbers}
    assert {number for number in numbers if first[number].time - met >= 0.7} == slowed
    (again,) = [send for send in sends if send.customer == "490"]
    assert again.time - met >= 0.7
    await hub.at_rest()
    assert await hub.database.inbox.count_documents({"attempts": {"$ne": 1}}) == 0


async def test_what_waited_for_a_limit_comes_back_a_few_at_a_time(hub: Hub) -> None:
    hub.graph.control.faults.arm(Fault(code=130429, status=400, retry_after="0.5"))
    for n in range(12):
        await hub.say("101", "hello", f"wamid.{n}", sender=f"49{n:03}")
    sends = await hub.graph.log.wait_for(12)

    times = [send.time for send in sends]
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(times))
    assert sum(time - times[0] < 0.5 for time in times) <= 4


async def test_pair_limit_waits_four_to_the_nth_and_holds_up_nobody_else(
    start_hub: StartHub, database: Database
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(timing={"retry_base_s": 0.05})
    hub.graph.control.faults.arm(Fault(code=131056, status=400, customer="490", times=3))
    await hub.say("101", "hello", "wamid.0", sender="490")
    for n in range(20):
        await hub.say("101", "hello", f"wamid.{n + 1}", sender=f"491{n:02}")
    began = time.time()
    await hub.graph.log.wait_for(20)
    assert time.time() - began < 0.8
    await hub.row_where("101", "wamid.0", state="done")

    tries = [send.time for send in hub.graph.log.sends if send.customer == "490"]
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert [0.05 * 4.0**n <= wait < 0.05 * 4.0**n * 1.25 + 0.3 for n, wait in enumerate(waits)] == [True] * 3


async def test_number_sends_no_more_than_its_business_says_and_parts_count(
    start_hub: StartHub, database: Database
) -> None:
    await database.businesses.insert_many([business("101", messagesPerSecond=5), business("102")])
    hub = await start_hub()
    for n in range(4):
        await hub.say("101", "x" * 8000, f"wamid.{n}", sender=f"49{n}")
        await hub.say("102", "x" * 8000, f"wamid.{n}", sender=f"49{n}")
    sends = await hub.graph.log.wait_for(16)

    paced, others = ([send.time for send in of(sends, number)] for number in ("101", "102"))
    assert sum(time - paced[0] < 0.95 for time in paced) == 5
    assert others[-1] - others[0] < 0.9
    assert [row["attempts"] async for row in hub.database.inbox.find({})] == [1] * 8


async def test_faulty_pace_of_a_document_holds_its_business(start_hub: StartHub, database: Database) -> None:
    await database.businesses.insert_one(business("101", messagesPerSecond="many"))
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="held")
    assert row["reason"] == "messagesPerSecond is not a whole number above 0"


async def test_typing_that_meets_a_limit_slows_the_sends_and_no_more_of_it_is_shown(
    start_hub: StartHub, database: Database
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(typing_indicator=True)
    hub.graph.control.faults.arm(Fault(endpoint="typing", code=80007, status=400, retry_after="0.6"))
    await hub.say("101", "hello", "wamid.1")

    async def slowed() -> bool:
        return await hub.sample("whatsapp_hub_slowed", scope="account") == 1

    await until(slowed)
    began = time.time()
    await hub.say("101", "hello", "wamid.2", sender="492")
    await hub.row_where("101", "wamid.2", state="done")
    assert time.time() - began > 0.3
    assert hub.graph.typings == []


# What fails late


def failing(code: int, **values: Any) -> Fault:
    """Accept a message and report it as failed a moment later."""
    plan = StatusPlan(steps=(("sent", 0.0), ("failed", 0.05)), failed_code=code, copies=values.pop("copies", 1))
    return Fault(effect=values.pop("effect", Effect.NONE), statuses=plan, **values)


async def test_only_the_part_that_failed_is_sent_again(hub: Hub) -> None:
    first, second = "a" * 4000, "b" * 4000
    hub.graph.control.faults.arm(failing(131016, text="aaa"))
    await hub.say("101", f"{first} {second}", "wamid.1")
    row = await until(lambda: _where(hub, "wamid.1", rank=3))

    assert hub.texts == [first, second, first]
    assert [part["attempt"] for part in row["parts"]] == [3, 1]
    assert row["outcome"] == "replied"
    history = await hub.database.conversations.find_one({})
    assert history is not None
    assert len(history["turns"]) == 1


async def _has_failed(hub: Hub, count: int, **labels: str) -> bool:
    """Whether so many replies are counted as failed: that is done after the write, and beside the turns."""
    return await hub.sample("whatsapp_hub_replies_total", result="failed", **labels) == count


async def _where(hub: Hub, wamid: str, *, rank: int, part: int = 0) -> dict[str, Any] | None:
    row = await hub.row("101", wamid)
    ranks = [found["rank"] for found in row.get("parts", ())]
    return row if row["state"] == "done" and ranks[part : part + 1] == [rank] else None


async def test_message_that_fails_again_and_again_dies_after_three_more_sends(hub: Hub) -> None:
    hub.graph.control.faults.arm(failing(131000, times=None))
    await hub.say("101", "hello", "wamid.1")
    row = await hub.row_where("101", "wamid.1", state="dead")

    assert row["reason"] == "Meta could not deliver the reply (error 131000)"
    assert len(hub.texts) == 4
    assert row["parts"][0]["resends"] == 3
    await until(partial(_has_failed, hub, 1, business="b101"))


async def test_copies_of_a_failed_status_have_it_sent_again_once(hub: Hub) -> None:
    hub.graph.control.faults.arm(failing(131016, copies=5))
    await hub.say("101", "hello", "wamid.1")
    await until(lambda: _where(hub, "wamid.1", rank=3))
    await hub.at_rest()

    assert hub.texts == ["hello", "hello"]
    # The copies say something of an attempt that has been put an end to.
    assert await hub.sample("whatsapp_hub_items_total", kind="status", outcome="new") >= 4


async def test_status_that_is_faster_than_the_outcome_has_the_part_sent_again(hub: Hub) -> None:
    """The first part fails while the second is under way, so that its turn finds it when it wants to end."""
    hub.graph.control.faults.arm(failing(131016, text="aaa"))
    hub.graph.control.faults.arm(Fault(effect=Effect.SLOW_BODY, delay_s=0.4, text="bbb"))
    await hub.say("101", "a" * 4000 + " " + "b" * 4000, "wamid.1")
    await until(lambda: _where(hub, "wamid.1", rank=3))

    assert [text[0] for text in hub.texts] == ["a", "b", "a"]


async def test_failed_status_of_a_send_that_nobody_knew_of_has_it_sent_again(hub: Hub) -> None:
    hub.graph.control.faults.arm(failing(131016, effect=Effect.CLOSE_AFTER))
    hub.graph.control.plan = StatusPlan(steps=(("failed", 0.0),), failed_code=131016)
    await hub.say("101", "hello", "wamid.1")
    hub.graph.control.plan = StatusPlan()
    row = await until(lambda: _where(hub, "wamid.1", rank=3))

    assert row["parts"][0]["resends"] == 1
    assert hub.texts == ["hello", "hello"]


async def test_later_message_is_answered_while_an_earlier_one_waits_to_be_sent_again_only_if_it_came_before(
    hub: Hub,
) -> None:
    hub.graph.control.faults.arm(failing(131016, text="first"))
    await hub.say("101", "first", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done")
    await hub.say("101", "second", "wamid.2")
    await until(lambda: _where(hub, "wamid.1", rank=3))
    await hub.row_where("101", "wamid.2", state="done")

    assert sorted(hub.texts) == ["first", "first", "second"]
    assert hub.texts[0] == "first"


async def test_status_that_comes_to_another_hub_has_it_sent_again(hub: Hub, start_hub: StartHub) -> None:
    hub.graph.control.plan = StatusPlan(steps=())
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done")
    other = await start_hub()
    send = hub.graph.log.accepted[0]
    status = {
        "id": send.wamid,
        "status": "failed",
        "timestamp": "1",
        "biz_opaque_callback_data": send.callback,
        "errors": [{"code": 131016, "title": "Service unavailable"}],
    }
    assert await other.post(webhook_of(number="101", statuses=[status])) == 200
    await hub.graph.log.wait_for(2)
    await hub.row_where("101", "wamid.1", state="done")
    assert hub.texts == ["hello", "hello"]


async def test_messages_that_failed_late_hold_their_business_once_and_not_one_after_the_other(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    for sender in ("490", "491", "492"):
        hub.graph.control.faults.arm(failing(131042, customer=sender))
        await hub.say("101", "hello", f"wamid.{sender}", sender=sender)

    async def held() -> bool:
        return await hub.database.inbox.count_documents({"stage": "held"}) == 3

    await until(held)
    await renew_tokens(hub)
    for sender in ("490", "491", "492"):
        row = await hub.row_where("101", f"wamid.{sender}", state="done")
        assert row["parts"][0].get("resends", 0) == 0
    assert len(hub.texts) == 6
    assert [record.message for record in caplog.records].count("business held") == 1


async def test_dead_letter_whose_sends_all_failed_can_be_retried(hub: Hub) -> None:
    hub.graph.control.faults.arm(failing(131000, times=4))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="dead")
    hub.graph.control.faults.arm(failing(131000, times=1))
    assert await DeadLetters(hub.database).retry("101:wamid.1")
    row = await until(lambda: _where(hub, "wamid.1", rank=3))
    assert row["parts"][0]["resends"] == 1
    assert len(hub.texts) == 6
