"""Sending from outside: what is accepted is sent once, in order, with the business's token, and can be asked after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.api import Caller, api_key, stored_key, text_to
from tests.hub import VAULT, Hub, business, hubs_on, own_database, until
from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan
from whatsapp_hub.demo.graph import fingerprint
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.demo.uploads import Upload
from whatsapp_hub.http import keys
from whatsapp_hub.http.openapi_messages import examples
from whatsapp_hub.inbox.dead import DeadLetters

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = ("101", "102", "103")


def documents() -> list[dict[str, Any]]:
    """102 has two numbers."""
    first, second, third = (business(number, apiKeys=[stored_key(f"key of {number}")]) for number in NUMBERS)
    return [first, {**second, "whatsappPhoneNumberIds": ["102", "112"]}, third]


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all; each test has a customer of its own."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many(documents())
        yield await start()


@pytest.fixture
def caller(hub: Hub) -> Caller:
    """The business with one number."""
    return Caller(hub=hub, sub_domain="b101", key=api_key("key of 101")[0])


@pytest.fixture
def other(hub: Hub) -> Caller:
    """The business with two."""
    return Caller(hub=hub, sub_domain="b102", key=api_key("key of 102")[0])


@pytest.fixture
def customer() -> str:
    """Somebody whom no other test writes to."""
    return f"4917{uuid4().int % 10**9:09}"


def sends_to(hub: Hub, customer: str) -> list[Send]:
    return [send for send in hub.graph.log.accepted if send.customer == customer]


def texts_to(hub: Hub, customer: str) -> list[str]:
    return [send.text for send in sends_to(hub, customer)]


# What is accepted is sent


async def test_message_is_durable_when_it_is_accepted_and_sent_with_the_businesss_token(
    caller: Caller, customer: str
) -> None:
    answer = await caller.send(text_to(customer, "your order is ready"))
    assert answer.status == 202
    message_id = answer.json["id"]
    assert answer.json == {"id": message_id, "state": "queued"}
    assert answer.headers["Location"] == f"{caller.path}/{message_id}"
    assert await caller.hub.row("101", message_id)
    told = await caller.reaches(message_id, "read")
    [send] = sends_to(caller.hub, customer)
    assert (send.phone_number_id, send.token, send.text) == ("101", fingerprint("token-101"), "your order is ready")
    assert (told["from"], told["wamids"], told["reason"]) == ("101", [send.wamid], None)
    assert told["parts"][0]["times"].keys() == {"sent", "delivered", "read"}


async def test_phone_number_goes_in_to_and_bsuid_in_recipient(caller: Caller, customer: str) -> None:
    bsuid = f"DE.{customer}"
    await caller.reaches(await caller.say("one", f"+{customer}"), "read")
    answer = await caller.send({"recipient": bsuid, "type": "text", "text": {"body": "two"}})
    await caller.reaches(answer.json["id"], "read")
    sent = [(send.to, send.recipient) for send in caller.hub.graph.log.accepted if send.customer in {customer, bsuid}]
    assert sent == [(customer, None), (None, bsuid)]


async def test_long_text_becomes_several_messages_and_its_state_is_that_of_the_last(
    caller: Caller, customer: str
) -> None:
    told = await caller.reaches(await caller.say("word " * 1000, customer), "read")
    assert len(told["wamids"]) == len(told["parts"]) == 2
    assert [send.wamid for send in sends_to(caller.hub, customer)] == told["wamids"]


async def test_message_quotes_what_it_replies_to(caller: Caller, customer: str) -> None:
    await caller.reaches(await caller.say("yes", customer, reply_to="wamid.HBgN"), "read")
    assert [send.reply_to for send in sends_to(caller.hub, customer)] == ["wamid.HBgN"]


@pytest.mark.parametrize(("name", "message"), [*examples()], ids=dict(examples()))
async def test_every_example_of_the_description_arrives(
    caller: Caller, customer: str, name: str, message: dict[str, Any]
) -> None:
    content = message[message["type"]]
    if isinstance(content, dict) and (media_id := content.get("id")):
        upload = Upload(phone_number_id="101", mime_type="video/mp4", sha256="", size=1)
        caller.hub.graph.uploads.by_id[media_id] = upload
    answer = await caller.send({"to": customer, **message})
    assert answer.status == 202, (name, answer.body)
    await caller.reaches(answer.json["id"], "read")
    [_] = sends_to(caller.hub, customer)


async def test_business_with_several_numbers_says_from_which(other: Caller, customer: str) -> None:
    assert (await other.send(text_to(customer, "which?"))).status == 422
    assert (await other.send({**text_to(customer, "another's"), "from": "101"})).status == 422
    answer = await other.send({**text_to(customer, "from 112"), "from": "112"})
    assert (await other.reaches(answer.json["id"], "read"))["from"] == "112"
    assert [send.phone_number_id for send in sends_to(other.hub, customer)] == ["112"]


# In order with the replies


async def test_messages_of_a_business_that_is_held_wait_and_go_out_in_order_with_its_replies(
    hub: Hub, customer: str
) -> None:
    """What waits is neither gathered as the customer's words nor overtaken by them."""
    held = Caller(hub=hub, sub_domain="b103", key=api_key("key of 103")[0])
    hub.graph.control.tokens = {"101": "token-101", "102": "token-102", "112": "token-102", "103": "another"}
    first = await held.say("outside 0", customer)
    await hub.row_where("103", first, stage="held")
    for index in (1, 2, 3):
        await hub.say("103", f"inside {index}", f"wamid.{uuid4().hex}", customer)
        message_id = await held.say(f"outside {index}", customer)
        told = (await held.show(message_id)).json
        assert (told["state"], told["reason"]) == ("queued", None)
    told = (await held.show(first)).json
    assert (told["state"], told["reason"].partition(":")[0]) == ("queued", "held")
    new_token = {"$set": {"whatsappAccessToken": VAULT.encrypt("another")}}
    await hub.database.businesses.update_one({"subDomain": "b103"}, new_token)
    await hub.at_rest()
    hub.graph.control.tokens = None
    in_turns = [f"{side} {index}" for index in (1, 2, 3) for side in ("inside", "outside")]
    assert texts_to(hub, customer) == ["outside 0", *in_turns]


