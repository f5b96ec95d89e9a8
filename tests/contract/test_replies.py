"""What the environment says about replies: where they go, how fast, how late, and what a stop waits for."""

from __future__ import annotations

import time

import pytest

from tests.contract.conftest import Recorder
from tests.hub import Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import Typing

BOTH = ("101", "102")


@pytest.fixture(autouse=True)
async def _two_businesses(database: Database) -> None:
    await database.businesses.insert_many(map(business, BOTH))


# Where they go


@pytest.mark.parametrize(("version", "expected"), [("v99.1", "v99.1"), ("", "v26.0")])
async def test_replies_go_to_graph_api_base_url_in_graph_api_version(
    start_hub: StartHub, recorder: Recorder, version: str, expected: str
) -> None:
    hub = await start_hub(GRAPH_API_BASE_URL=f"{recorder.url}/somewhere", GRAPH_API_VERSION=version)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    (asked,) = recorder.asked
    assert asked.path == f"/somewhere/{expected}/101/messages"
    assert asked.authorization == "Bearer token-101"
    assert asked.body["messaging_product"] == "whatsapp"
    assert (asked.body["to"], asked.body["text"]["body"]) == ("491700000001", "hello")


@pytest.mark.parametrize(("most", "expected"), [("2", 2), ("400", 230)])
async def test_graph_max_connections_are_open_at_most(
    start_hub: StartHub, recorder: Recorder, most: str, expected: int
) -> None:
    recorder.may_answer.clear()
    settings = {"GRAPH_MAX_CONNECTIONS": most, "RATE_LIMIT_BUSINESS": "1000/second", "TYPING_INDICATOR": "false"}
    hub = await start_hub(GRAPH_API_BASE_URL=recorder.url, **settings)
    crowd = [text_message("hello", wamid=f"wamid.{n}", sender=f"49{n}") for n in range(230)]
    assert await hub.post(webhook_of(*crowd, number="101")) == 200
    await recorder.hold(expected)
    await hub.at_rest()
    assert recorder.most_running == expected
    assert len(recorder.asked) == 230


@pytest.mark.parametrize("value", ["true", "false", ""])
async def test_typing_indicator_shows_that_the_message_was_read_and_is_answered(
    start_hub: StartHub, value: str
) -> None:
    hub = await start_hub(TYPING_INDICATOR=value)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    if value == "false":
        assert hub.graph.typings == []
        return

    async def is_shown() -> bool:
        return hub.graph.typings == [Typing(phone_number_id="101", message_id="wamid.1", shows_typing=True)]

    await until(is_shown)


# How fast


async def test_rate_limit_business_paces_a_number_and_loses_nothing(start_hub: StartHub) -> None:
    hub = await start_hub(RATE_LIMIT_BUSINESS="10/second")
    crowd = [text_message(f"m{n}", wamid=f"wamid.{n}", sender=f"49{n}") for n in range(16)]
    assert await hub.post(webhook_of(*crowd, number="101")) == 200
    await hub.say("102", "hello", "wamid.1")
    sends = await hub.graph.log.wait_for(17)
    paced = [send.time for send in sends if send.phone_number_id == "101"]
    assert len(paced) == 16
    assert paced[-1] - paced[0] >= 0.4  # six over the ten of a second, a tenth of a second each
    (other,) = [send.time for send in sends if send.phone_number_id == "102"]
    assert other < paced[-1]


@pytest.mark.parametrize(("rate", "answered"), [("1/hour", ["1"]), ("2/hour", ["1", "2"]), ("", ["1", "2", "3"])])
async def test_conversation_over_rate_limit_customer_waits_and_no_other_does(
    start_hub: StartHub, rate: str, answered: list[str]
) -> None:
    hub = await start_hub(RATE_LIMIT_CUSTOMER=rate)
    for n, text in enumerate(("1", "2", "3")):
        await hub.say("101", text, f"wamid.{text}")
        if n < len(answered):
            await hub.row_where("101", f"wamid.{text}", state="done")
    await hub.say("101", "other", "wamid.other", sender="492")
    await hub.say("102", "elsewhere", "wamid.other")
    await hub.graph.log.wait_for(len(answered) + 2)
    assert [send.text for send in hub.graph.log.accepted if send.text.isdigit()] == answered
    for text in {"1", "2", "3"} - {*answered}:
        assert (await hub.row("101", f"wamid.{text}"))["state"] in {"active", "queued"}


# How late


async def test_message_older_than_reply_max_age_s_becomes_a_dead_letter(start_hub: StartHub) -> None:
    hub = await start_hub(REPLY_MAX_AGE_S="60")
    for age_s in (90, 30):
        at = str(int(time.time()) - age_s)
        message = text_message(f"{age_s}", wamid=f"wamid.{age_s}", sender=f"49{age_s}", timestamp=at)
        assert await hub.post(webhook_of(message, number="101")) == 200
    await hub.at_rest()
    assert hub.texts == ["30"]
    row = await hub.row("101", "wamid.90")
    assert row["state"] == "dead"
    assert row["reason"].startswith("too old")


async def test_default_of_reply_max_age_s_is_six_hours(hub: Hub) -> None:
    for hours, state in ((5.9, "done"), (6.1, "dead")):
        at = str(int(time.time() - hours * 3600))
        message = text_message(f"{hours}", wamid=f"wamid.{hours}", sender=f"49{state}", timestamp=at)
        assert await hub.post(webhook_of(message, number="103")) == 200
        await hub.row_where("103", f"wamid.{hours}", state=state)


# What a stop waits for


async def test_stop_waits_for_running_turns_within_drain_timeout_s(start_hub: StartHub) -> None:
    hub = await start_hub(DRAIN_TIMEOUT_S="5")
    hub.graph.control.latency_s = (0.3, 0.3)
    await hub.say("101", "hello", "wamid.1")
    await hub.stop()
    assert hub.texts == ["hello"]
    assert (await hub.row("101", "wamid.1"))["state"] == "done"


async def test_stop_hands_back_what_takes_longer_than_drain_timeout_s(start_hub: StartHub) -> None:
    hub = await start_hub(DRAIN_TIMEOUT_S="0.05")
    hub.graph.control.latency_s = (1, 1)
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="replying")
    began = time.monotonic()
    await hub.stop()
    assert time.monotonic() - began < 0.8
    row = await hub.row("101", "wamid.1")
    assert row["state"] == "active"
    node = await hub.database.nodes.find_one({"_id": row["owner"]})
    assert node is not None
    assert node["state"] == "stopped"  # so the next round of any node takes what it has
