"""Tenants stay apart: which secret counts where, what it may speak for, and what strangers can find out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from tests.hub import SECRET, VAULT, Answer, Hub, StartHub, business, hubs_on, own_database, text_message, webhook_of
from tests.profiler import profiling
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import StatusPlan
from whatsapp_hub.demo.sends import Send

Payload = dict[str, Any]
Forge = Callable[[Send, str], Payload]

SHARED, NOBODY = "/whatsapp_response", "/whatsapp_response/nobody"
NUMBERS = ("101", "102", "103")


def path_of(number: str) -> str:
    return f"{SHARED}/b{number}"


def secret_of(number: str) -> str:
    return f"secret-{number}"


def documents() -> list[Payload]:
    """101 and 102 have secrets of their own, 103 uses the shared one."""
    own = {number: {"whatsappAppSecret": VAULT.encrypt(secret_of(number))} for number in ("101", "102")}
    return [business(number, **own.get(number, {})) for number in NUMBERS]


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all; each test has messages of its own. No statuses come by themselves."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many(documents())
        hub = await start(RATE_LIMIT_WEBHOOK="100000/minute")
        hub.graph.control.plan = StatusPlan(steps=())
        hub.graph.control.tokens = {number: f"token-{number}" for number in NUMBERS}
        yield hub


on_one_hub = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def wamid() -> str:
    """A message id that no other test has."""
    return f"wamid.{uuid4().hex}"


def hello(number: str, wamid: str) -> Payload:
    return webhook_of(text_message("hello", wamid=wamid), number=number)


async def post_own(hub: Hub, payload: Payload, number: str) -> int:
    return await hub.post(payload, path=path_of(number), secret=secret_of(number))


async def answered(hub: Hub, number: str, wamid: str) -> tuple[Payload, Send]:
    """Wait until a message is answered; return its row and what was sent."""
    row = await hub.row_where(number, wamid, state="done", outcome="replied")
    (send,) = [send for send in hub.graph.log.accepted if send.phone_number_id == number and wamid in send.callback]
    return row, send


# Which secret counts where


@on_one_hub
@pytest.mark.parametrize(
    ("path", "secret", "status"),
    [
        pytest.param(SHARED, SECRET, 200, id="shared secret on the shared path"),
        pytest.param(path_of("101"), secret_of("101"), 200, id="own secret on its own path"),
        pytest.param(path_of("103"), SECRET, 200, id="shared secret where there is no own one"),
        pytest.param(SHARED, secret_of("101"), 401, id="own secret on the shared path"),
        pytest.param(path_of("102"), secret_of("101"), 401, id="own secret on the path of another with an own one"),
        pytest.param(path_of("103"), secret_of("101"), 401, id="own secret on the path of another without one"),
        pytest.param(path_of("101"), SECRET, 401, id="shared secret where there is an own one"),
        pytest.param(NOBODY, SECRET, 401, id="shared secret on a path that nobody has"),
        pytest.param(f"{SHARED}/B101", secret_of("101"), 401, id="own secret on a path that is written otherwise"),
    ],
)
async def test_secret_counts_on_its_path_only(hub: Hub, path: str, secret: str, status: int) -> None:
    assert await hub.post({"of": "tomorrow"}, path=path, secret=secret) == status


async def test_secret_that_does_not_decrypt_verifies_nothing(database: Database, start_hub: StartHub) -> None:
    """Neither what is signed with the shared one nor, where unsigned webhooks are asked for, what is not signed."""
    await database.businesses.insert_one(business("101", whatsappAppSecret="damaged"))
    for hub in (await start_hub(), await start_hub(WHATSAPP_APP_SECRET="", ALLOW_UNSIGNED_WEBHOOKS="true")):
        for secret in (SECRET, "damaged", "", None):
            assert await hub.post({"of": "tomorrow"}, path=path_of("101"), secret=secret) == 401


# What an own secret may speak for


@on_one_hub
async def test_own_secret_speaks_for_its_own_numbers_only(hub: Hub, wamid: str) -> None:
    ignored = await hub.sample("whatsapp_hub_items_total", kind="message", outcome="ignored")
    entries = [hello(number, wamid)["entry"][0] for number in ("102", "103", "999", "101")]
    assert await post_own(hub, {"entry": entries}, "101") == 200
    await answered(hub, "101", wamid)
    assert [row["_id"] async for row in hub.database.inbox.find({"_id": {"$regex": wamid}})] == [f"101:{wamid}"]
    assert await hub.sample("whatsapp_hub_items_total", kind="message", outcome="ignored") == ignored + 3


@on_one_hub
@pytest.mark.parametrize(
    ("account", "value", "is_kept"),
    [
        pytest.param("waba-101", {}, True, id="its own account"),
        pytest.param("waba-102", {}, False, id="another's account"),
        pytest.param(None, {}, False, id="no account"),
        pytest.param("partner", {"waba_info": {"waba_id": "waba-101"}}, True, id="own account in waba_info"),
        pytest.param("partner", {"waba_info": {"waba_id": "waba-102"}}, False, id="another's in waba_info"),
        pytest.param("waba-101", {"waba_info": {"waba_id": "waba-102"}}, False, id="own entry, another's waba_info"),
    ],
)
async def test_own_secret_speaks_for_its_own_account_where_no_number_is_named(
    hub: Hub, wamid: str, account: str | None, value: Payload, is_kept: bool
) -> None:
    changes = [{"field": "account_update", "value": {"event": wamid, **value}}]
    entry = {"changes": changes} if account is None else {"id": account, "changes": changes}
    assert await post_own(hub, {"entry": [entry]}, "101") == 200
    events = await hub.database.events.find().to_list(None)
    assert any(wamid.encode() in bytes(event["item"]) for event in events) == is_kept


# What is about others' messages


def status(send: Send, _: str) -> Payload:
    told = {"id": send.wamid, "status": "failed", "timestamp": "1", "biz_opaque_callback_data": send.callback}
    return {"statuses": [told]}


def reaction(send: Send, wamid: str) -> Payload:
    emoji = {"type": "reaction", "reaction": {"message_id": send.wamid, "emoji": "!"}}
    return {"messages": [text_message("", wamid=f"{wamid}.forged", sender="496") | emoji]}


def reply_to_it(send: Send, wamid: str) -> Payload:
    context = {"id": send.wamid, "from": "102"}
    return {"messages": [text_message("mine", wamid=f"{wamid}.forged", sender="496", context=context)]}


def echo(send: Send, _: str) -> Payload:
    told = {"id": send.wamid, "to": send.customer, "timestamp": "1", "type": "text", "text": {"body": "no"}}
    return {"message_echoes": [told]}


def same_message(_: Send, wamid: str) -> Payload:
    return {"messages": [text_message("again", wamid=wamid)]}


each_forgery = pytest.mark.parametrize("forge", [status, reaction, reply_to_it, echo, same_message])


@on_one_hub
@pytest.mark.parametrize("claimed", ["101", "102"])
@each_forgery
async def test_what_an_own_secret_signs_changes_nothing_of_another_business(
    hub: Hub, wamid: str, forge: Forge, claimed: str
) -> None:
    """Neither under its own number with the other's ids and callback data, nor under the other's number."""
    assert await post_own(hub, hello("102", wamid), "102") == 200
    row, send = await answered(hub, "102", wamid)
    forged = webhook_of(number=claimed, **forge(send, wamid))
    assert await post_own(hub, forged, "101") == 200
    await hub.at_rest()
    assert await hub.row("102", wamid) == row
    assert (await answered(hub, "102", wamid))[1] is send


@on_one_hub
@each_forgery
async def test_item_matches_only_rows_of_the_number_that_its_metadata_names(hub: Hub, wamid: str, forge: Forge) -> None:
    """Even where Meta itself signs: the callback data is a hint, the number decides."""
    await hub.say("103", "hello", wamid)
    row, send = await answered(hub, "103", wamid)
    assert await hub.post(webhook_of(number="102", **forge(send, wamid))) == 200
    await hub.at_rest()
    assert await hub.row("103", wamid) == row


@on_one_hub
async def test_status_under_the_right_number_does_match(hub: Hub, wamid: str) -> None:
    """So that the tests above say something."""
    await hub.say("103", "hello", wamid)
    _, send = await answered(hub, "103", wamid)
    assert await hub.post(webhook_of(number="103", **status(send, wamid))) == 200
    assert (await hub.row("103", wamid))["state"] == "dead"


@on_one_hub
async def test_items_of_several_businesses_in_one_webhook_are_answered_each_with_its_own_token(
    hub: Hub, wamid: str
) -> None:
    entries = [hello(number, wamid)["entry"][0] for number in NUMBERS]
    assert await hub.post(orjson.dumps({"entry": entries})) == 200
    for number in NUMBERS:
        await answered(hub, number, wamid)
    assert all(send.accepted for send in hub.graph.log.sends)  # the stand-in knows each one's token


# What strangers can find out


def shown(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return everything that came back, but the time."""
    return answer.status, answer.body, sorted((name, text) for name, text in answer.headers.items() if name != "Date")