async def test_message_is_remembered_as_something_that_the_business_said(caller: Caller, customer: str) -> None:
    await caller.reaches(await caller.say("we open at nine", customer), "read")

    async def is_remembered() -> Any:
        return await caller.hub.database.conversations.find_one({"_id": f"101:{customer}"})

    [turn] = (await until(is_remembered))["turns"]
    assert (turn["customer"], turn["reply"]) == ("", "we open at nine")


# Once


async def test_same_key_and_body_give_the_first_answer_again_and_no_second_message(
    caller: Caller, customer: str
) -> None:
    body = text_to(customer, "once")
    first = await caller.send(body, idempotency_key=f"order-{customer}")
    await caller.reaches(first.json["id"], "read")
    again = await caller.send(dict(reversed(body.items())), idempotency_key=f"order-{customer}")
    assert (again.status, again.body, again.headers["Location"]) == (202, first.body, first.headers["Location"])
    await caller.hub.at_rest()
    assert texts_to(caller.hub, customer) == ["once"]
    assert (await caller.hub.row("101", first.json["id"]))["deliveries"] == 1


async def test_twenty_copies_at_once_are_one_message(caller: Caller, customer: str) -> None:
    body = text_to(customer, "once")
    answers = await asyncio.gather(*(caller.send(body, idempotency_key=f"copy-{customer}") for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    await caller.reaches(answers[0].json["id"], "read")
    await caller.hub.at_rest()
    assert texts_to(caller.hub, customer) == ["once"]


async def test_same_key_with_another_body_is_refused(other: Caller, customer: str) -> None:
    """Also to another customer or from another number, which the insert alone would not find."""
    body = {**text_to(customer, "once"), "from": "102"}
    assert (await other.send(body, idempotency_key=f"key-{customer}")).status == 202
    changes: list[dict[str, Any]] = [{"text": {"body": "twice"}}, {"to": f"{customer[:-1]}"}, {"from": "112"}]
    for change in changes:
        answer = await other.send({**body, **change}, idempotency_key=f"key-{customer}")
        assert (answer.status, "Idempotency-Key" in answer.json["error"]) == (422, True)
    await other.hub.at_rest()
    assert texts_to(other.hub, customer) == ["once"]


async def test_same_key_of_another_business_is_another_message(caller: Caller, other: Caller, customer: str) -> None:
    ids = []
    for who, number in ((caller, "101"), (other, "102")):
        answer = await who.send({**text_to(customer, number), "from": number}, idempotency_key=f"mine-{customer}")
        await who.reaches(answer.json["id"], "read")
        ids.append(answer.json["id"])
    assert len({*ids}) == 2
    assert texts_to(caller.hub, customer) == ["101", "102"]


async def test_without_a_key_the_same_message_is_sent_again(caller: Caller, customer: str) -> None:
    for _ in range(2):
        await caller.reaches(await caller.say("knock", customer), "read")
    assert texts_to(caller.hub, customer) == ["knock", "knock"]


# What cannot be sent


async def test_message_that_meta_refuses_is_a_dead_letter_that_stays_what_it_is_when_it_is_retried(
    caller: Caller, customer: str
) -> None:
    hub = caller.hub
    hub.graph.control.faults.arm(Fault(effect=Effect.ERROR, code=131026, customer=customer))
    message_id = await caller.say("hello?", customer)
    told = await caller.reaches(message_id, "failed")
    assert "131026" in told["reason"]
    letters = DeadLetters(hub.database)
    letter = await letters.get(f"101:{message_id}")
    assert letter is not None
    assert (letter.parts, letter.parts_sent) == (1, 0)
    assert await letters.retry(letter.id)
    assert (await caller.reaches(message_id, "read"))["reason"] is None
    assert texts_to(hub, customer) == ["hello?"]


async def test_status_that_comes_late_makes_a_sent_message_a_failed_one(caller: Caller, customer: str) -> None:
    failing = StatusPlan(steps=(("sent", 0.0), ("failed", 0.05)), failed_code=131026)
    caller.hub.graph.control.faults.arm(Fault(effect=Effect.NONE, customer=customer, statuses=failing))
    told = await caller.reaches(await caller.say("too late", customer), "failed")
    assert (told["parts"][0]["error_code"], "131026" in told["reason"]) == (131026, True)


async def test_unknown_outcome_waits_for_the_status_and_is_not_sent_again(caller: Caller, customer: str) -> None:
    caller.hub.graph.control.faults.arm(Fault(effect=Effect.CLOSE_AFTER, customer=customer))
    told = await caller.reaches(await caller.say("did it arrive?", customer), "read")
    [send] = sends_to(caller.hub, customer)
    assert told["wamids"] == [send.wamid]


async def test_message_that_waited_too_long_is_not_sent(caller: Caller, customer: str) -> None:
    hub = caller.hub
    hub.graph.control.faults.arm(Fault(effect=Effect.ERROR, code=131026, customer=customer))
    message_id = await caller.say("happy birthday", customer)
    await caller.reaches(message_id, "failed")
    row = {"_id": f"101:{message_id}"}
    long_ago = {"state": "queued", "owner": "", "place": 1, "parts.0.state": "waiting"}
    await hub.database.inbox.update_one(row, {"$set": long_ago, "$inc": {"epoch": 1}, "$unset": {"dead_at": ""}})
    told = await caller.reaches(message_id, "failed")
    assert told["reason"] == "too old: it could not be sent within REPLY_MAX_AGE_S"
    assert texts_to(hub, customer) == []


async def test_business_that_is_switched_off_cannot_send(hub: Hub, caller: Caller, customer: str) -> None:
    message_id = await caller.say("before", customer)
    await caller.reaches(message_id, "read")
    await switch(hub, "101", on=False)
    answer = await caller.send(text_to(customer, "off"))
    assert (answer.status, answer.json) == (409, {"error": "the business is switched off"})
    assert (await caller.show(message_id)).status == 200
    await switch(hub, "101", on=True)
    assert texts_to(hub, customer) == ["before"]


async def test_number_that_changes_hands_sends_nothing_more_for_the_business_that_had_it(
    hub: Hub, customer: str
) -> None:
    """Accepted while the business had the number, and held until another one has it."""
    former = Caller(hub=hub, sub_domain="b103", key=api_key("key of 103")[0])
    hub.graph.control.tokens = {"101": "token-101", "102": "token-102", "112": "token-102", "103": "token-101"}
    message_id = await former.say("from me", customer)
    await hub.row_where("103", message_id, stage="held")
    businesses = hub.database.businesses
    await businesses.update_one({"subDomain": "b103"}, {"$set": {"whatsappPhoneNumberIds": ["113"]}})
    await businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappPhoneNumberIds": ["101", "103"]}})
    row = await hub.row_where("103", message_id, state="dead")
    assert row["reason"] == "the phone number is another business's by now"
    assert sends_to(hub, customer) == []
    for who in (former, Caller(hub=hub, sub_domain="b101", key=api_key("key of 101")[0])):
        await until(partial(is_not_shown, who, message_id), timeout_s=2)
    hub.graph.control.tokens = None
    await businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappPhoneNumberIds": ["101"]}})
    await businesses.update_one({"subDomain": "b103"}, {"$set": {"whatsappPhoneNumberIds": ["103"]}})

    async def has_its_number_back() -> bool:
        return hub.app[keys.DIRECTORY].sub_domain_of("103") == "b103"

    await until(has_its_number_back)


async def is_not_shown(who: Caller, message_id: str) -> bool:
    return (await who.show(message_id)).status == 404


async def switch(hub: Hub, number: str, *, on: bool) -> None:
    """Switch a business, and wait until the hub knows."""
    await hub.database.businesses.update_one({"subDomain": f"b{number}"}, {"$set": {"whatsappEnabled": on}})
    key = api_key(f"key of {number}")[0]

    async def knows() -> bool:
        tenant = hub.app[keys.DIRECTORY].api_tenant(key)
        return tenant is not None and tenant.enabled is on

    await until(knows)
