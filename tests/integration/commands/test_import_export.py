"""Businesses as JSON lines: out and in again, and what is refused of them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import ObjectId
from click.testing import Result

from tests.hub import VAULT, business
from tests.leaks import LEAKS
from whatsapp_hub.commands.business_import import KEYS
from whatsapp_hub.database import Database
from whatsapp_hub.tenants.vault import Vault

CommandLine = Callable[..., Awaitable[Result]]

TOKEN = LEAKS.seed("EAAGtokenThatIsCarriedOver")
FULL: Mapping[str, Any] = {
    "messagesPerSecond": 20,
    "whatsappTokenExpiresAt": datetime(2031, 1, 31, tzinfo=UTC),
    "whatsappAppSecret": VAULT.encrypt("own app secret"),
    "assistant": {"kind": "openai", "model": "small", "temperature": 0.5, "apiKey": VAULT.encrypt("sk-own")},
    "localId": "theirs",
}


def line(**fields: Any) -> str:
    return orjson.dumps(fields).decode() + "\n"


def new(number: str, **fields: Any) -> str:
    given = {"subDomain": f"b{number}", "name": "New", "wabaId": "102", "whatsappPhoneNumberIds": [number]}
    return line(**{**given, "whatsappAccessToken": {"clear": TOKEN}, **fields})


async def documents(database: Database) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await database.businesses.find({}).sort("subDomain", 1).to_list(None)
    return found


def opened(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with its secrets readable, and without what another database has otherwise."""
    plain = {key: value for key, value in document.items() if key not in ("_id", "createdAt", "localId")}
    for holder in (plain, dict(plain.get("assistant", {}))):
        for key in ("whatsappAccessToken", "whatsappAppSecret", "apiKey"):
            if key in holder:
                holder[key] = VAULT.decrypt(holder[key])
        if holder is not plain:
            plain["assistant"] = holder
    return plain