@on_one_hub
@pytest.mark.parametrize("headers", [{}, {"X-Hub-Signature-256": "sha256=" + "0" * 64}, {"X-Hub-Signature-256": "x"}])
@pytest.mark.parametrize("body", [b"{}", b"no JSON", b"x" * 100_000])
async def test_forged_signature_and_unknown_subdomain_look_the_same(
    hub: Hub, headers: dict[str, str], body: bytes
) -> None:
    paths = (SHARED, path_of("101"), path_of("103"), NOBODY, f"{SHARED}/%00", f"{SHARED}/{'x' * 2000}")
    answers = [await hub.exchange("POST", path, data=body, headers=headers) for path in paths]
    signed = {"X-Hub-Signature-256": sign(body, SECRET.encode())}
    answers.append(await hub.exchange("POST", NOBODY, data=body, headers=signed))
    assert answers[0].status == 401
    assert all(shown(answer) == shown(answers[0]) for answer in answers)


@on_one_hub
async def test_handshake_with_a_wrong_token_and_of_an_unknown_subdomain_look_the_same(hub: Hub) -> None:
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": "wrong"}
    paths = (SHARED, path_of("101"), path_of("103"), NOBODY)
    answers = [await hub.exchange("GET", path, params=query) for path in paths]
    assert answers[0].status == 403
    assert all(shown(answer) == shown(answers[0]) for answer in answers)


async def test_no_database_command_comes_before_a_signature_holds(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_many(documents())
    quiet = {"heartbeat_s": 60, "self_fence_s": 90, "lease_s": 120, "round_s": 60, "held_recheck_s": 60}
    hub = await start_hub(timing=quiet)
    async with profiling(database) as commands:
        for path in (SHARED, path_of("101"), path_of("103"), NOBODY, f"{NOBODY}2"):
            for secret in (None, "guessed"):
                assert await hub.post(hello("101", "wamid.1"), path=path, secret=secret) == 401
            assert (await hub.exchange("GET", path, params={"hub.verify_token": "guessed"})).status == 403
        assert await commands() == []
        assert await hub.post(hello("103", "wamid.1")) == 200
        assert await commands() != []
