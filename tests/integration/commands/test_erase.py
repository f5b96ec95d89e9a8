"""Erasing from the command line: it asks, says what it did and never whose number, and finishes what was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from tests.hub import business, until
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.erasure import SLICE

CommandLine = Callable[..., Awaitable[Result]]

CUSTOMER = "491700000001"
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def message(number: str, wamid: str, customer: str = CUSTOMER) -> dict[str, Any]:
    return {
        "_id": f"{number}:{wamid}",
        "conversation": f"{number}:{customer}",
        "state": "done",
        "stage": "new",
        "epoch": 1,
        "item": b'{"from":"%b","text":{"body":"nobody shall read this"}}' % customer.encode(),
        "done_at": LONG_AGO,
    }


@pytest.fixture
async def kept(database: Database) -> Database:
    """Two businesses, each with two customers."""
    await database.businesses.insert_many([business("101"), business("102")])
    for number in ("101", "102"):
        await database.inbox.insert_many([message(number, f"{n}", f"49170000000{n}") for n in (1, 2)])
        await database.conversations.insert_one({"_id": f"{number}:{CUSTOMER}", "business": "x"})
    return database


async def left(database: Database) -> list[str]:
    found = [await collection.find({}).to_list(None) for collection in (database.inbox, database.conversations)]
    return sorted(document["_id"] for documents in found for document in documents)


async def test_it_asks_first(command_line: CommandLine, kept: Database) -> None:
    before = await left(kept)
    declined = await command_line("erase", "b101", stdin="n\n")
    assert declined.exit_code == 1
    assert "Erase 2 messages, 1 history, 0 events of b101, for good?" in declined.stderr
    assert "`whatsapp-hub business disable b101` comes first" in declined.stderr
    assert await left(kept) == before


async def test_business_is_erased_and_its_document_stays(command_line: CommandLine, kept: Database) -> None:
    erased = await command_line("erase", "b101", stdin="y\n")
    assert (erased.exit_code, erased.stdout) == (0, "Erased of b101: 2 messages, 1 history, 0 events.\n")
    assert "Erasing" in erased.stderr
    assert await left(kept) == ["102:1", "102:2", f"102:{CUSTOMER}"]
    assert await kept.businesses.count_documents({"subDomain": "b101"}) == 1


@pytest.mark.parametrize("spelled", [CUSTOMER, f"+{CUSTOMER}", " +49 170 000-0001 ", "+49 (170) 000.0001"])
async def test_customer_may_be_spelled_as_people_do(command_line: CommandLine, kept: Database, spelled: str) -> None:
    """And is named by the last digits only."""
    erased = await command_line("erase", "b101", "--customer", spelled, "--yes")
    assert erased.exit_code == 0
    assert erased.stdout == "Erased of ***0001 at b101: 1 message, 1 history, 0 events.\n"
    assert CUSTOMER not in erased.output
    assert await left(kept) == ["101:2", "102:1", "102:2", f"102:{CUSTOMER}"]


async def test_where_nothing_is_kept_nothing_is_asked(command_line: CommandLine, kept: Database) -> None:
    nothing = await command_line("erase", "b101", "--customer", "491709999999")
    assert (nothing.exit_code, nothing.stdout) == (0, "Nothing is kept of ***9999 at b101.\n")


@pytest.mark.parametrize("customer", ["", " ", "+"])
async def test_customer_that_is_none_is_wrong_usage(command_line: CommandLine, kept: Database, customer: str) -> None:
    assert (await command_line("erase", "b101", "--customer", customer, "--yes")).exit_code == 2
    assert len(await left(kept)) == 6


async def test_unknown_business_is_told(command_line: CommandLine) -> None:
    result = await command_line("erase", "nobody", "--yes")
    assert result.exit_code == 1
    assert "'nobody'" in result.stderr


async def test_number_that_two_businesses_claim_is_nobodys_to_erase(command_line: CommandLine, kept: Database) -> None:
    await kept.businesses.insert_one(business("103", whatsappPhoneNumberIds=["103", "101"]))
    result = await command_line("erase", "b101", "--yes")
    assert result.exit_code == 1
    assert "'b103'" in result.stderr
    assert len(await left(kept)) == 6


@asynccontextmanager
async def database_that_stops_after(database: Database, deletes: int) -> AsyncIterator[None]:
    """Have the database take its time for every delete after the first ones."""
    hang = {"failCommands": ["delete"], "blockConnection": True, "blockTimeMS": 60_000, "appName": "whatsapp-hub"}
    admin = database.client.admin
    await admin.command({"configureFailPoint": "failCommand", "mode": {"skip": deletes}, "data": hang})
    try:
        yield
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def test_what_was_killed_half_way_is_finished_by_the_next_call(
    command_line: CommandLine, database: Database, mongodb_uri: str
) -> None:
    await database.businesses.insert_one(business("101"))
    await database.inbox.insert_many([message("101", f"{n}") for n in range(5 * SLICE)])
    environment = {**os.environ, "MONGODB_URI": mongodb_uri, "MONGODB_DB_NAME": database.inbox.database.name}

    async def is_half_way() -> bool:
        return await database.inbox.count_documents({}) == 3 * SLICE

    async with database_that_stops_after(database, 2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "whatsapp_hub", "erase", "b101", "--yes", env=environment
        )
        await until(is_half_way, 20.0)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        assert await is_half_way()
    erased = await command_line("erase", "b101", "--customer", CUSTOMER, "--yes")
    assert erased.exit_code == 0
    assert await left(database) == []
