"""A human, another agent or somebody's call silences the assistant in one conversation, and it speaks again after."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.hub import VAULT, Hub, business, hubs_on, own_database, text_message, webhook_of
from whatsapp_hub.cloud_api.messages import ConversationId, conversation_id
from whatsapp_hub.http import keys

BSUID = "DE.13491208655302741918"

Payload = dict[str, Any]

on_one_hub = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all; each test has a customer of its own. The model of 105 tells what it was shown."""
    documents = [
        business("101"),
        business("102", whatsappAppSecret=VAULT.encrypt("secret-102")),
        business("103", assistant={"pauseMinutes": 5}),
        business("104", assistant={"pauseMinutes": 0}),
        business("105", assistant={"kind": "openai", "model": "stand-in"}),
    ]
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many(documents)
        yield await start(RATE_LIMIT_WEBHOOK="100000/minute")


@dataclass(frozen=True, kw_only=True)
class Customer:
    """Somebody who writes to one number."""

    hub: Hub
    name: str
    number: str = "101"

    @property
    def conversation(self) -> ConversationId:
        return conversation_id(self.number, self.name)

    async def says(self, text: str, wamid: str | None = None) -> None:
        """Write something, and wait until the hub has dealt with it."""
        await self.hub.say(self.number, text, wamid or f"wamid.{uuid4().hex}", sender=self.name)
        await self.hub.at_rest()

    @property
    def got(self) -> list[str]:
        """What the hub has sent them."""
        sends = self.hub.graph.log.accepted
        return [send.text for send in sends if (send.phone_number_id, send.customer) == (self.number, self.name)]

    async def document(self) -> Payload:
        """Return what is kept of the conversation."""
        found: Payload | None = await self.hub.database.conversations.find_one({"_id": self.conversation})
        assert found is not None
        return found

    def at(self, number: str) -> Customer:
        """Return the same person at another number."""
        return replace(self, number=number)

    def told_by(self, text: str, *, ago_s: float = 0, **changes: Any) -> Payload:
        """Return the webhook of an answer from the phone app."""
        message = {
            "from": "4930123456",
            "to": self.name,
            "id": f"wamid.{uuid4().hex}",
            "timestamp": str(int(time.time() - ago_s)),
            "type": "text",
            "text": {"body": text},
            **changes,
        }
        return payload_of("smb_message_echoes", {"message_echoes": [message]}, number=self.number)

    def handed_over(self, kind: str, roles: dict[str, str] | None = None, *, ago_s: float = 0) -> Payload:
        """Return the webhook of a handover."""
        value = {
            "sender": {"phone_number": self.name},
            "recipient": {"phone_number_id": self.number, "display_phone_number": "4930123456"},
            "timestamp": str(int(time.time() - ago_s)),
            "type": kind,
            kind: roles or {},
        }
        return payload_of("messaging_handovers", value, number=None)


@pytest.fixture
def customer(hub: Hub) -> Customer:
    """A customer that no other test has."""
    return Customer(hub=hub, name=f"49{uuid4().int % 10**12:012}")


