"""The webhook's rows of the HTTP table: the handshake and every status of a POST, at a whole hub over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.contract.conftest import Failing
from tests.hub import (
    SECRET,
    VAULT,
    Answer,
    Hub,
    StartHub,
    business,
    hubs_on,
    own_database,
    text_message,
    until,
    webhook_of,
)
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database
from whatsapp_hub.http import keys
from whatsapp_hub.http.body import MAX_BODY_BYTES, MAX_UNVERIFIED_BYTES

SHARED, OWN, UNKNOWN = "/whatsapp_response", "/whatsapp_response/b102", "/whatsapp_response/nobody"
SAMPLES = Path(__file__).parents[1] / "samples"
CHALLENGE = "1158201444"
HELLO = orjson.dumps(webhook_of(text_message("hello", wamid="wamid.1"), number="101"))

Exchange = Callable[[Hub], Any]


@pytest_asyncio.fixture(name="shared_hub", loop_scope="module", scope="module")
async def _shared_hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for every case that leaves it as it is. 102 has a verify token of its own."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        own = {"whatsappVerifyToken": VAULT.encrypt("own token")}
        await database.businesses.insert_many([business("101"), business("102", **own)])
        yield await start(
            WHATSAPP_APP_SECRET=f"new one, {SECRET}",
            WHATSAPP_VERIFY_TOKEN="verify me",
            RATE_LIMIT_WEBHOOK="100000/minute",
            timing={"body_timeout_s": 0.1},
        )


on_the_shared_hub = pytest.mark.asyncio(loop_scope="module")


# The handshake


async def greet(hub: Hub, path: str = SHARED, **query: str) -> Answer:
    names = {"mode": "subscribe", "challenge": CHALLENGE} | query
    return await hub.exchange("GET", path, params={f"hub.{name}": value for name, value in names.items()})


@on_the_shared_hub
@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        pytest.param(SHARED, {"verify_token": "verify me"}, 200, id="right token on the shared path"),
        pytest.param("/whatsapp_response/b101", {"verify_token": "verify me"}, 200, id="fallback for a business"),
        pytest.param(OWN, {"verify_token": "own token"}, 200, id="a business's own token on its path"),
        pytest.param(OWN, {"verify_token": "verify me"}, 403, id="shared token where there is an own one"),
        pytest.param(SHARED, {"verify_token": "own token"}, 403, id="own token on the shared path"),
        pytest.param(UNKNOWN, {"verify_token": "verify me"}, 403, id="path that nobody has"),
        pytest.param(SHARED, {"verify_token": "wrong"}, 403, id="wrong token"),
        pytest.param(SHARED, {"verify_token": ""}, 403, id="empty token"),
        pytest.param(SHARED, {}, 403, id="no token"),
        pytest.param(SHARED, {"verify_token": "verify me", "mode": "unsubscribe"}, 403, id="another mode"),
    ],
)
async def test_handshake(shared_hub: Hub, path: str, query: dict[str, str], status: int) -> None:
    answer = await greet(shared_hub, path, **query)
    assert answer.status == status
    if status == 200:
        assert answer.body == CHALLENGE.encode()
        assert answer.headers["Content-Type"] == "text/plain"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    else:
        assert CHALLENGE.encode() not in answer.body


async def test_no_handshake_passes_on_the_shared_path_without_whatsapp_verify_token(
    database: Database, start_hub: StartHub
) -> None:
    own = {"whatsappVerifyToken": VAULT.encrypt("own token")}
    empty = {"whatsappVerifyToken": VAULT.encrypt("")}
    await database.businesses.insert_many([business("101"), business("102", **own), business("103", **empty)])
    hub = await start_hub(WHATSAPP_VERIFY_TOKEN="")
    for path in (SHARED, "/whatsapp_response/b101", "/whatsapp_response/b103"):
        for token in ({}, {"verify_token": ""}, {"verify_token": "None"}, {"verify_token": "verify me"}):
            assert (await greet(hub, path, **token)).status == 403
    assert (await greet(hub, OWN, verify_token="own token")).status == 200


# What a POST is answered


def signed(body: bytes, secret: str = SECRET, path: str = SHARED, **headers: str) -> Exchange:
    names = {"X-Hub-Signature-256": sign(body, secret.encode()), **headers}
    return lambda hub: hub.exchange("POST", path, data=BytesIO(body), headers=names)


def unsigned(body: bytes, **headers: str) -> Exchange:
    return lambda hub: hub.exchange("POST", SHARED, data=body, headers=headers)


async def slow(hub: Hub) -> Answer:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    return await hub.exchange("POST", SHARED, data=body())


@on_the_shared_hub
@pytest.mark.parametrize(
    ("exchange", "status"),
    [
        pytest.param(signed(HELLO), 200, id="signed with a secret of WHATSAPP_APP_SECRET"),
        pytest.param(signed(HELLO, "new one"), 200, id="signed with another one of them"),
        pytest.param(signed(HELLO, path="/whatsapp_response/b101"), 200, id="on a business's path"),
        pytest.param(signed(HELLO, path=UNKNOWN), 401, id="on a path that nobody has"),
        pytest.param(unsigned(HELLO), 401, id="signature is missing"),
        pytest.param(signed(HELLO, "guessed"), 401, id="signature is wrong"),
        pytest.param(unsigned(b"no JSON"), 401, id="no JSON and no signature"),
        pytest.param(signed(b"no JSON"), 400, id="no JSON"),
        pytest.param(signed(b"[]"), 400, id="no object"),
        pytest.param(signed(b""), 400, id="nothing"),
        pytest.param(slow, 408, id="body too slow"),
        pytest.param(signed(b"x" * (MAX_BODY_BYTES + 1)), 413, id="over 4 MiB"),
        pytest.param(signed(b"x" * MAX_BODY_BYTES), 400, id="just 4 MiB"),
        pytest.param(signed(HELLO, **{"Content-Encoding": "gzip"}), 415, id="compressed"),
        pytest.param(signed(HELLO, **{"Content-Encoding": "identity"}), 415, id="any Content-Encoding"),
    ],
)
async def test_status_of_a_webhook(shared_hub: Hub, exchange: Exchange, status: int) -> None:
    answer = await exchange(shared_hub)
    assert answer.status == status
    if status == 200:
        assert answer.body == b""
    else:
        assert [*answer.json] == ["error"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_most_of_a_body_is_4_mib_and_of_all_unverified_ones_64() -> None:
    assert (MAX_BODY_BYTES, MAX_UNVERIFIED_BYTES) == (4 << 20, 64 << 20)


@on_the_shared_hub
async def test_everything_is_durable_before_the_200(shared_hub: Hub) -> None:
    messages = [text_message(f"m{n}", wamid=f"wamid.durable.{n}", sender=f"49{n}") for n in range(20)]
    status = {"id": "wamid.of.nobody", "status": "read", "timestamp": "1", "recipient_id": "491"}
    assert await shared_hub.post(webhook_of(*messages, number="101", statuses=[status])) == 200
    database = shared_hub.database
    assert await database.inbox.count_documents({"_id": {"$regex": r"^101:wamid\.durable\."}}) == 20
    assert await database.events.count_documents({}) >= 1


@on_the_shared_hub
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"of":"tomorrow"}', id="object that says nothing"),
        pytest.param(b'{"entry":[{"changes":[{"field":"weather","value":{"fine":true}}]}]}', id="field of tomorrow"),
        pytest.param(b'{"entry":' + b"[" * 500 + b"]" * 500 + b"}", id="deeper than any limit"),
        pytest.param(b'{"entry":[' + b'{"changes":[{}]},' * 5000 + b"{}]}", id="more items than any limit"),
    ],
)
async def test_verified_payload_that_nobody_understands_is_stored_raw_counted_and_answered_200(
    shared_hub: Hub, body: bytes
) -> None:
    before = await shared_hub.sample("whatsapp_hub_items_total", kind="other", outcome="ignored")
    assert (await signed(body)(shared_hub)).status == 200
    events = await shared_hub.database.events.find().to_list(None)
    assert any(body in bytes(event["item"]) or bytes(event["item"]) in body for event in events)
    assert await shared_hub.sample("whatsapp_hub_items_total", kind="other", outcome="ignored") == before + 1


@on_the_shared_hub
@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json")))
async def test_everything_that_meta_sends_is_answered_200(shared_hub: Hub, name: str) -> None:
    assert (await signed((SAMPLES / f"{name}.json").read_bytes())(shared_hub)).status == 200


async def test_what_cannot_be_stored_is_answered_503_with_retry_after(hub: Hub, failing: Failing) -> None:
    with failing("insert"):
        answer = await signed(HELLO)(hub)
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
        assert await hub.database.inbox.count_documents({}) == 0
    assert (await signed(HELLO)(hub)).status == 200


async def test_bodies_not_yet_verified_hold_at_most_64_mib_together(hub: Hub) -> None:
    """Sixteen bodies that want but a few bytes fill it: one more large one has no room, and a small one has."""
    rest_follows = asyncio.Event()
    bodies = hub.app[keys.WEBHOOKS]._bodies

    async def unfinished() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * (MAX_BODY_BYTES // 4 - 1)
        await rest_follows.wait()
        yield b"last"

    async def room_is_taken() -> bool:
        return bodies._unverified_bytes == 16 * (MAX_BODY_BYTES - 4)

    async def post() -> Answer:
        headers = {"Content-Length": str(MAX_BODY_BYTES)}
        return await hub.exchange("POST", SHARED, data=unfinished(), headers=headers)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(post())
        await until(room_is_taken)
        refused = await post()
        assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert (await signed(HELLO)(hub)).status == 200
        rest_follows.set()


# Without signatures


async def test_allow_unsigned_webhooks_takes_the_load_test_of_the_guide(
    database: Database, start_hub: StartHub
) -> None:
    """It has neither ids nor timestamps, so nothing of it is a copy."""
    await database.businesses.insert_one(business("123456789"))
    hub = await start_hub(WHATSAPP_APP_SECRET="", ALLOW_UNSIGNED_WEBHOOKS="true")
    body = (SAMPLES / "load_test.json").read_bytes()
    assert [(await unsigned(body)(hub)).status for _ in range(3)] == [200] * 3
    await hub.at_rest()
    assert "\n".join(hub.texts).count("Hello") == 3


async def test_allow_unsigned_webhooks_has_no_effect_where_a_secret_applies(
    database: Database, start_hub: StartHub
) -> None:
    own = {"whatsappAppSecret": VAULT.encrypt("own secret")}
    await database.businesses.insert_many([business("101"), business("102", **own)])
    without_secret = await start_hub(WHATSAPP_APP_SECRET="", ALLOW_UNSIGNED_WEBHOOKS="true")
    with_secret = await start_hub(ALLOW_UNSIGNED_WEBHOOKS="true")
    payload = webhook_of(text_message("hello", wamid="wamid.1"), number="102")
    assert await without_secret.post(payload, secret=None) == 200
    assert await without_secret.post(payload, secret=None, path=OWN) == 401
    assert await without_secret.post(payload, secret="own secret", path=OWN) == 200
    assert await with_secret.post(payload, secret=None) == 401
    assert await with_secret.post(payload, secret=None, path="/whatsapp_response/b101") == 401


async def test_without_a_secret_nothing_passes_unless_it_is_asked_for(database: Database, start_hub: StartHub) -> None:
    hub = await start_hub(WHATSAPP_APP_SECRET="", ALLOW_UNSIGNED_WEBHOOKS="false")
    assert await hub.post(HELLO, secret=None) == 401
    assert await hub.post(HELLO, secret="") == 401
