"""From the system that the hub replaces, on its own data: shadow run, switch, way back (``docs/migration.md``)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from aiohttp import ClientSession, web
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument

from tests.deploy import old_system
from tests.deploy.mirror import open_mirror
from tests.hub import SECRET, Hub, StartHub, _listening, text_message, until, webhook_of
from whatsapp_hub.app import create_app
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import fingerprint
from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import load_settings

SHADOW = {"ASSISTANT": "none", "TYPING_INDICATOR": "true"}  # the latter is the default in production
NUMBERS = ("101", "102", "103", "104", "105", "106", "107")
SERVED = {
    "101": "token-of-bakery",
    "102": "token-of-bakery",
    "106": "w" * 500,
    "107": "token-of-expired",
}


@pytest.fixture
async def shadow(database: Database, start_hub: StartHub) -> Hub:
    """A hub on the old system's data that has stored a message for each number, and is at rest."""
    await old_system.fill(database)
    hub = await start_hub(**SHADOW)
    for number in NUMBERS:
        await hub.say(number, f"to {number}", f"wamid.shadow.{number}")
    await hub.at_rest()
    return hub


async def raw_businesses(database: Database) -> list[bytes]:
    """Return the documents byte for byte."""
    raw = database.businesses.with_options(codec_options=CodecOptions(RawBSONDocument))
    return [document.raw async for document in raw.find({}).sort("_id")]


async def outcomes(database: Database) -> dict[str, str]:
    return {row["_id"]: row.get("outcome", row["state"]) async for row in database.inbox.find({})}


# The shadow run


async def test_shadow_run_stores_everything_and_answers_nobody(database: Database, shadow: Hub) -> None:
    """Not even "read" and "typing" show, and a business whose token cannot be used keeps nothing waiting."""
    assert await outcomes(database) == {f"{number}:wamid.shadow.{number}": "no_reply" for number in NUMBERS}
    assert [shadow.graph.log.sends, shadow.graph.typings] == [[], []]
    assert await database.conversations.count_documents({}) == 0


async def test_shadow_run_leaves_businesses_byte_for_byte_and_adds_one_index(
    database: Database, start_hub: StartHub
) -> None:
    await old_system.fill(database)
    before = await raw_businesses(database)
    hub = await start_hub(**SHADOW)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    assert await raw_businesses(database) == before
    assert {*await database.businesses.index_information()} == {*old_system.INDEXES, "_id_", "subdomain_lookup_idx"}


async def test_message_of_the_shadow_run_that_waits_for_its_business_is_not_answered_once_it_appears(
    database: Database, shadow: Hub
) -> None:
    await shadow.say("199", "hello", "wamid.early")
    await shadow.row_where("199", "wamid.early", stage="held")
    await database.businesses.insert_one(old_system.document("new", "199"))
    await shadow.row_where("199", "wamid.early", state="done", outcome="no_reply")


# The switch


async def test_after_the_switch_new_messages_are_answered_and_those_of_the_shadow_run_are_not(
    database: Database, shadow: Hub, start_hub: StartHub
) -> None:
    await shadow.stop()
    hub = await start_hub()
    for number in NUMBERS:
        await hub.say(number, f"to {number} again", f"wamid.{number}")
        await hub.say(number, f"to {number}", f"wamid.shadow.{number}")  # Meta delivers it again
    sends = await hub.graph.log.wait_for(len(SERVED))
    assert {send.phone_number_id: send.text for send in sends} == {n: f"to {n} again" for n in SERVED}
    assert {send.phone_number_id: send.token for send in sends} == {n: fingerprint(t) for n, t in SERVED.items()}
    await hub.row_where("105", "wamid.105", stage="held")  # a plain-text token is sent to nobody

    stored_anew = {"$set": {"whatsappAccessToken": old_system.encrypt("new-token")}}
    await database.businesses.update_one({"subDomain": "plain"}, stored_anew)
    await hub.row_where("105", "wamid.105", outcome="replied")
    await hub.at_rest()
    assert [send.text for send in hub.graph.log.accepted[len(SERVED) :]] == ["to 105 again"]
    after = await outcomes(database)
    assert {after[f"{number}:wamid.shadow.{number}"] for number in NUMBERS} == {"no_reply"}
    assert [after[f"{number}:wamid.{number}"] for number in ("103", "104")] == ["no_reply", "no_reply"]