def payload_of(field: str, value: Payload, *, number: str | None = "101", account: str | None = None) -> Payload:
    content = value if number is None else {"metadata": {"phone_number_id": number}, **value}
    entry = {"id": account or f"waba-{number or 101}", "changes": [{"field": field, "value": content}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def shown(hub: Hub) -> list[tuple[str, str]]:
    """Return what the model was shown last, without its instructions."""
    return [(one["role"], one["content"]) for one in hub.graph.model.requests[-1].body["messages"][1:]]


@on_one_hub
async def test_a_human_s_answer_silences_the_assistant_in_that_conversation_only(hub: Hub, customer: Customer) -> None:
    assert await hub.post(customer.told_by("by hand")) == 200
    other = replace(customer, name=f"{customer.name}9")
    await customer.says("hello", f"wamid.{customer.name}")
    await other.says("hello")
    await customer.at("105").says("hello")
    assert (customer.got, other.got, customer.at("105").got) == ([], ["hello"], ["echo: hello"])
    row = await hub.row("101", f"wamid.{customer.name}")
    assert (row["state"], row["outcome"]) == ("done", "no_reply")


@on_one_hub
async def test_the_assistant_knows_afterwards_what_was_said_meanwhile(hub: Hub, customer: Customer) -> None:
    customer = customer.at("105")
    await customer.says("Is my order there?")
    assert await hub.post(customer.told_by("I'll look myself.", ago_s=-1)) == 200
    await customer.says("Thanks!")
    asked = len(hub.graph.model.requests)
    await hub.app[keys.PAUSES].resume(customer.conversation)
    await customer.says("And now?")
    assert len(hub.graph.model.requests) == asked + 1
    said = shown(hub)
    assert said[:2] == [("user", "Is my order there?"), ("assistant", "echo: Is my order there?")]
    assert said[-1] == ("user", "And now?")
    assert sorted(said[2:-1]) == [("assistant", "I'll look myself."), ("user", "Thanks!")]


@on_one_hub
async def test_a_redelivered_echo_neither_extends_the_silence_nor_is_told_twice(hub: Hub, customer: Customer) -> None:
    answer = customer.told_by("by hand", ago_s=100)
    for _ in range(3):
        assert await hub.post(answer) == 200
    document = await customer.document()
    assert document["human_at"].timestamp() == pytest.approx(time.time() - 100, abs=5)
    assert [turn["reply"] for turn in document["turns"]] == ["by hand"]


@on_one_hub
async def test_a_later_echo_extends_the_silence_and_an_earlier_one_does_not(hub: Hub, customer: Customer) -> None:
    for ago_s in (60, 10, 3000):
        assert await hub.post(customer.told_by("by hand", ago_s=ago_s)) == 200
    assert (await customer.document())["human_at"].timestamp() == pytest.approx(time.time() - 10, abs=5)


@on_one_hub
@pytest.mark.parametrize(
    ("number", "ago_s", "is_silent"),
    [("101", 3500, True), ("101", 3700, False), ("103", 200, True), ("103", 400, False), ("104", 0, False)],
)
async def test_the_business_says_how_long(
    hub: Hub, customer: Customer, number: str, ago_s: float, is_silent: bool
) -> None:
    customer = customer.at(number)
    assert await hub.post(customer.told_by("by hand", ago_s=ago_s)) == 200
    await customer.says("hello")
    assert customer.got == ([] if is_silent else ["hello"])


@on_one_hub
async def test_a_clock_that_is_ahead_does_not_silence_for_longer(hub: Hub, customer: Customer) -> None:
    assert await hub.post(customer.told_by("by hand", ago_s=-1_000_000)) == 200
    assert (await customer.document())["human_at"] <= datetime.now(UTC)


# Handovers and standby


@on_one_hub
@pytest.mark.parametrize(
    ("kind", "roles", "is_silent"),
    [
        ("control_passed", {}, True),
        ("control_passed", {"previous_owner_role": "ai_agent", "new_owner_role": "escalation"}, True),
        ("control_passed", {"previous_owner_role": "escalation", "new_owner_role": "ai_agent"}, True),
        ("control_passed", {"previous_owner_role": "escalation"}, False),
        ("control_taken", {"new_owner_app_role": "META_AI"}, True),
        ("control_taken", {"previous_owner_app_role": "meta_business_agent"}, False),
        ("control_taken", {}, False),
        ("control_of_tomorrow", {}, False),
    ],
)
async def test_a_handover_says_who_answers(
    hub: Hub, customer: Customer, kind: str, roles: dict[str, str], is_silent: bool
) -> None:
    assert await hub.post(customer.handed_over(kind, roles)) == 200
    await customer.says("hello")
    assert customer.got == ([] if is_silent else ["hello"])


@on_one_hub
async def test_control_that_comes_back_ends_the_silence_whatever_order_it_is_told_in(
    hub: Hub, customer: Customer
) -> None:
    assert await hub.post(customer.handed_over("control_taken", ago_s=10)) == 200
    assert await hub.post(customer.told_by("by hand", ago_s=20)) == 200
    assert await hub.post(customer.handed_over("control_passed", ago_s=30)) == 200
    await customer.says("hello")
    assert customer.got == ["hello"]


@on_one_hub
async def test_standby_is_stored_remembered_and_never_answered(hub: Hub, customer: Customer) -> None:
    customer = customer.at("105")
    at, asked, answered = str(int(time.time()) - 5), f"a{customer.name}", f"b{customer.name}"
    content = {"timestamp": at, "type": "text"}
    messages = [{"from": customer.name, "id": asked, "text": {"body": "Hi agent"}, **content}]
    echoes = [{"id": answered, "message": {"to": customer.name, "text": {"body": "Hi human"}, **content}}]
    for standby in ({"messages": messages}, {"message_echoes": echoes}):
        assert await hub.post(payload_of("standby", {"standby": standby}, number="105")) == 200
    await customer.says("still there?")
    assert customer.got == []
    assert await hub.database.inbox.count_documents({"_id": f"105:{asked}"}) == 0
    events = [event["item"].decode() async for event in hub.database.events.find({"field": "standby"})]
    assert len([item for item in events if asked in item or answered in item]) == 2
    await hub.app[keys.PAUSES].resume(customer.conversation)
    await customer.says("hub?")
    assert shown(hub) == [("user", "Hi agent"), ("assistant", "Hi human"), ("user", "still there?"), ("user", "hub?")]


# Whose conversation it is


@on_one_hub
async def test_own_secret_silences_no_conversation_of_another_business(hub: Hub, customer: Customer) -> None:
    """Neither by the number in the metadata nor, where there is none, by that of a handover's recipient."""
    handover = customer.handed_over("control_passed")
    handover["entry"][0]["id"] = "waba-102"
    for forged in (
        customer.told_by("forged"),
        handover,
        payload_of("user_id_update", {"user_id_update": [{"wa_id": customer.name, "user_id": {"current": BSUID}}]}),
        payload_of("standby", {"standby": {"messages": [{"from": customer.name, "id": "w", "type": "text"}]}}),
    ):
        assert await hub.post(forged, path="/whatsapp_response/b102", secret="secret-102") == 200
    assert await hub.database.conversations.count_documents({"_id": {"$regex": customer.name}}) == 0
    assert await hub.database.events.count_documents({"item": {"$regex": customer.name}}) == 0
    await customer.says("hello")
    assert customer.got == ["hello"]


@on_one_hub
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"message_echoes": None},
        {"message_echoes": [None, 7, [], {}]},
        {"message_echoes": [{"to": 7, "id": "w"}]},
        {"message_echoes": [{"to": "", "to_user_id": None}]},
        {"message_echoes": [{"to": "x" * 600}]},
        {"message_echoes": [{"to": "120363", "group_id": "120363", "id": "w"}]},
    ],
)
async def test_an_echo_that_says_nothing_is_stored_and_silences_nobody(hub: Hub, value: Payload) -> None:
    conversations = await hub.database.conversations.count_documents({})
    events = await hub.database.events.count_documents({})
    assert await hub.post(payload_of("smb_message_echoes", value)) == 200
    assert await hub.database.events.count_documents({}) == events + 1
    assert await hub.database.conversations.count_documents({}) == conversations


