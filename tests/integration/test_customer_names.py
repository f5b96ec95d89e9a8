"""One person under several names: a phone number, a user id (BSUID), new ones. One history, and keys of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.hub import VAULT, Hub, business, hubs_on, own_database, text_message, until, webhook_of

Payload = dict[str, Any]

on_one_hub = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all; each test has people of its own. The model tells what it was shown."""
    own = {"whatsappAppSecret": VAULT.encrypt("secret-102")}
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many([business("101"), business("102", **own)])
        yield await start(assistant="openai", ai_model="stand-in", history_turns=6, typing_indicator=True)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Names that nobody else has."""

    phone: str
    user_id: str
    parent: str
    new_phone: str
    new_user_id: str

    @property
    def both(self) -> Payload:
        return {"from": self.phone, "from_user_id": self.user_id}


@pytest.fixture
def person() -> Person:
    one = f"{uuid4().int % 10**12:012}"
    return Person(
        phone=f"49{one}", user_id=f"DE.1{one}", parent=f"DE.ENT.2{one}", new_phone=f"44{one}", new_user_id=f"GB.3{one}"
    )


def message_of(names: Payload, text: str, **changes: Any) -> Payload:
    """Return a message that names its sender like this and not otherwise."""
    message = text_message(text, wamid=f"wamid.{uuid4().hex}", **changes)
    del message["from"]
    return {**message, **names}


async def says(hub: Hub, names: Payload, text: str, *, number: str = "101") -> list[str]:
    """Write something under these names; return what the model was shown, without its instructions."""
    assert await hub.post(webhook_of(message_of(names, text), number=number)) == 200
    await hub.at_rest()
    await hub_has_remembered(hub, text)
    return [one["content"] for one in hub.graph.model.requests[-1].body["messages"][1:]]


async def hub_has_remembered(hub: Hub, text: str) -> None:
    async def has() -> bool:
        return await hub.database.conversations.count_documents({"turns.customer": text}) > 0

    await until(has)


async def notice(hub: Hub, names: Payload, kind: str, *, number: str = "101", **system: str) -> None:
    """Have WhatsApp say that a name has changed."""
    message = message_of(names, "", type="system", system={"body": "changed", "type": kind, **system})
    del message["text"]
    assert await hub.post(webhook_of(message, number=number)) == 200
    await hub.at_rest()


def history(*texts: str) -> list[str]:
    """Return what a model is shown of these texts and its echoes, the last one unanswered yet."""
    return [word for text in texts[:-1] for word in (text, f"echo: {text}")] + [texts[-1]]


@on_one_hub
async def test_a_number_that_gets_a_user_id_keeps_its_history(hub: Hub, person: Person) -> None:
    a, b, c, d = (f"{letter} {person.phone}" for letter in "abcd")
    assert await says(hub, {"from": person.phone}, a) == history(a)
    assert await says(hub, person.both, b) == history(a, b)
    assert await says(hub, {"from_user_id": person.user_id}, c) == history(a, b, c)
    assert await says(hub, {"from": person.phone}, d) == history(a, b, c, d)


@on_one_hub
async def test_keys_stay_what_the_payload_names(hub: Hub, person: Person) -> None:
    await says(hub, {"from": person.phone}, f"a {person.phone}")
    await says(hub, person.both, f"b {person.phone}")
    rows = hub.database.inbox.find({"conversation": {"$in": [f"101:{person.phone}", f"101:{person.user_id}"]}})
    assert sorted([row["conversation"] async for row in rows]) == [f"101:{person.phone}", f"101:{person.user_id}"]


@on_one_hub
async def test_histories_are_merged_in_the_order_of_time_and_bounded(hub: Hub, person: Person) -> None:
    texts = [f"{n} {person.phone}" for n in range(9)]
    names = ({"from": person.phone}, person.both, {"from_user_id": person.user_id})
    for n, text in enumerate(texts[:-1]):
        # The first of both joins; then they take turns, a second apart as Meta's clock tells.
        message = message_of(names[n % 3], text, timestamp=str(int(time.time()) - 60 + n))
        assert await hub.post(webhook_of(message, number="101")) == 200
        await hub_has_remembered(hub, text)
    assert await says(hub, {"from_user_id": person.user_id}, texts[-1]) == history(*texts[2:])


@on_one_hub
@pytest.mark.parametrize("kind", ["user_changed_number", "customer_changed_number"])
async def test_a_new_number_keeps_the_history_and_the_old_one_gets_nothing_new(
    hub: Hub, person: Person, kind: str
) -> None:
    a, b, c = (f"{letter} {person.phone}" for letter in "abc")
    await says(hub, {"from": person.phone}, a)
    await notice(hub, {"from": person.phone}, kind, wa_id=person.new_phone)
    assert await says(hub, {"from": person.new_phone}, b) == history(a, b)
    assert await says(hub, {"from": person.phone}, c) == history(a, c)  # a stranger, sooner or later


@on_one_hub
async def test_a_new_user_id_keeps_the_history(hub: Hub, person: Person) -> None:
    a, b = (f"{letter} {person.phone}" for letter in "ab")
    await says(hub, {"from_user_id": person.user_id}, a)
    changed = {"user_id": person.new_user_id, "previous_user_id": person.user_id}
    await notice(hub, {"from_user_id": person.user_id}, "user_changed_user_id", **changed)
    assert await says(hub, {"from_user_id": person.new_user_id}, b) == history(a, b)


@on_one_hub
async def test_a_new_number_with_a_new_user_id_keeps_the_history_of_both(hub: Hub, person: Person) -> None:
    a, b, c = (f"{letter} {person.phone}" for letter in "abc")
    await says(hub, {"from": person.phone}, a)
    await says(hub, person.both, b)
    changed = {"wa_id": person.new_phone, "user_id": person.new_user_id}
    await notice(hub, {"from": person.phone}, "user_changed_number", **changed)
    assert await says(hub, {"from_user_id": person.new_user_id}, c) == history(a, b, c)


@on_one_hub
async def test_user_id_updates_join_too(hub: Hub, person: Person) -> None:
    a, b = (f"{letter} {person.phone}" for letter in "ab")
    await says(hub, {"from_user_id": person.user_id}, a)
    update = {"wa_id": person.phone, "user_id": {"previous": person.user_id, "current": person.new_user_id}}
    change = {
        "field": "user_id_update",
        "value": {"metadata": {"phone_number_id": "101"}, "user_id_update": [update, None, {"user_id": 7}]},
    }
    payload = {"object": "whatsapp_business_account", "entry": [{"id": "waba-101", "changes": [change]}]}
    assert await hub.post(payload) == 200
    assert await says(hub, {"from_user_id": person.new_user_id}, b) == history(a, b)


@on_one_hub
async def test_a_parent_s_user_id_is_a_name_like_any_other(hub: Hub, person: Person) -> None:
    a, b = (f"{letter} {person.phone}" for letter in "ab")
    await says(hub, {**person.both, "from_parent_user_id": person.parent}, a)
    assert await says(hub, {"from_user_id": person.parent}, b) == history(a, b)


@on_one_hub
async def test_a_notice_of_a_changed_identity_joins_nothing(hub: Hub, person: Person) -> None:
    a = f"a {person.phone}"
    await notice(hub, {"from": person.phone}, "customer_identity_changed", wa_id=person.new_phone)
    assert await says(hub, {"from": person.new_phone}, a) == history(a)


# Users without a number


@on_one_hub
async def test_a_user_without_a_number_is_answered_by_user_id(hub: Hub, person: Person) -> None:
    await says(hub, {"from_user_id": person.user_id}, f"a {person.phone}")
    (send,) = [send for send in hub.graph.log.accepted if send.customer == person.user_id]
    assert (send.to, send.recipient) == (None, person.user_id)
    row = await hub.database.inbox.find_one({"conversation": f"101:{person.user_id}"})
    assert row is not None

    async def typing_is_shown() -> bool:
        return any(f"101:{typing.message_id}" == row["_id"] for typing in hub.graph.typings)

    await until(typing_is_shown)


@on_one_hub
async def test_messages_of_a_user_without_a_number_are_answered_in_order(hub: Hub, person: Person) -> None:
    for n in range(5):
        message = message_of({"from_user_id": person.user_id}, f"{n} {person.phone}")
        assert await hub.post(webhook_of(message, number="101")) == 200
    await hub.at_rest()
    asked = [one.body["messages"][-1]["content"] for one in hub.graph.model.requests]
    said = [line for text in asked for line in text.split("\n") if line.endswith(person.phone)]
    assert said == [f"{n} {person.phone}" for n in range(5)]
    rows = [row async for row in hub.database.inbox.find({"conversation": f"101:{person.user_id}"})]
    assert [row["state"] for row in rows] == ["done"] * 5


@on_one_hub
async def test_statuses_that_name_a_user_id_find_their_message(hub: Hub, person: Person) -> None:
    await says(hub, {"from_user_id": person.user_id}, f"a {person.phone}")
    (send,) = [send for send in hub.graph.log.accepted if send.customer == person.user_id]
    status = {
        "id": send.wamid,
        "status": "read",
        "timestamp": str(int(time.time())),
        "recipient_user_id": person.user_id,
        "recipient_parent_user_id": person.parent,
        "biz_opaque_callback_data": send.callback,
    }
    assert await hub.post(webhook_of(number="101", statuses=[status])) == 200
    row = await hub.database.inbox.find_one({"conversation": f"101:{person.user_id}"})
    assert row is not None
    assert row["parts"][0]["rank"] == 3


@on_one_hub
async def test_an_echo_to_a_user_id_silences_the_number_too(hub: Hub, person: Person) -> None:
    echo = {
        "to": person.phone,
        "to_user_id": person.user_id,
        "id": f"wamid.{uuid4().hex}",
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": "by hand"},
    }
    value = {"metadata": {"phone_number_id": "101"}, "message_echoes": [echo]}
    change = {"field": "smb_message_echoes", "value": value}
    payload = {"object": "whatsapp_business_account", "entry": [{"id": "waba-101", "changes": [change]}]}
    assert await hub.post(payload) == 200
    for names in ({"from": person.phone}, {"from_user_id": person.user_id}, person.both):
        assert await hub.post(webhook_of(message_of(names, "hello"), number="101")) == 200
    await hub.at_rest()
    assert [send for send in hub.graph.log.accepted if send.customer in (person.phone, person.user_id)] == []


# Nobody joins what is not theirs


@on_one_hub
async def test_names_are_joined_for_one_number_only(hub: Hub, person: Person) -> None:
    a, b, c = (f"{letter} {person.phone}" for letter in "abc")
    await says(hub, {"from": person.phone}, a)
    assert (
        await hub.post(
            webhook_of(message_of(person.both, b), number="102"), path="/whatsapp_response/b102", secret="secret-102"
        )
        == 200
    )
    await hub_has_remembered(hub, b)
    assert await says(hub, {"from_user_id": person.user_id}, c) == history(c)


@on_one_hub
async def test_own_secret_cannot_join_conversations_of_another_business(hub: Hub, person: Person) -> None:
    a, b = (f"{letter} {person.phone}" for letter in "ab")
    await says(hub, {"from": person.phone}, a)
    system = {"body": "", "type": "user_changed_number", "wa_id": person.new_phone}
    forged = message_of({"from": person.phone}, "", type="system", system=system)
    reaching = {"wa_id": f"101:{person.new_phone}", "user_id": f"101:{person.phone}"}
    sly = message_of({"from": f"101:{person.phone}"}, "", type="system", system={**system, **reaching})
    for message, number in ((forged, "101"), (sly, "102")):
        payload = webhook_of(message, number=number)
        assert await hub.post(payload, path="/whatsapp_response/b102", secret="secret-102") == 200
    await hub.at_rest()
    assert await says(hub, {"from": person.new_phone}, b) == history(b)
    keys = [document["_id"] async for document in hub.database.conversations.find({"_id": {"$regex": person.phone}})]
    assert f"101:{person.phone}" in keys
    assert all(key.startswith("102:101:") for key in keys if key != f"101:{person.phone}")


@on_one_hub
async def test_a_turn_reads_its_history_with_one_command(hub: Hub, person: Person) -> None:
    """Also under two names, as long as the message tells both."""
    profile = hub.database.client[hub.database.inbox.database.name]
    for n in range(3):
        await says(hub, person.both, f"{n} {person.phone}")
    await profile.command({"profile": 2})
    try:
        await says(hub, person.both, f"3 {person.phone}")
        finds = {"ns": f"{profile.name}.conversations", "command.find": "conversations"}
        mine = {**finds, "command.filter._id.$in": f"101:{person.user_id}"}
        assert await profile["system.profile"].count_documents(mine) == 1
        assert await profile["system.profile"].count_documents({"op": "update", "ns": finds["ns"]}) == 1
    finally:
        await profile.command({"profile": 0})
