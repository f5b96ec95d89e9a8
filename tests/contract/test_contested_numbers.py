"""Two businesses that claim one number: the one served last keeps it, with none both are held, nothing is dropped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub import VAULT, Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import fingerprint

OWNER, CLAIMANT = fingerprint("token-101"), fingerprint("token-of-the-claimant")


def claimant(**changes: Any) -> dict[str, Any]:
    """Return another business with the number of 101."""
    token = VAULT.encrypt("token-of-the-claimant")
    return business("101", subDomain="claimant", whatsappAccessToken=token, **changes)


@pytest.fixture
async def hub(database: Database, start_hub: StartHub) -> Hub:
    """A hub that has answered for 101."""
    await database.businesses.insert_one(business("101"))
    hub = await start_hub()
    await hub.say("101", "first", "wamid.first")

    async def is_remembered() -> bool:
        return await database.conversations.count_documents({}) == 1

    await until(is_remembered)
    return hub


async def answer(hub: Hub, wamid: str) -> str:
    """Say something to 101, and return the token that the answer came with."""
    await hub.say("101", "hello", wamid)
    await hub.row_where("101", wamid, state="done", outcome="replied")
    return hub.graph.log.accepted[-1].token


async def test_business_that_was_served_last_keeps_the_number(hub: Hub, start_hub: StartHub) -> None:
    await hub.database.businesses.insert_one(claimant())
    assert await answer(hub, "wamid.1") == OWNER
    assert await answer(await start_hub(), "wamid.2") == OWNER  # whoever starts later knows it too


async def test_claimant_gets_the_number_once_the_other_is_switched_off(hub: Hub) -> None:
    await hub.database.businesses.insert_one(claimant())
    assert await answer(hub, "wamid.1") == OWNER
    await hub.database.businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappEnabled": False}})

    async def is_seen() -> bool:
        return await answer(hub, f"wamid.{len(hub.texts)}") == CLAIMANT

    await until(is_seen)


async def test_both_are_held_while_none_was_served_and_nothing_is_dropped(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_many([business("101"), claimant(), business("102")])
    hub = await start_hub()
    await hub.say("101", "held", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="held")
    assert row["reason"] == "claimed by several businesses: b101, claimant"
    await hub.say("102", "free", "wamid.1")
    await hub.graph.log.wait_for(1)
    assert hub.texts == ["free"]
    assert await hub.sample("whatsapp_hub_business_held") == 1

    await database.businesses.delete_one({"subDomain": "b101"})
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert hub.graph.log.accepted[-1].token == CLAIMANT
    assert await hub.sample("whatsapp_hub_business_held") == 0


async def test_claimant_may_not_sign_for_a_number_that_another_is_served_with(hub: Hub) -> None:
    await hub.database.businesses.insert_one(claimant(whatsappAppSecret=VAULT.encrypt("claimant's secret")))
    forged = webhook_of(text_message("forged", wamid="wamid.forged"), number="101")

    async def is_accepted() -> bool:
        return await hub.post(forged, path="/whatsapp_response/claimant", secret="claimant's secret") == 200

    await until(is_accepted)
    await asyncio.sleep(0.05)
    assert await hub.database.inbox.find_one({"_id": "101:wamid.forged"}) is None
