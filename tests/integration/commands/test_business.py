"""Tenants from the command line: what is written, what is shown, what is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from click.testing import Result

from tests.hub import VAULT, StartHub, business
from whatsapp_hub.commands.last_messages import find_last_messages
from whatsapp_hub.commands.tenants import BUSINESS_KEYS
from whatsapp_hub.database import Database
from whatsapp_hub.tenants.vault import Vault

CommandLine = Callable[..., Awaitable[Result]]

TOKEN = "EAAGnotATokenOfAnybody123"
ADD = ["business", "add", "--name", "The Bakery", "--sub-domain", "bakery", "--waba-id", "102", "--token-stdin"]


async def only_document(database: Database) -> dict[str, Any]:
    (document,) = await database.businesses.find({}).to_list(None)
    return document


async def test_added_business_has_the_shape_that_the_other_program_writes(
    command_line: CommandLine, database: Database
) -> None:
    result = await command_line(*ADD, "--phone-number-id", "106", "--phone-number-id", "107", stdin=f"{TOKEN}\n")
    assert result.exit_code == 0, result.stderr
    document = await only_document(database)
    token, created_at, identity = (document.pop(key) for key in ("whatsappAccessToken", "createdAt", "_id"))
    assert document == {
        "name": "The Bakery",
        "subDomain": "bakery",
        "wabaId": "102",
        "whatsappPhoneNumberIds": ["106", "107"],
        "whatsappEnabled": True,
        "isActive": True,
    }
    assert isinstance(identity, ObjectId)
    assert abs((datetime.now(UTC) - created_at).total_seconds()) < 30
    assert bytes.fromhex(token).startswith(b"gAAAA")
    assert VAULT.decrypt(token) == TOKEN


async def test_added_business_may_bring_everything_of_its_own(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-own\n")
    (tmp_path / "instructions").write_text("Sell bread.\nBe kind.\n")
    result = await command_line(
        *ADD,
        *("--phone-number-id", "106", "--app-secret-stdin", "--verify-token-stdin", "--api-key-file"),
        *(
            str(tmp_path / "key"),
            "--assistant",
            "openai",
            "--model",
            "small",
            "--base-url",
            "https://models.example/v1",
        ),
        *("--instructions-file", str(tmp_path / "instructions"), "--temperature", "0.5", "--fallback-text", "Later."),
        *("--expires", "2031-01-31", "--disabled"),
        stdin=f"{TOKEN}\nthe app's secret\nverify me\n",
    )
    assert result.exit_code == 0, result.stderr
    document = await only_document(database)
    secrets = ("whatsappAccessToken", "whatsappAppSecret", "whatsappVerifyToken")
    assert [VAULT.decrypt(document[field]) for field in secrets] == [TOKEN, "the app's secret", "verify me"]
    assert VAULT.decrypt(document["assistant"].pop("apiKey")) == "sk-own"
    assert document["assistant"] == {
        "kind": "openai",
        "model": "small",
        "baseUrl": "https://models.example/v1",
        "instructions": "Sell bread.\nBe kind.",
        "fallbackText": "Later.",
        "temperature": 0.5,
    }
    assert document["whatsappTokenExpiresAt"] == datetime(2031, 1, 31, tzinfo=UTC)
    assert (document["whatsappEnabled"], document["isActive"]) == (False, True)
    assert "/whatsapp_response/bakery" in result.stdout


async def test_business_with_an_endpoint_of_its_own(
    command_line: CommandLine, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    result = await command_line(
        *ADD,
        *("--phone-number-id", "106", "--assistant", "http", "--endpoint-url", "https://shop.example/turns"),
        *("--endpoint-secret-file", str(tmp_path / "secret")),
        stdin=f"{TOKEN}\n",
    )
    assert result.exit_code == 0, result.stderr
    assistant = (await only_document(database))["assistant"]
    assert VAULT.decrypt(assistant.pop("secret")) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert assistant == {"kind": "http", "endpointUrl": "https://shop.example/turns"}


async def test_every_fault_of_a_new_business_is_told_at_once(command_line: CommandLine, database: Database) -> None:
    result = await command_line(
        *("business", "add", "--sub-domain", "Bad Name", "--phone-number-id", "+49151", "--assistant", "http"),
        *("--expires", "soon", "--temperature", "9", "--base-url", "http://x", "--api-key-file", "nothing-here"),
    )
    assert result.exit_code == 2
    for fault in (
        "--name is missing",
        "--sub-domain: lower-case",
        "--waba-id is missing",
        "not the phone number",
        "its access token is missing",
        "--endpoint-url: needed with the assistant http",
        "--expires: not a date",
        "--temperature",
        "--base-url",
        "nothing-here cannot be read",
    ):
        assert fault in result.stderr
    assert await database.businesses.count_documents({}) == 0


async def test_subdomain_that_is_taken_is_refused(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101", subDomain="bakery"))
    result = await command_line(*ADD, "--phone-number-id", "106", stdin=TOKEN)
    assert result.exit_code == 1
    assert "'bakery' is taken" in result.stderr
    assert await database.businesses.count_documents({}) == 1


async def test_subdomain_that_is_taken_meanwhile_is_refused_by_the_unique_index(
    command_line: CommandLine, database: Database
) -> None:
    """The index of the dashboard decides, here on another field to get past the first look."""
    await database.businesses.create_index("wabaId", unique=True)
    await database.businesses.insert_one(business("101", wabaId="102"))
    result = await command_line(*ADD, "--phone-number-id", "106", stdin=TOKEN)
    assert result.exit_code == 1
    assert "taken" in result.stderr


async def test_number_of_another_switched_on_business_is_refused(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    result = await command_line(*ADD, "--phone-number-id", "100,101", stdin=TOKEN)
    assert result.exit_code == 1
    assert "phone number id 101 belongs to 'b101'" in result.stderr
    assert await database.businesses.count_documents({}) == 1


async def test_number_of_a_switched_off_business_is_free(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101", whatsappEnabled=False))
    assert (await command_line(*ADD, "--phone-number-id", "101", stdin=TOKEN)).exit_code == 0
    again = await command_line("business", "enable", "b101")
    assert again.exit_code == 1
    assert "belongs to 'bakery'" in again.stderr


async def test_business_added_by_hand_is_answered(command_line: CommandLine, start_hub: StartHub) -> None:
    hub = await start_hub()
    hub.graph.control.tokens = {"106": TOKEN}
    assert (await command_line(*ADD, "--phone-number-id", "106", stdin=TOKEN)).exit_code == 0
    await hub.say("106", "hello", "wamid.1")
    (send,) = await hub.graph.log.wait_for(1)
    assert (send.phone_number_id, send.text) == ("106", "hello")


async def test_list_show_disable_enable(command_line: CommandLine, database: Database) -> None:
    await command_line(*ADD, "--phone-number-id", "106", "--expires", "2031-01-31", stdin=TOKEN)
    table = await command_line("business", "list")
    row = " ".join(table.stdout.splitlines()[1].split())
    assert row == "bakery The Bakery 106 on until 2031-01-31 - as ASSISTANT"
    assert (await command_line("business", "disable", "bakery")).exit_code == 0
    before = await only_document(database)
    assert (before["whatsappEnabled"], before["isActive"]) == (False, True)
    (listed,) = orjson.loads((await command_line("business", "list", "--json")).stdout)
    assert (listed["business"], listed["served"], listed["access_token"]) == ("bakery", False, "set")
    assert (await command_line("business", "enable", "bakery")).exit_code == 0
    assert await only_document(database) == before | {"whatsappEnabled": True}
    shown = orjson.loads((await command_line("business", "show", "bakery", "--json")).stdout)
    assert shown == listed | {"served": True, "whatsapp_enabled": True, "state": "on"}


async def test_switches_are_all_that_enable_writes(command_line: CommandLine, database: Database) -> None:
    odd = {"theirs": {"deep": [1, 2.5, Int64(3)]}, "isActive": False, "whatsappEnabled": "yes"}
    await database.businesses.insert_one(business("101", **odd))
    before = await only_document(database)
    refused = await command_line("business", "enable", "b101")
    assert refused.exit_code == 1
    assert "--active" in refused.stderr
    assert await only_document(database) == before
    assert (await command_line("business", "enable", "b101", "--active")).exit_code == 0
    assert await only_document(database) == before | {"whatsappEnabled": True, "isActive": True}


async def test_show_says_of_secrets_only_whether_they_are_there_and_can_be_read(
    command_line: CommandLine, database: Database
) -> None:
    assistant = {"kind": "openai", "apiKey": Vault("another").encrypt("sk-secret"), "instructions": "Sell bread."}
    secret = VAULT.encrypt("the app's own secret")
    await database.businesses.insert_one(business("101", assistant=assistant, whatsappAppSecret=secret))
    result = await command_line("business", "show", "b101")
    assert result.exit_code == 0
    lines = {line.strip() for line in result.stdout.splitlines()}
    assert "access token      set" in lines
    assert "app secret        set" in lines
    assert "verify token      not set" in lines
    assert "api key       unreadable" in lines
    assert "assistant.apiKey does not decrypt" in result.stdout
    for text in (secret, assistant["apiKey"], "token-101", "the app's own secret", "sk-secret"):
        assert text not in result.output


async def test_set_token_replaces_the_token_and_nothing_else(command_line: CommandLine, database: Database) -> None:
    expires_at = datetime(2026, 1, 1, tzinfo=UTC)
    await database.businesses.insert_one(business("101", whatsappTokenExpiresAt=expires_at))
    before = await only_document(database)
    result = await command_line("business", "set-token", "b101", "--token-stdin", stdin=f"{TOKEN}\n")
    assert result.exit_code == 0
    assert "2026-01-01" in result.stderr
    after = await only_document(database)
    assert VAULT.decrypt(after["whatsappAccessToken"]) == TOKEN
    assert after | {"whatsappAccessToken": ""} == before | {"whatsappAccessToken": ""}


async def test_set_token_sets_or_removes_the_expiry_when_asked(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    await command_line("business", "set-token", "b101", "--expires", "2031-01-31", stdin=TOKEN)
    assert (await only_document(database))["whatsappTokenExpiresAt"] == datetime(2031, 1, 31, tzinfo=UTC)
    await command_line("business", "set-token", "b101", "--expires", "never", stdin=TOKEN)
    assert "whatsappTokenExpiresAt" not in await only_document(database)


@pytest.mark.parametrize("command", ["show", "enable", "disable", "set-token"])
async def test_unknown_business_is_told(command_line: CommandLine, command: str) -> None:
    result = await command_line("business", command, "nobody", stdin=TOKEN)
    assert result.exit_code == 1
    assert "'nobody'" in result.stderr
    assert "business list" in result.stderr


async def test_subdomain_that_several_have_is_not_guessed_at(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_many([business("101"), business("102", subDomain="b101")])
    result = await command_line("business", "disable", "b101")
    assert result.exit_code == 1
    assert "several businesses" in result.stderr
    assert await database.businesses.count_documents({"whatsappEnabled": True}) == 2


async def test_documents_of_another_programs_making_can_be_listed(
    command_line: CommandLine, database: Database
) -> None:
    odd: list[dict[str, Any]] = [
        {"_id": 1},
        {"subDomain": 5, "name": ["x"], "whatsappPhoneNumberIds": "106", "assistant": "echo"},
        {"subDomain": "far", "whatsappAccessToken": 7, "whatsappTokenExpiresAt": "soon", "createdAt": 3},
        {"subDomain": "steer\x1b[2J", "name": "a\nb"},
    ]
    await database.businesses.insert_many(odd)
    await database.businesses.insert_one({"subDomain": "never", "createdAt": DatetimeMS(8_640_000_000_000_000)})
    result = await command_line("business", "list")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 6
    assert len(orjson.loads((await command_line("business", "list", "--json")).stdout)) == 5


async def test_list_without_businesses_says_what_to_do(command_line: CommandLine) -> None:
    assert "business add" in (await command_line("business", "list")).stdout
    assert (await command_line("business", "list", "--json")).stdout == "[]\n"


async def test_token_is_never_printed_nor_logged(
    command_line: CommandLine, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with caplog.at_level(logging.DEBUG):
        results = [
            await command_line(*ADD, "--phone-number-id", "106", stdin=TOKEN),
            await command_line("business", "set-token", "bakery", "--token-file", str(tmp_path / "token")),
            await command_line("business", "list", "--json"),
            await command_line("business", "show", "bakery"),
            await command_line("business", "set-token", "nobody", stdin=TOKEN),
            await command_line("business", "set-token", "bakery", stdin=f"{TOKEN} {TOKEN}"),
        ]
    assert [result.exit_code for result in results] == [0, 0, 0, 0, 1, 2]
    ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("pymongo"))
    assert not any(TOKEN in result.output for result in results)
    assert TOKEN not in caplog.text + ours


async def test_list_tells_the_state_the_expiry_and_the_last_message(
    command_line: CommandLine, database: Database, start_hub: StartHub
) -> None:
    now = datetime.now(UTC)
    await database.businesses.insert_many(
        [
            business("101", whatsappTokenExpiresAt=now + timedelta(days=3, minutes=1)),
            business("102", whatsappTokenExpiresAt=now - timedelta(hours=2, minutes=1)),
            business("103", isActive=False),
            business("104", whatsappAccessToken=Vault("another").encrypt("token")),
        ]
    )
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    table = await command_line("business", "list")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.stdout.splitlines()[1:]]
    assert rows == [
        ["b101", "Business 101", "101", "on", "expires in 3 days", "under a minute ago", "as ASSISTANT"],
        ["b102", "Business 102", "102", "on", "expired 2 hours ago", "-", "as ASSISTANT"],
        ["b103", "Business 103", "103", "off, not active", "set", "-", "as ASSISTANT"],
        ["b104", "Business 104", "104", "on, with faults", "unreadable", "-", "as ASSISTANT"],
    ]
    listed = orjson.loads((await command_line("business", "list", "--json")).stdout)
    assert all(sorted(entry) == sorted(BUSINESS_KEYS) for entry in listed)
    at = datetime.fromisoformat(listed[0]["last_message_at"])
    assert abs((at - now).total_seconds()) < 60
    assert [entry["last_message_at"] for entry in listed[1:]] == [None] * 3


async def test_last_message_is_the_last_of_any_of_its_numbers_in_whatever_state(database: Database) -> None:
    def row(number: str, wamid: str, at: int, **state: Any) -> dict[str, Any]:
        return {"_id": f"{number}:{wamid}", "conversation": wamid, "arrival": at * 10**9, **state}

    moment = datetime.fromtimestamp(1_700_000_500, UTC)
    await database.inbox.insert_many(
        [
            row("101", "a", 1_700_000_000, state="done", done_at=moment),
            row("101", "b", 1_700_000_100, state="queued", owner="x", place=1),
            row("102", "c", 1_700_000_200, state="dead", dead_at=moment),
            row("103", "d", 1_700_000_300, state="done", done_at=moment),
        ]
    )
    found = await find_last_messages(database, ["101", "102", "104"])
    assert found == {
        "101": datetime.fromtimestamp(1_700_000_100, UTC),
        "102": datetime.fromtimestamp(1_700_000_200, UTC),
    }