async def test_what_is_exported_with_its_secrets_comes_back_whole(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    await database.businesses.insert_many([business("101", **FULL), business("102", assistant={"kind": "echo"})])
    before = await documents(database)
    path = tmp_path / "businesses.jsonl"
    result = await command_line("business", "export", "--secrets", "encrypted", "--output", str(path))
    assert result.exit_code == 0, result.stderr
    text = await asyncio.to_thread(path.read_text)
    assert "token-101" not in text
    assert "sk-own" not in text
    await database.businesses.delete_many({})
    result = await command_line("business", "import", str(path))
    assert (result.exit_code, result.stdout) == (0, "2 added, 0 changed, 0 as they were, 0 with faults.\n")
    assert list(map(opened, await documents(database))) == [{"assistant": {}} | opened(one) for one in before]


async def test_the_same_file_again_changes_nothing(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text(new("101", assistant={"kind": "openai", "apiKey": {"clear": "sk-own"}}) + new("102"))
    assert (await command_line("business", "import", str(path))).exit_code == 0
    before = await documents(database)
    result = await command_line("business", "import", str(path))
    assert (result.exit_code, result.stdout) == (0, "0 added, 0 changed, 2 as they were, 0 with faults.\n")
    assert await documents(database) == before
    assert VAULT.decrypt(before[0]["whatsappAccessToken"]) == TOKEN
    assert VAULT.decrypt(before[0]["assistant"]["apiKey"]) == "sk-own"
    assert all(one["whatsappEnabled"] is one["isActive"] is True for one in before)
    assert isinstance(before[0]["_id"], ObjectId)


async def test_export_without_secrets_has_none_and_takes_none_away(
    command_line: CommandLine, database: Database
) -> None:
    await database.businesses.insert_one(business("101", **FULL))
    before = await documents(database)
    result = await command_line("business", "export")
    (exported,) = map(orjson.loads, result.stdout.splitlines())
    assert exported == {
        "subDomain": "b101",
        "name": "Business 101",
        "wabaId": "waba-101",
        "whatsappPhoneNumberIds": ["101"],
        "whatsappEnabled": True,
        "isActive": True,
        "whatsappTokenExpiresAt": "2031-01-31T00:00:00Z",
        "messagesPerSecond": 20,
        "assistant": {"kind": "openai", "model": "small", "temperature": 0.5},
    }
    again = await command_line("business", "import", "-", stdin=result.stdout)
    assert again.stdout == "0 added, 0 changed, 1 as they were, 0 with faults.\n"
    assert await documents(database) == before


async def test_line_changes_what_it_names_and_null_takes_away(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101", **FULL))
    (before,) = await documents(database)
    wanted = line(
        subDomain="b101",
        name="Renamed",
        messagesPerSecond=None,
        whatsappAccessToken={"clear": TOKEN},
        assistant={"model": "large", "temperature": None},
    )
    result = await command_line("business", "import", "-", stdin=wanted)
    assert result.stdout.startswith("b101: name, whatsappAccessToken, assistant.model, messagesPerSecond, assistant.")
    (after,) = await documents(database)
    assert VAULT.decrypt(after.pop("whatsappAccessToken")) == TOKEN
    assert after["assistant"] == {"kind": "openai", "model": "large", "apiKey": before["assistant"]["apiKey"]}
    kept = before.keys() - {"name", "messagesPerSecond", "whatsappAccessToken", "assistant"}
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert (after["name"], "messagesPerSecond" in after) == ("Renamed", False)


async def test_every_fault_is_told_with_its_line_and_the_rest_is_done(
    command_line: CommandLine, database: Database
) -> None:
    await database.businesses.insert_many([business("101"), business("100", whatsappEnabled=False)])
    foreign = Vault("another").encrypt("token")
    lines = [
        new("201"),
        "not json\n",
        "\n",
        "[]\n",
        line(subDomain="Bad Name"),
        line(subDomain="b202", name="x"),
        new("203", whatsappPhoneNumberIds=["101"]),
        new("204", whatsappPhoneNumberIds=["201"]),
        new("205", whatsappAccessToken=foreign),
        new("206", nonsense=1),
        new("207", whatsappEnabled="yes"),
        new("208", assistant={"kind": 7}),
        new("209", messagesPerSecond=0),
        new("201"),
        line(subDomain="b100", whatsappEnabled=True, whatsappPhoneNumberIds=["101"]),
        new("210", assistant={"a.b": 1}),
        new("211", whatsappTokenExpiresAt="soon"),
        new("212", assistant={"big": 2**64 - 1}),
        new("213"),
    ]
    result = await command_line("business", "import", "-", stdin="".join(lines))
    assert result.exit_code == 1
    told = [text for text in result.stderr.splitlines() if text.startswith("Line ")]
    assert [text.split(":")[0] for text in told] == [f"Line {number}" for number in (2, 4, *range(5, 19))]
    for words in (
        "Line 2: not a JSON object: write one business a line",
        "Line 5: subDomain: lower-case",
        "Line 6: wabaId, whatsappPhoneNumberIds: missing",
        "Line 7: whatsappPhoneNumberIds: 101 belongs to 'b101', which is switched on",
        "Line 8: whatsappPhoneNumberIds: 201 belongs to 'b201'",
        "Line 9: whatsappAccessToken: it does not decrypt",
        "Line 10: nonsense: there is no such field",
        "Line 12: assistant.kind is not a text",
        "Line 14: subDomain: 'b201' stood in a line before this one",
        "Line 15: whatsappPhoneNumberIds: 101 belongs to 'b101'",
        "Line 17: whatsappTokenExpiresAt: not a date",
        "Line 18: it holds a number or a text that MongoDB cannot store",
    ):
        assert any(text.startswith(words) for text in told), words
    assert foreign not in result.output
    assert TOKEN not in result.output
    assert [one["subDomain"] for one in await documents(database)] == ["b100", "b101", "b201", "b213"]
    assert result.stdout == "2 added, 0 changed, 0 as they were, 16 with faults.\n"


@pytest.mark.parametrize("option", ["--strict", "--dry-run"])
async def test_nothing_is_written_when_that_is_wished(
    command_line: CommandLine, database: Database, option: str
) -> None:
    result = await command_line("business", "import", "-", option, stdin=new("201") + "broken\n")
    assert result.exit_code == 1
    assert result.stdout == "Nothing was written. It would be: 1 added, 0 changed, 0 as they were, 1 with faults.\n"
    assert await documents(database) == []
    assert (await command_line("business", "import", "-", "--strict", stdin=new("201"))).exit_code == 0
    assert len(await documents(database)) == 1


async def test_number_that_moves_within_a_file_is_free(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    moved = line(subDomain="b101", whatsappPhoneNumberIds=["300"]) + new("102", whatsappPhoneNumberIds=["101"])
    result = await command_line("business", "import", "-", stdin=moved)
    assert result.exit_code == 0, result.stderr
    assert [one["whatsappPhoneNumberIds"] for one in await documents(database)] == [["300"], ["101"]]


async def test_import_tells_programs_what_it_did(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    text = new("201") + line(subDomain="b101", name="Other") + "broken\n"
    result = await command_line("business", "import", "-", "--json", stdin=text)
    outcome = orjson.loads(result.stdout)
    assert tuple(outcome) == KEYS
    assert (outcome["added"], outcome["changed"], outcome["unchanged"]) == (["b201"], ["b101"], [])
    assert [fault["line"] for fault in outcome["faults"]] == [3]


async def test_clear_secrets_are_written_on_an_explicit_word_only_and_for_the_owner(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    await database.businesses.insert_one(business("101"))
    path = tmp_path / "clear.jsonl"
    options = ["business", "export", "--secrets", "clear", "--output", str(path)]
    declined = await command_line(*options, stdin="n\n")
    assert (declined.exit_code, path.exists()) == (1, False)
    assert "can send WhatsApp messages in the name of these businesses" in declined.stderr
    assert (await command_line(*options, "--yes")).exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert orjson.loads(path.read_bytes())["whatsappAccessToken"] == {"clear": "token-101"}
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["clear.jsonl"]
    there = await command_line(*options, "--yes")
    assert (there.exit_code, "--overwrite" in there.stderr) == (2, True)
    await database.businesses.delete_many({})
    assert (await command_line("business", "import", str(path))).exit_code == 0
    (document,) = await documents(database)
    assert VAULT.decrypt(document["whatsappAccessToken"]) == "token-101"


async def test_export_brings_old_secrets_under_the_present_one_and_names_those_that_do_not_open(
    command_line: CommandLine, database: Database
) -> None:
    old = {"whatsappAccessToken": Vault("before").encrypt("token"), "whatsappAppSecret": Vault("x").encrypt("secret")}
    await database.businesses.insert_one(business("101", **old))
    result = await command_line("business", "export", "--secrets", "encrypted", ENCRYPTION_SECRETS_OLD="before")
    assert result.exit_code == 1
    assert "b101: whatsappAppSecret does not decrypt and was left out" in result.stderr
    exported = orjson.loads(result.stdout)
    assert VAULT.decrypt(exported["whatsappAccessToken"]) == "token"
    assert "whatsappAppSecret" not in exported


async def test_some_of_them_can_be_exported(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_many([business("101"), business("102"), business("103")])
    result = await command_line("business", "export", "b103", "b101")
    assert [orjson.loads(text)["subDomain"] for text in result.stdout.splitlines()] == ["b101", "b103"]
    unknown = await command_line("business", "export", "b101", "nobody")
    assert (unknown.exit_code, "'nobody'" in unknown.stderr, unknown.stdout) == (1, True, "")


async def test_documents_of_another_programs_making_do_not_stop_an_export(
    command_line: CommandLine, database: Database
) -> None:
    odd: list[dict[str, Any]] = [
        {"subDomain": 5, "assistant": "echo", "whatsappPhoneNumberIds": "106"},
        {"subDomain": "odd", "assistant": {"theirs": ObjectId(), "kind": "echo"}, "name": float("inf")},
    ]
    await database.businesses.insert_many(odd)
    result = await command_line("business", "export")
    assert result.exit_code == 0
    assert {"subDomain": "odd", "assistant": {"kind": "echo"}} in map(orjson.loads, result.stdout.splitlines())


async def test_files_that_cannot_be_used_are_told(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    missing = await command_line("business", "import", str(tmp_path / "nothing"))
    assert (missing.exit_code, "name a file, or - for stdin" in missing.stderr) == (2, True)
    nowhere = await command_line("business", "export", "--output", str(tmp_path / "no" / "folder.jsonl"))
    assert (nowhere.exit_code, "cannot be written (No such file" in nowhere.stderr) == (1, True)


async def test_what_another_program_wrote_its_own_way_can_be_exported_and_imported_again(
    command_line: CommandLine, database: Database
) -> None:
    """Also two that claim one number, as long as the lines do not touch that."""
    odd = {"subDomain": "The Bakery", "wabaId": "not an id!", "messagesPerSecond": 20.0}
    await database.businesses.insert_many([business("101", **odd), business("102", whatsappPhoneNumberIds=["101"])])
    exported = (await command_line("business", "export")).stdout
    again = await command_line("business", "import", "-", stdin=exported)
    assert (again.exit_code, again.stdout) == (0, "0 added, 0 changed, 2 as they were, 0 with faults.\n"), again.stderr
    renamed = await command_line("business", "import", "-", stdin=line(subDomain="b102", name="Other"))
    assert (renamed.exit_code, renamed.stdout.splitlines()[0]) == (0, "b102: name"), renamed.stderr


async def test_finer_time_than_the_database_keeps_is_no_change(command_line: CommandLine, database: Database) -> None:
    text = new("101", whatsappTokenExpiresAt="2031-01-31T01:02:03.456789+01:00")
    assert (await command_line("business", "import", "-", stdin=text)).exit_code == 0
    again = await command_line("business", "import", "-", stdin=text)
    assert again.stdout == "0 added, 0 changed, 1 as they were, 0 with faults.\n"
