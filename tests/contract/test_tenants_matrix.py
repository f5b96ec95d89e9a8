"""Two businesses, and everything that one of them has against every door of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.api import CUSTOMER, Caller, api_key, stored_key, text_to
from tests.hub import (
    SECRET,
    VAULT,
    VERIFY_TOKEN,
    Answer,
    Hub,
    business,
    hubs_on,
    own_database,
    text_message,
    webhook_of,
)
from tests.leaks import LEAKS
from whatsapp_hub.demo.graph import fingerprint
from whatsapp_hub.demo.uploads import Upload

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS: Final = {"a": "101", "b": "102"}
NAMES: Final = {"a": "b101", "b": "b102", "nobody": "nobody"}
KEYS: Final = {name: api_key(f"key of {name}")[0] for name in ("a", "b", "nobody")}
SECRETS: Final = {name: LEAKS.seed(f"the app's secret of {name}") for name in ("a", "b")}
VERIFY_TOKENS: Final = {name: LEAKS.seed(f"verify {name}") for name in ("a", "b")}
ADMIN_TOKEN: Final = LEAKS.seed("the operator's own token, long enough")
BSUID: Final = "DE.13491208655302741918"

#: What each has to show, by whose it is. ``shared`` is the operator's.
SIGNING: Final = {**SECRETS, "shared": SECRET, "nobody": "guessed"}
VERIFYING: Final = {**VERIFY_TOKENS, "shared": VERIFY_TOKEN, "nobody": "guessed"}
BEARING: Final = {
    **KEYS,
    "shared": SECRET,
    "operator": ADMIN_TOKEN,
    "token of a": "token-101",
    "token of b": "token-102",
}


def document(name: str) -> dict[str, Any]:
    return business(
        NUMBERS[name],
        apiKeys=[stored_key(f"key of {name}")],
        whatsappAppSecret=VAULT.encrypt(SECRETS[name]),
        whatsappVerifyToken=VAULT.encrypt(VERIFY_TOKENS[name]),
    )


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many([document(name) for name in NUMBERS])
        hub = await start(RATE_LIMIT_WEBHOOK="100000/minute", RATE_LIMIT_ADMIN="100000/minute", ADMIN_TOKEN=ADMIN_TOKEN)
        hub.graph.control.tokens = {number: f"token-{number}" for number in NUMBERS.values()}
        yield hub


def caller(hub: Hub, holder: str, path: str) -> Caller:
    return Caller(hub=hub, sub_domain=NAMES[path], key=BEARING[holder])


# Keys


async def send(who: Caller, _: str) -> Answer:
    return await who.send(text_to(CUSTOMER, "hello"))


async def show(who: Caller, message_id: str) -> Answer:
    return await who.show(message_id)


async def pause(who: Caller, _: str) -> Answer:
    return await who.pause(CUSTOMER, {"minutes": 0})


API_ROUTES: Final = {
    "/api/v1/{subDomain}/messages": (send, 202),
    "/api/v1/{subDomain}/messages/{id}": (show, 200),
    "/api/v1/{subDomain}/conversations/{id}/pause": (pause, 200),
}


@pytest.mark.parametrize("route", API_ROUTES)
@pytest.mark.parametrize(("holder", "path"), list(product(BEARING, NAMES)), ids=lambda name: name.replace(" ", "_"))
async def test_key_opens_the_routes_of_its_own_path_and_no_other(hub: Hub, route: str, holder: str, path: str) -> None:
    call, opened = API_ROUTES[route]
    message_id = await caller(hub, path, path).say("asked after") if path in NUMBERS else "api.1"
    answer = await call(caller(hub, holder, path), message_id)
    is_key = holder in NUMBERS
    assert answer.status == (opened if is_key and holder == path else 404 if is_key else 401)


@pytest.mark.parametrize("holder", [name for name in BEARING if name != "operator"])
async def test_nothing_but_the_operators_token_opens_admin(hub: Hub, holder: str) -> None:
    headers = {"Authorization": f"Bearer {BEARING[holder]}"}
    for path in ("/admin/cache/clear", "/admin/cache/warmup"):
        assert (await hub.exchange("POST", path, headers=headers)).status == 401


async def test_message_of_one_is_not_shown_to_the_other_on_its_own_path(hub: Hub) -> None:
    message_id = await caller(hub, "a", "a").say("mine")
    assert (await caller(hub, "b", "b").show(message_id)).status == 404
    assert (await caller(hub, "a", "a").show(message_id)).status == 200


async def test_number_of_the_other_is_not_sent_from_nor_paused(hub: Hub) -> None:
    a = caller(hub, "a", "a")
    assert (await a.send(text_to(CUSTOMER, "hello", **{"from": NUMBERS["b"]}))).status == 422
    assert (await a.pause(CUSTOMER, {"minutes": 5, "from": NUMBERS["b"]})).status == 422


async def test_idempotency_key_of_the_other_finds_nothing(hub: Hub) -> None:
    body, key = text_to("491700000089", "same words"), uuid4().hex  # nothing waits in front of it
    ids = [(await caller(hub, name, name).send(body, idempotency_key=key)).json["id"] for name in NUMBERS]
    assert ids[0] != ids[1]
    for name, message_id in zip(NUMBERS, ids, strict=True):
        told = await caller(hub, name, name).reaches(message_id, "sent")
        assert told["from"] == NUMBERS[name]


# Signatures


@pytest.mark.parametrize(("signer", "path"), list(product(SIGNING, ("shared", *NAMES))))
async def test_secret_signs_for_its_own_path_and_no_other(hub: Hub, signer: str, path: str) -> None:
    where = "/whatsapp_response" if path == "shared" else f"/whatsapp_response/{NAMES[path]}"
    payload = webhook_of(text_message("hello", wamid=f"wamid.{uuid4().hex}"), number=NUMBERS.get(path, "101"))
    status = await hub.post(payload, path=where, secret=SIGNING[signer])
    assert status == (200 if signer == path and path != "nobody" else 401)


@pytest.mark.parametrize(("holder", "path"), list(product(VERIFYING, ("shared", *NAMES))))
async def test_verify_token_opens_its_own_path_and_no_other(hub: Hub, holder: str, path: str) -> None:
    where = "/whatsapp_response" if path == "shared" else f"/whatsapp_response/{NAMES[path]}"
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": VERIFYING[holder]}
    answer = await hub.exchange("GET", where, params=query)
    assert answer.status == (200 if holder == path and path != "nobody" else 403)


@pytest.mark.parametrize(("signer", "number"), list(product(SECRETS, NUMBERS)))
async def test_secret_speaks_for_its_own_number_and_no_other(hub: Hub, signer: str, number: str) -> None:
    wamid = f"wamid.{uuid4().hex}"
    payload = webhook_of(text_message("hello", wamid=wamid), number=NUMBERS[number])
    assert await hub.post(payload, path=f"/whatsapp_response/{NAMES[signer]}", secret=SECRETS[signer]) == 200
    stored = await hub.database.inbox.count_documents({"_id": f"{NUMBERS[number]}:{wamid}"})
    assert stored == (1 if signer == number else 0)


# Customers and media


async def test_one_bsuid_is_two_customers_of_two_businesses(hub: Hub) -> None:
    """Its words, what was said to it, and its pause are kept for each business by itself."""
    a, b = (caller(hub, name, name) for name in NUMBERS)
    for who, number in zip((a, b), NUMBERS.values(), strict=True):
        answer = await who.send({"recipient": BSUID, "type": "text", "text": {"body": f"only of {number}"}})
        await who.reaches(answer.json["id"], "sent")
    assert (await a.pause(BSUID, {"minutes": 5})).status == 200
    await hub.at_rest()
    kept = {name: await hub.database.conversations.find_one({"_id": f"{NUMBERS[name]}:{BSUID}"}) for name in NUMBERS}
    for name, stored in kept.items():
        assert stored is not None
        assert [turn["reply"] for turn in stored["turns"]] == [f"only of {NUMBERS[name]}"]
        assert ("paused_until" in stored) is (name == "a")
    sends = [send for send in hub.graph.log.accepted if send.customer == BSUID]
    assert {send.text: send.token for send in sends} == {
        f"only of {number}": fingerprint(f"token-{number}") for number in NUMBERS.values()
    }


async def test_media_id_counts_for_the_number_that_it_was_uploaded_for(hub: Hub) -> None:
    """Whose it is, Meta knows: an id goes out with the token of who sends it, and what is another's is refused."""
    customer = "491700000088"
    media = {
        name: hub.graph.uploads.add(Upload(phone_number_id=number, mime_type="image/png", sha256="", size=1))
        for name, number in NUMBERS.items()
    }
    for holder, owner in product(NUMBERS, NUMBERS):
        body = {"to": customer, "type": "image", "image": {"id": media[owner]}}
        sent = await caller(hub, holder, holder).send(body)
        await caller(hub, holder, holder).reaches(sent.json["id"], "sent" if holder == owner else "failed")
    sends = [send for send in hub.graph.log.accepted if send.customer == customer]
    assert sorted((send.phone_number_id, send.token) for send in sends) == sorted(
        (number, fingerprint(f"token-{number}")) for number in NUMBERS.values()
    )


# Nothing is left out


async def test_every_route_that_names_a_business_is_in_the_matrix(hub: Hub) -> None:
    routes = {route.resource.canonical for route in hub.app.router.routes() if route.resource is not None}
    businesses_own = {route for route in routes if not route.startswith("/console/")}  # which is the operator's
    assert {route for route in businesses_own if "{" in route} == {*API_ROUTES, "/whatsapp_response/{subDomain}"}