def test_environment_of_the_old_system_lacks_two_settings() -> None:
    """The rest is taken as it is, and what only the old system knows disturbs nobody."""
    with pytest.raises(SettingsInvalid) as refused:
        load_settings(env=old_system.ENVIRONMENT, env_file=None, serve=True)
    assert [fault.split(":")[0] for fault in refused.value.faults] == ["ASSISTANT", "WHATSAPP_APP_SECRET"]
    complete = {**old_system.ENVIRONMENT, "ASSISTANT": "none", "WHATSAPP_APP_SECRET": "secret"}
    assert load_settings(env=complete, env_file=None, serve=True).business_cache_ttl == 300


# The way back


async def test_way_back_finds_businesses_and_indexes_as_they_were(
    database: Database, shadow: Hub, start_hub: StartHub
) -> None:
    before = await raw_businesses(database)
    await shadow.stop()
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    await hub.graph.log.wait_for(1)
    await hub.stop()

    assert await raw_businesses(database) == before
    indexes = await database.businesses.index_information()
    for name, (keys, options) in old_system.INDEXES.items():
        assert {**indexes[name], "v": 2} == {"key": keys, "v": 2, **options}
    for number, token in SERVED.items():
        plan = await database.businesses.find(old_system.lookup(number)).explain()
        assert "webhook_lookup_idx" in str(plan["queryPlanner"]["winningPlan"])
        found: Any = await database.businesses.find_one(old_system.lookup(number))
        read = old_system.decrypt(found["whatsappAccessToken"])
        assert read == (token if len(token) <= old_system.LONGEST_TOKEN else None)


# The data of others


@pytest.mark.parametrize("name", ["conversations", "events", "inbox", "nodes"])
async def test_collection_of_another_program_is_left_alone(database: Database, start_hub: StartHub, name: str) -> None:
    """Its documents would expire with the hub's, so nothing begins, and ``/ready`` says why."""
    settings = (await start_hub()).settings
    collection = database.inbox.database[name]
    await collection.insert_one({"updated_at": datetime(2020, 1, 1, tzinfo=UTC), "state": "living", "counter": 0})
    await collection.drop_indexes()
    async with _listening(create_app(settings)) as url, ClientSession() as client:

        async def why() -> Any:
            async with client.get(f"{url}/ready") as response:
                reasons = (await response.json()).get("reasons", [])
                return reasons if "another program" in str(reasons) else None

        assert name in (await until(why))[0]
        assert [*await collection.index_information()] == ["_id_"]


# The webhook in two places


@pytest.fixture
async def old_service() -> AsyncIterator[tuple[str, list[bytes]]]:
    """The old service: says 200 to everything. Yields its address and what it was sent."""
    seen: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/whatsapp_response", take)
    async with _listening(app) as url:
        yield url, seen


async def test_nginx_of_the_manual_sends_every_webhook_to_both(
    shadow: Hub, old_service: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    """What the shadow says does not matter: Meta gets the old service's answers, also when the shadow is down."""
    url, seen = old_service
    async with open_mirror(old=url, shadow=shadow.url, folder=tmp_path) as front, ClientSession() as client:

        async def post(body: bytes) -> tuple[int, str]:
            signature = {"X-Hub-Signature-256": sign(body, SECRET.encode())}
            async with client.post(f"{front}/whatsapp_response", data=body, headers=signature) as response:
                return response.status, await response.text()

        small, large = (
            orjson.dumps(webhook_of(text_message(text, wamid=f"wamid.{len(text)}"), number="101"))
            for text in ("hello", "h" * 300_000)
        )
        assert [await post(small), await post(large)] == [(200, "ok")] * 2
        await shadow.row_where("101", "wamid.5", outcome="no_reply")
        await shadow.row_where("101", "wamid.300000", outcome="no_reply")
        await shadow.stop()
        with closing(socket.socket()) as nobody:  # whoever got the port next would get what nginx sends there
            nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended linger
            nobody.bind(("127.0.0.1", urlsplit(shadow.url).port))
            assert await post(small) == (200, "ok")
    assert seen == [small, large, small]
