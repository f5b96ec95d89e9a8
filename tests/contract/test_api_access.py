"""Who may call the API, and what is refused: keys, limits, bodies that are none."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.api import CUSTOMER, Caller, api_key, stored_key, text_to
from tests.hub import SECRET, Answer, Hub, StartHub, business, hubs_on, own_database, until
from tests.profiler import profiling
from whatsapp_hub.database import Database
from whatsapp_hub.http import keys
from whatsapp_hub.http.api import MAX_API_BODY_BYTES

on_one_hub = pytest.mark.asyncio(loop_scope="module")

KEY = api_key("key of 101")[0]
UNKNOWN = api_key("key of nobody")[0]
HELLO = text_to(CUSTOMER, "hello")


def documents() -> list[dict[str, Any]]:
    return [business(number, apiKeys=[stored_key(f"key of {number}")]) for number in ("101", "102")]


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many(documents())
        yield await start(RATE_LIMIT_WEBHOOK="100000/minute")


@pytest.fixture
def caller(hub: Hub) -> Caller:
    return Caller(hub=hub, sub_domain="b101", key=KEY)


def shown(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return everything that came back, but the time."""
    return answer.status, answer.body, sorted((name, text) for name, text in answer.headers.items() if name != "Date")


# Keys


@on_one_hub
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {UNKNOWN}",
        f"Bearer {KEY[:-1]}{'A' if KEY[-1] != 'A' else 'B'}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:16]}",
        f"Basic {KEY}",
        KEY,
        "Bearer \u00e9",
        f"Bearer {api_key('key of 101')[1].hash}",
    ],
    ids=["none", "empty", "word", "blank", "unknown", "changed", "longer", "id", "basic", "bare", "no ASCII", "hash"],
)
@pytest.mark.parametrize("path", ["/api/v1/b101/messages", "/api/v1/nobody/messages"])
async def test_without_a_right_key_every_path_says_401(hub: Hub, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, where in (("POST", path), ("GET", f"{path}/api.1"), ("POST", f"{path[:-8]}conversations/1/pause")):
        answer = await hub.exchange(method, where, json=HELLO if method == "POST" else None, headers=headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="whatsapp-hub"')


@on_one_hub
async def test_two_keys_are_none(hub: Hub) -> None:
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")]
    assert (await hub.exchange("GET", "/api/v1/b101/messages/api.1", headers=headers)).status == 401


@on_one_hub
async def test_another_businesss_path_looks_like_an_unknown_subdomain_and_an_unknown_message(caller: Caller) -> None:
    hub, message_id = caller.hub, await caller.say("mine")
    for path in ("messages", f"conversations/{CUSTOMER}/pause"):
        answers = [
            await hub.exchange("POST", f"/api/v1/{name}/{path}", data=body, headers=caller.headers)
            for name in ("b102", "nobody", "%00", "B101", "b101%20")
            for body in (b"{}", orjson.dumps(HELLO))
        ]
        assert answers[0].status == 404
        assert {str(shown(answer)) for answer in answers} == {str(shown(answers[0]))}
    wanted = ("b102/messages/" + message_id, "nobody/messages/" + message_id, "b101/messages/api.0", "b101/messages/1")
    answers = [await hub.exchange("GET", f"/api/v1/{path}", headers=caller.headers) for path in wanted]
    answers.append(await hub.exchange("GET", "/api/v1/nowhere"))
    assert answers[0].status == 404
    assert {str(shown(answer)) for answer in answers} == {str(shown(answers[0]))}


async def test_wrong_keys_are_limited_by_address_and_right_ones_are_not(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_many(documents())
    hub = await start_hub(RATE_LIMIT_WEBHOOK="3/minute")
    guess, caller = (Caller(hub=hub, sub_domain="b101", key=key) for key in (UNKNOWN, KEY))
    assert [(await guess.show("api.1")).status for _ in range(5)] == [401, 401, 401, 429, 429]
    refused = await guess.send(HELLO)
    assert (refused.status, 1 <= int(refused.headers["Retry-After"]) <= 60) == (429, True)
    assert [(await caller.send(HELLO)).status for _ in range(5)] == [202] * 5
    assert await hub.sample("whatsapp_hub_rate_limited_total", route="api") == 3


async def test_no_database_command_comes_before_a_key_holds(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_many(documents())
    quiet = {"heartbeat_s": 60, "self_fence_s": 90, "lease_s": 120, "round_s": 60, "held_recheck_s": 60}
    hub = await start_hub(timing=quiet)
    async with profiling(database) as commands:
        for sub_domain, key in (("b101", UNKNOWN), ("nobody", UNKNOWN), ("b102", KEY), ("nobody", KEY)):
            caller = Caller(hub=hub, sub_domain=sub_domain, key=key)
            statuses = {(await caller.send(HELLO)).status, (await caller.show("api.1")).status}
            assert statuses == {401 if key == UNKNOWN else 404}
        assert await commands() == []
        assert (await Caller(hub=hub, sub_domain="b101", key=KEY).send(HELLO)).status == 202
        assert await commands() != []


async def test_key_counts_and_stops_to_count_within_two_seconds(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_many([business("101")])
    caller = Caller(hub=await start_hub(), sub_domain="b101", key=KEY)

    async def reaches(status: int) -> float:
        began = time.monotonic()

        async def is_answered() -> bool:
            return (await caller.show("api.1")).status == status

        await until(is_answered)
        return time.monotonic() - began

    await until(lambda: _streams(caller.hub))
    await database.businesses.update_one({"subDomain": "b101"}, {"$push": {"apiKeys": stored_key("key of 101")}})
    counts_after_s = await reaches(404)
    await database.businesses.update_one({"subDomain": "b101"}, {"$pull": {"apiKeys": {"id": KEY[4:16]}}})
    refused_after_s = await reaches(401)
    assert max(counts_after_s, refused_after_s) < 2


async def _streams(hub: Hub) -> bool:
    return hub.app[keys.DIRECTORY].streaming


# Bodies


@on_one_hub
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        pytest.param(400, b"", {}, id="empty"),
        pytest.param(400, b"{", {}, id="no JSON"),
        pytest.param(400, b"[]", {}, id="no object"),
        pytest.param(400, b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", {}, id="deep"),
        pytest.param(400, b"{}", {"Idempotency-Key": "x" * 256}, id="long idempotency key"),
        pytest.param(400, b"{}", {"Idempotency-Key": ""}, id="empty idempotency key"),
        pytest.param(400, b"{}", {"Idempotency-Key": "a b"}, id="idempotency key of two words"),
        pytest.param(413, b'"' + b"x" * MAX_API_BODY_BYTES, {}, id="large"),
        pytest.param(415, b"{}", {"Content-Type": "text/plain"}, id="no JSON's type"),
        pytest.param(415, b"{}", {"Content-Encoding": "gzip"}, id="compressed"),
        pytest.param(422, b"{}", {}, id="nothing in it"),
    ],
)
async def test_body_that_is_none_gets_its_status(
    caller: Caller, status: int, body: bytes, headers: dict[str, str]
) -> None:
    headers = {"Content-Type": "application/json", **caller.headers, **headers}
    answer = await caller.hub.exchange("POST", caller.path, data=body, headers=headers)
    assert answer.status == status
    assert answer.json.keys() == {"error"}


@on_one_hub
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"to": "US.13491208655302741918"}, "recipient"),
        ({"to": "12"}, "phone number"),
        ({"to": 491700000001}, "phone number"),
        ({"to": None}, "phone number"),
        ({"to": "\u0664\u0669\u0661\u0667\u0660"}, "phone number"),
        ({"to": "491700000001\n"}, "phone number"),
        ({"recipient": "US.1"}, "either"),
        ({"from": "102"}, "from"),
        ({"from": ""}, "from"),
        ({"from": {"$ne": ""}}, "from"),
        ({"reply_to": ["wamid.1"]}, "reply_to"),
        ({"reply_to": "wamid.1", "context": {"message_id": "wamid.1"}}, "context"),
        ({"recipient_type": "group"}, "groups"),
        ({"messaging_product": "sms"}, "messaging_product"),
        ({"type": "nothing"}, "cannot be sent"),
        ({"text": {"body": " "}}, "says nothing"),
        ({"text": {"body": "word " * 20_000}}, "more than 20"),
    ],
)
async def test_what_cannot_be_sent_is_refused_in_words(caller: Caller, change: dict[str, Any], word: str) -> None:
    answer = await caller.send({**HELLO, **change})
    assert (answer.status, word in answer.json["error"]) == (422, True), answer.body


