"""What the environment says about businesses: their secrets, the fallback business, the cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub import Hub, StartHub, business
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import fingerprint
from whatsapp_hub.tenants.vault import Vault

NUMBERS = ("101", "102", "103")


async def cache(hub: Hub) -> dict[str, Any]:
    figures: dict[str, Any] = (await hub.exchange("GET", "/metrics")).json["cache"]
    return figures


async def say_all(hub: Hub, text: str = "hello") -> None:
    for number in NUMBERS:
        await hub.say(number, text, f"wamid.{text}")
    await hub.at_rest()


# Their secrets


async def test_encryption_secret_opens_the_token_that_a_business_is_answered_with(
    database: Database, start_hub: StartHub
) -> None:
    token = Vault("another secret").encrypt("the-very-token")
    await database.businesses.insert_one(business("101", whatsappAccessToken=token))
    hub = await start_hub(ENCRYPTION_SECRET="another secret")
    await hub.say("101", "hello", "wamid.1")
    (send,) = await hub.graph.log.wait_for(1)
    assert send.token == fingerprint("the-very-token")


@pytest.mark.parametrize(
    ("secrets", "is_answered"),
    [("older,oldest", True), ("oldest", True), ("older", False), ("", False)],
)
async def test_encryption_secrets_old_are_still_accepted(
    database: Database, start_hub: StartHub, secrets: str, is_answered: bool
) -> None:
    token = Vault("oldest").encrypt("the-very-token")
    await database.businesses.insert_one(business("101", whatsappAccessToken=token))
    hub = await start_hub(ENCRYPTION_SECRETS_OLD=secrets)
    await hub.say("101", "hello", "wamid.1")
    if is_answered:
        (send,) = await hub.graph.log.wait_for(1)
        assert send.token == fingerprint("the-very-token")
    else:
        # What does not decrypt is never sent to anyone.
        row = await hub.row_where("101", "wamid.1", stage="held")
        assert "does not decrypt" in row["reason"]
        assert hub.graph.log.sends == []


# The fallback business


async def test_whatsapp_phone_number_id_is_answered_with_whatsapp_token(start_hub: StartHub) -> None:
    hub = await start_hub(WHATSAPP_PHONE_NUMBER_ID="555", WHATSAPP_TOKEN="environment-token")
    hub.graph.control.tokens = {"555": "environment-token"}
    await hub.say("555", "hello", "wamid.1")
    (send,) = await hub.graph.log.wait_for(1)
    assert (send.phone_number_id, send.text) == ("555", "hello")


async def test_document_goes_before_the_fallback(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("555"))
    hub = await start_hub(WHATSAPP_PHONE_NUMBER_ID="555", WHATSAPP_TOKEN="environment-token")
    await hub.say("555", "hello", "wamid.1")
    (send,) = await hub.graph.log.wait_for(1)
    assert send.token == fingerprint("token-555")


# The cache


async def test_business_cache_ttl_is_how_long_a_business_is_kept(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101"))
    short, long = await start_hub(BUSINESS_CACHE_TTL="0.01"), await start_hub(BUSINESS_CACHE_TTL="300")
    for hub in (short, long):
        for n in range(5):
            await hub.say("101", "hello", f"wamid.{hub.url}.{n}")
            await hub.at_rest()
            await asyncio.sleep(0.011)
    assert (await cache(short))["misses"] >= 4
    assert (await cache(long))["misses"] == 0  # warmed up
    assert ((await cache(short))["ttl_seconds"], (await cache(long))["ttl_seconds"]) == (0.01, 300)


async def test_business_cache_size_is_how_many_are_kept(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_many(map(business, NUMBERS))
    hub = await start_hub(BUSINESS_CACHE_SIZE="2")
    await say_all(hub)
    figures = await cache(hub)
    assert (figures["size"], figures["max_size"]) == (2, 2)
    assert await hub.sample("whatsapp_hub_business_cache_size") == 2
    assert len(hub.texts) == 3


@pytest.mark.parametrize(("warm", "misses"), [("true", 0), ("false", 3)])
async def test_warmup_cache_loads_businesses_before_the_first_message(
    database: Database, start_hub: StartHub, warm: str, misses: int
) -> None:
    await database.businesses.insert_many(map(business, NUMBERS))
    hub = await start_hub(WARMUP_CACHE=warm)
    assert (await cache(hub))["size"] == 3 - misses
    await say_all(hub)
    assert (await cache(hub))["misses"] == misses
