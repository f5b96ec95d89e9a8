"""API keys from the command line: shown once, stored hashed, revoked for good."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from click.testing import Result

from tests.api import CUSTOMER, Caller, text_to
from tests.hub import StartHub, business, until
from tests.leaks import LEAKS
from whatsapp_hub.commands.business_keys import MAX_KEYS
from whatsapp_hub.database import Database

CommandLine = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
async def _business(database: Database) -> None:
    await database.businesses.insert_one(business("101"))


async def make_key(command_line: CommandLine, *options: str) -> str:
    result = await command_line("business", "key", "add", "b101", *options)
    assert result.exit_code == 0, result.stderr
    return LEAKS.seed(result.stdout.strip())


async def document(database: Database) -> dict[str, Any]:
    found: dict[str, Any] | None = await database.businesses.find_one({"subDomain": "b101"})
    assert found is not None
    return found


async def test_key_is_printed_once_and_stored_as_a_hash(
    command_line: CommandLine, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = await make_key(command_line, "--label", "shop")
    [stored] = (await document(database))["apiKeys"]
    assert stored.keys() == {"id", "hash", "label", "createdAt"}
    assert (stored["id"], stored["label"]) == (key[4:16], "shop")
    secret = key[17:]  # it may hold what it is set apart by
    assert secret not in str(await document(database))
    listed = await command_line("business", "key", "list", "b101")
    shown = await command_line("business", "show", "b101", "--json")
    for text in (listed.output, shown.output, caplog.text):
        assert secret not in text
        assert stored["hash"] not in text
    assert (stored["id"] in listed.stdout, "shop" in listed.stdout) == (True, True)
    [entry] = orjson.loads((await command_line("business", "key", "list", "b101", "--json")).stdout)
    assert (entry["id"], entry["label"]) == (stored["id"], "shop")


async def test_key_lets_in_until_it_is_revoked(
    command_line: CommandLine, start_hub: StartHub, database: Database
) -> None:
    kept, revoked = await make_key(command_line), await make_key(command_line)
    hub = await start_hub()
    callers = [Caller(hub=hub, sub_domain="b101", key=key) for key in (kept, revoked)]
    assert [(await caller.send(text_to(CUSTOMER, "hello"))).status for caller in callers] == [202, 202]
    result = await command_line("business", "key", "revoke", "b101", revoked[4:16])
    assert result.exit_code == 0, result.stderr

    async def is_refused() -> bool:
        return (await callers[1].show("api.1")).status == 401

    await until(is_refused)
    assert (await callers[0].show("api.1")).status == 404
    assert [key["id"] for key in (await document(database))["apiKeys"]] == [kept[4:16]]


async def test_no_two_keys_are_alike(command_line: CommandLine) -> None:
    assert await make_key(command_line) != await make_key(command_line)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["add", "nobody"], 1, "no business has the subdomain"),
        (["list", "nobody"], 1, "no business has the subdomain"),
        (["revoke", "b101", "00aa11bb22cc"], 1, "has no key"),
        (["add", "b101", "--label", "x" * 101], 2, "--label"),
        (["add", "b101", "--label", "two\nlines"], 2, "--label"),
    ],
)
async def test_what_cannot_be_done_is_said(
    command_line: CommandLine, arguments: list[str], status: int, words: str
) -> None:
    result = await command_line("business", "key", *arguments)
    assert (result.exit_code, words in result.stderr) == (status, True), result.stderr


async def test_business_has_so_many_keys_at_most(command_line: CommandLine, database: Database) -> None:
    entry = {"id": "00aa11bb22cc", "hash": "0" * 64, "label": ""}
    many = {"$set": {"apiKeys": [entry] * MAX_KEYS}}
    await database.businesses.update_one({"subDomain": "b101"}, many)
    result = await command_line("business", "key", "add", "b101")
    assert (result.exit_code, "revoke" in result.stderr) == (1, True)


async def test_business_without_keys_says_how_to_make_one(command_line: CommandLine) -> None:
    assert "business key add b101" in (await command_line("business", "key", "list", "b101")).stdout