@on_one_hub
async def test_recipient_that_is_no_bsuid_is_refused(caller: Caller) -> None:
    for recipient in (CUSTOMER, "US.", f"US.{'1' * 129}", "us.1", "US.1|2", None):
        answer = await caller.send({"recipient": recipient, "type": "text", "text": {"body": "hello"}})
        assert (answer.status, "BSUID" in answer.json["error"]) == (422, True)


async def test_database_that_does_not_confirm_makes_503_and_the_copy_is_still_one(
    database: Database, start_hub: StartHub, failing: Any
) -> None:
    await database.businesses.insert_many(documents())
    caller = Caller(hub=await start_hub(timing={"ack_timeout_s": 0.5}), sub_domain="b101", key=KEY)
    with failing("insert"):
        answer = await caller.send(HELLO, idempotency_key="one")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")

    async def is_accepted() -> str | None:
        answer = await caller.send(HELLO, idempotency_key="one")
        return answer.json["id"] if answer.status == 202 else None

    await caller.reaches(await until(is_accepted), "read")
    assert caller.hub.texts == ["hello"]


# Pausing


@on_one_hub
async def test_conversation_is_paused_and_resumed(caller: Caller) -> None:
    customer = "491700000077"
    conversations = caller.hub.database.conversations
    paused = await caller.pause(customer, {"minutes": 30})
    assert paused.status == 200
    stored = await conversations.find_one({"_id": f"101:{customer}"})
    assert stored is not None
    assert f"{stored['paused_until']:%Y-%m-%dT%H:%M:%SZ}" == paused.json["paused_until"]
    assert 29 * 60 < stored["paused_until"].timestamp() - time.time() < 31 * 60
    resumed = await caller.pause(customer, {"minutes": 0, "from": "101"})
    assert (resumed.status, resumed.json) == (200, {"paused_until": None})
    assert await conversations.count_documents({"_id": f"101:{customer}", "resumed_at": {"$gte": stored["paused_at"]}})


@on_one_hub
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"minutes": -1},
        {"minutes": "5"},
        {"minutes": True},
        {"minutes": None},
        {"minutes": 1e9},
        {"minutes": 5, "from": "102"},
    ],
)
async def test_pause_of_no_length_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    assert (await caller.pause(CUSTOMER, body)).status == 422


@on_one_hub
async def test_pause_of_nobody_is_refused(caller: Caller) -> None:
    for customer in ("somebody", "101:491700000001", "%24ne", "1"):
        assert (await caller.pause(customer, {"minutes": 5})).status == 422


@on_one_hub
async def test_webhooks_secret_is_no_api_key(hub: Hub) -> None:
    for key in (SECRET, "token-101"):
        assert (await Caller(hub=hub, sub_domain="b101", key=key).send(HELLO)).status == 401