@on_one_hub
async def test_an_echo_without_words_silences_all_the_same(hub: Hub, customer: Customer) -> None:
    assert await hub.post(customer.told_by("", type="revoke", id=7)) == 200
    await customer.says("hello")
    assert customer.got == []


# Durable before the 200


@on_one_hub
async def test_an_echo_whose_effect_is_not_durable_is_not_acknowledged(hub: Hub, customer: Customer) -> None:
    """Meta delivers it again then, and it has its effect."""
    answer, admin = customer.told_by("by hand"), hub.database.client.admin
    # Error 50 (the time is over), for bulk writes into this collection only: the node's own life goes on.
    namespace = f"{hub.database.conversations.database.name}.conversations"
    failing = {"failCommands": ["update"], "errorCode": 50, "appName": "whatsapp-hub", "namespace": namespace}
    await admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": failing})
    try:
        assert await hub.post(answer) == 503
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert await hub.database.conversations.count_documents({"_id": customer.conversation}) == 0
    assert await hub.post(answer) == 200
    await customer.says("hello")
    assert customer.got == []


# As somebody asks for it


@on_one_hub
async def test_a_pause_holds_until_its_end_and_can_be_shortened_or_ended(hub: Hub, customer: Customer) -> None:
    pauses, now = hub.app[keys.PAUSES], datetime.now(UTC)
    got = []
    for n, end in enumerate([now + timedelta(hours=8), now - timedelta(seconds=1), now + timedelta(hours=8), None]):
        await (pauses.resume(customer.conversation) if end is None else pauses.pause(customer.conversation, end))
        await customer.says(str(n))
        got.append(customer.got)
    assert got == [[], ["1"], ["1"], ["1", "3"]]


@on_one_hub
async def test_a_pause_of_a_conversation_that_nobody_has_begun_holds_too(hub: Hub, customer: Customer) -> None:
    await hub.app[keys.PAUSES].pause(customer.conversation, datetime.now(UTC) + timedelta(hours=1))
    await customer.says("hello")
    assert customer.got == []
    assert [turn["customer"] for turn in (await customer.document())["turns"]] == ["hello"]


@on_one_hub
async def test_what_is_gathered_while_paused_is_done_with_its_leader(hub: Hub, customer: Customer) -> None:
    await hub.app[keys.PAUSES].pause(customer.conversation, datetime.now(UTC) + timedelta(hours=1))
    wamids = [f"wamid.{n}.{customer.name}" for n in range(5)]
    messages = [text_message(f"m{n}", wamid=wamid, sender=customer.name) for n, wamid in enumerate(wamids)]
    assert await hub.post(webhook_of(*messages, number="101")) == 200
    await hub.at_rest()
    rows = [await hub.row("101", wamid) for wamid in wamids]
    assert {row["state"] for row in rows} == {"done"}
    assert {row["outcome"] for row in rows} == {"no_reply", "in_turn"}
    assert customer.got == []
    said = "\n".join(turn["customer"] for turn in (await customer.document())["turns"])
    assert said == "m0\nm1\nm2\nm3\nm4"
