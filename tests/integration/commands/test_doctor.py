"""What doctor finds, and that it changes nothing."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from click.testing import Result

from tests.hub import ENCRYPTION_SECRET, VAULT, StartHub, business
from tests.integration.commands.conftest import GraphServer
from whatsapp_hub.commands.findings import Verdict
from whatsapp_hub.commands.graph_checks import AT_ONCE, check_graph
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox.indexes import ONE_ACTIVE, ensure_inbox_indexes
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.indexes import ensure_indexes
from whatsapp_hub.tenants.vault import Vault

CommandLine = Callable[..., Awaitable[Result]]
Doctor = Callable[..., Awaitable[tuple[int, list[dict[str, str]]]]]

SERVE = {"ASSISTANT": "echo", "WHATSAPP_APP_SECRET": "secret"}


@pytest.fixture
def doctor(command_line: CommandLine, graph: GraphServer) -> Doctor:
    """Ask the doctor; return the exit status and what it found."""

    async def run(*arguments: str, **env: str | None) -> tuple[int, list[dict[str, str]]]:
        given = {**SERVE, "GRAPH_API_BASE_URL": graph.url, **env}
        result = await command_line("doctor", "--json", *arguments, **given)
        return result.exit_code, orjson.loads(result.stdout)

    return run


@pytest.fixture
async def installed(database: Database) -> Database:
    """A database that a hub has run on, with one business."""
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    await ensure_indexes(database)
    await database.nodes.insert_one({"_id": "a", "state": "stopped"})
    await database.businesses.insert_one(business("101"))
    return database


@pytest.fixture
def few_files() -> Iterator[None]:
    """As a login shell often has it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def to_mend(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    assert all(
        finding["remedy"] for finding in findings if finding["verdict"] != "ok" and finding["check"] != "settings"
    )
    return [(finding["check"], finding["words"]) for finding in findings if finding["verdict"] == "mend"]


def words_of(findings: list[dict[str, str]], check: str) -> list[str]:
    return [finding["words"] for finding in findings if finding["check"] == check]


def waiting(number: str, wamid: str, **changes: Any) -> dict[str, Any]:
    return {
        "_id": f"{number}:{wamid}",
        "conversation": f"{number}:{wamid}",
        "state": "active",
        "stage": "new",
        "owner": "",
        "epoch": 1,
        "attempts": 0,
        "place": int(time.time()),
        "arrival": time.time_ns(),
        "item": b"{}",
        **changes,
    }


async def test_all_good_exits_0(doctor: Doctor, command_line: CommandLine, installed: Database) -> None:
    status, findings = await doctor()
    assert (status, to_mend(findings)) == (0, [])
    assert words_of(findings, "businesses") == ["1 in the database, 1 switched on"]
    assert words_of(findings, "durable writes") == ["confirmed on a majority and on disk"]
    assert words_of(findings, "replica set")[0].endswith(", 1 member")
    assert words_of(findings, "Graph API") == ["answers, and takes the tokens of 1 of 1 businesses"]
    people = await command_line("doctor", "--offline", **SERVE)
    assert people.exit_code == 0
    assert people.stdout.endswith("All good.\n")


async def test_fresh_database_is_no_fault(doctor: Doctor, database: Database) -> None:
    status, findings = await doctor()
    assert (status, to_mend(findings)) == (0, [])
    assert any(ONE_ACTIVE in words for words in words_of(findings, "indexes"))
    assert words_of(findings, "businesses") == ["none yet"]


async def test_doctor_changes_nothing(doctor: Doctor, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    before = await database.businesses.find({}).to_list(None)
    await doctor()
    assert await database.inbox.database.list_collection_names() == ["businesses"]
    assert await database.businesses.find({}).to_list(None) == before
    assert list(await database.businesses.index_information()) == ["_id_"]


async def test_settings_without_which_serve_would_not_start_exit_2(doctor: Doctor, installed: Database) -> None:
    """The rest is looked at all the same, as far as it can be."""
    status, findings = await doctor(ASSISTANT=None, WHATSAPP_APP_SECRET=None)
    assert status == 2
    assert [words.split(":")[0] for words in words_of(findings, "settings")] == ["ASSISTANT", "WHATSAPP_APP_SECRET"]
    assert words_of(findings, "database")
    status, findings = await doctor(PORT="high", MONGODB_URI=None)
    assert status == 2
    assert {words.split(":")[0] for words in words_of(findings, "settings")} == {"PORT", "MONGODB_URI"}
    assert not words_of(findings, "database")


async def test_database_that_is_down(doctor: Doctor, mongodb_uri: str) -> None:
    status, findings = await doctor(MONGODB_URI="mongodb://user:hunter2@127.0.0.1:1/")
    assert status == 1
    ((check, words),) = to_mend(findings)
    assert check == "database"
    assert "No database could be reached" in words
    assert "hunter2" not in str(findings)


async def test_missing_and_foreign_indexes_are_named(doctor: Doctor, installed: Database) -> None:
    await installed.inbox.drop_index(ONE_ACTIVE)
    await installed.inbox.create_index("conversation", name=ONE_ACTIVE)
    await installed.events.drop_index("expires")
    await installed.businesses.drop_index("webhook_lookup_idx")
    await installed.businesses.drop_index("subdomain_lookup_idx")
    await installed.businesses.create_index([("subDomain", 1), ("isActive", 1)], name="of_the_dashboard")
    status, findings = await doctor()
    assert status == 1
    assert to_mend(findings) == [
        ("indexes", f"inbox: {ONE_ACTIVE} is not as the hub makes it (drop it)"),
        ("indexes", "events: expires is missing"),
        ("indexes", "businesses: webhook_lookup_idx is missing"),
    ]


async def test_tokens_that_cannot_be_used(doctor: Doctor, installed: Database) -> None:
    foreign = Vault("another").encrypt("token")
    soon, past = datetime.now(UTC) + timedelta(days=3), datetime.now(UTC) - timedelta(days=3)
    await installed.businesses.insert_many(
        [
            business("201", whatsappAccessToken=foreign),
            business("202", whatsappAccessToken=None),
            business("203", whatsappTokenExpiresAt=soon),
            business("204", whatsappTokenExpiresAt=past),
            business("205", whatsappTokenExpiresAt=datetime.now(UTC) + timedelta(days=30)),
            business("206", whatsappAccessToken=foreign, whatsappTokenExpiresAt=past, whatsappEnabled=False),
            business("207", whatsappAppSecret=foreign),
            business("208", assistant={"kind": "http"}),
        ]
    )
    status, findings = await doctor()
    assert status == 1
    found = to_mend(findings)
    assert [words.split(":")[0].split()[0] for _, words in found] == ["b207", "b201", "b202", "b203", "b204", "b208"]
    assert f"b203: its access token expires on {soon:%Y-%m-%d}" in [words for _, words in found]
    assert f"b204: its access token expired on {past:%Y-%m-%d}" in [words for _, words in found]
    assert foreign not in str(findings)


async def test_contested_number_is_named_with_its_claimants(doctor: Doctor, installed: Database) -> None:
    await installed.businesses.insert_one(business("102", whatsappPhoneNumberIds=["101"]))
    status, findings = await doctor()
    assert status == 1
    ((_, words),) = to_mend(findings)
    assert "101" in words
    assert "b101" in words
    assert "b102" in words


async def test_messages_that_no_business_has_are_counted(doctor: Doctor, installed: Database) -> None:
    await installed.inbox.insert_many([waiting("999", "a"), waiting("999", "b"), waiting("101", "c")])
    status, findings = await doctor()
    assert status == 1
    assert to_mend(findings) == [
        ("waiting messages", "phone number id 999, 2 messages: no business has this phone number")
    ]


async def test_messages_held_by_a_running_server_are_told_with_the_reason(
    doctor: Doctor, installed: Database, start_hub: StartHub
) -> None:
    hub = await start_hub()
    hub.graph.control.faults.arm(Fault(code=190, status=401, times=None))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="held")
    status, findings = await doctor()
    assert status == 1
    ((check, words),) = to_mend(findings)
    assert check == "waiting messages"
    assert words.startswith("b101, number 101, 1 message held: ")
    assert "190" in words


async def test_dead_letters_are_a_note(doctor: Doctor, installed: Database) -> None:
    await installed.inbox.insert_one(waiting("101", "a", state="dead", dead_at=datetime.now(UTC)))
    await installed.inbox.update_one({}, {"$unset": {"owner": ""}})
    status, findings = await doctor()
    assert (status, words_of(findings, "dead letters")) == (0, ["1"])


async def test_operators_own_assistant_that_cannot_be_loaded(doctor: Doctor, installed: Database) -> None:
    status, findings = await doctor(ASSISTANT="mine", ASSISTANTS="mine=nowhere.to_be_found:make")
    assert status == 1
    ((check, words),) = to_mend(findings)
    assert check == "assistants"
    assert "nowhere" in words


async def test_few_open_files_are_a_note(doctor: Doctor, installed: Database, few_files: None) -> None:
    status, findings = await doctor()
    assert status == 0
    assert words_of(findings, "open files")[0].startswith("only 1024 here")


async def test_clock_of_another_day_is_told(
    doctor: Doctor, installed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr("whatsapp_hub.commands.doctor_database.time.time", lambda: real() - 3600)
    status, findings = await doctor()
    assert status == 1
    assert to_mend(findings) == [("clock", "the database's clock is 3600 s ahead of this machine's")]


async def test_write_that_is_not_confirmed_is_told(doctor: Doctor, installed: Database) -> None:
    admin = installed.client.admin
    failure = {"failCommands": ["update"], "writeConcernError": {"code": 64, "errmsg": "waiting for replication"}}
    await admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=failure)
    try:
        status, findings = await doctor()
    finally:
        await admin.command("configureFailPoint", "failCommand", mode="off")
    assert status == 1
    assert [check for check, _ in to_mend(findings)] == ["durable writes"]


async def test_documents_of_another_program_among_ours_are_told(doctor: Doctor, database: Database) -> None:
    await database.conversations.insert_one({"title": "of the dashboard"})
    status, findings = await doctor()
    assert status == 1
    ((check, words),) = to_mend(findings)
    assert (check, "conversations" in words) == ("collections", True)


# What Graph says


async def test_token_that_graph_refuses_is_told_with_the_business(
    doctor: Doctor, installed: Database, graph: GraphServer
) -> None:
    await installed.businesses.insert_many(
        [business("201"), business("202"), business("203", whatsappEnabled=False), business("204")]
    )
    graph.stand_in.control.tokens = {"101": "token-101", "201": "another", "202": "token-202"}
    status, findings = await doctor()
    assert status == 1
    assert to_mend(findings) == [
        (
            "token",
            "b201: Graph refuses its access token for the number 201: 190 the access token expired or is invalid",
        ),
        (
            "token",
            "b204: Graph refuses its access token for the number 204: 33 the phone number id is deleted or wrong",
        ),
    ]
    assert "set-token b201" in next(f["remedy"] for f in findings if f["check"] == "token")
    assert words_of(findings, "Graph API") == ["answers, and takes the tokens of 2 of 4 businesses"]
    assert "another" not in str(findings)


async def test_graph_that_cannot_be_reached_is_told_and_left_alone_when_offline(
    doctor: Doctor, installed: Database
) -> None:
    status, findings = await doctor(GRAPH_API_BASE_URL="http://127.0.0.1:1")
    assert (status, to_mend(findings)) == (1, [("Graph API", "cannot be reached: ClientConnectorError")])
    status, findings = await doctor("--offline", GRAPH_API_BASE_URL="http://127.0.0.1:1")
    assert (status, words_of(findings, "Graph API")) == (0, [])


async def test_fallback_business_is_asked_about_too(doctor: Doctor, database: Database, graph: GraphServer) -> None:
    graph.stand_in.control.tokens = {"700": "right"}
    status, findings = await doctor(WHATSAPP_PHONE_NUMBER_ID="700", WHATSAPP_TOKEN="wrong")
    assert status == 1
    ((_, words),) = to_mend(findings)
    assert words.startswith("fallback: Graph refuses its access token")


async def test_many_businesses_are_asked_about_some_at_a_time_and_within_a_bound(
    database: Database, graph: GraphServer
) -> None:
    await database.businesses.insert_many([business(str(number)) for number in range(200, 260)])
    graph.stand_in.number_delay_s = 0.1
    settings = Settings.isolated(encryption_secret=ENCRYPTION_SECRET, graph_api_base_url=graph.url)
    began = time.monotonic()
    found, *others = await check_graph(database, settings)
    assert [finding.verdict for finding in others] == [Verdict.OK] * 2
    assert found.words == "answers, and takes the tokens of 60 of 60 businesses"
    assert 0.3 <= time.monotonic() - began < 3.0
    assert graph.stand_in.most_numbers_at_once == AT_ONCE
    first, clock, *late = await check_graph(database, settings, most_s=0.15)
    assert first.words == "answers, and takes the tokens of 20 of 60 businesses"
    assert (clock.check, clock.verdict) == ("clock", Verdict.OK)
    assert [finding.verdict for finding in late] == [Verdict.NOTE] * 41
    assert "not every account's webhooks" in late[-1].words


@pytest.mark.parametrize(("left", "verdict"), [(7, "mend"), (7.01, None), (0.01, "mend"), (-0.01, "mend")])
async def test_token_warns_from_seven_days_before_it_expires(
    doctor: Doctor, installed: Database, left: float, verdict: str | None
) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=left)
    await installed.businesses.update_one({}, {"$set": {"whatsappTokenExpiresAt": expires_at}})
    _, findings = await doctor("--offline")
    assert [finding["verdict"] for finding in findings if finding["check"] == "token"] == ([verdict] if verdict else [])


# business check


async def test_business_check_asks_about_every_number(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    token = VAULT.encrypt("right")
    await database.businesses.insert_one(
        business("101", whatsappPhoneNumberIds=["101", "102", "103"], whatsappAccessToken=token)
    )
    graph.stand_in.control.tokens = {"101": "right", "102": "right", "103": "wrong"}
    result = await command_line("business", "check", "b101", GRAPH_API_BASE_URL=graph.url)
    assert result.exit_code == 1
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "ok token number 101: Graph takes the access token, quality GREEN",
        "ok token number 102: Graph takes the access token, quality GREEN",
        "mend token number 103: Graph refuses the access token: 190 the access token expired or is invalid",
        "-> make a new one at Meta, then `whatsapp-hub business set-token b101`",
        "ok webhooks its account's webhooks go to its app, and the app is subscribed to the messages",
        "",
        "1 to mend.",
    ]
    graph.stand_in.control.tokens = None
    result = await command_line("business", "check", "b101", "--json", GRAPH_API_BASE_URL=graph.url)
    assert (result.exit_code, len(orjson.loads(result.stdout))) == (0, 4)


async def test_business_check_says_what_the_document_tells(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    await database.businesses.insert_many(
        [business("101", whatsappTokenExpiresAt=past), business("102", whatsappAccessToken=None)]
    )
    result = await command_line("business", "check", "b101", GRAPH_API_BASE_URL=graph.url)
    assert result.exit_code == 1
    assert f"its access token expired on {past:%Y-%m-%d}" in result.stdout
    result = await command_line("business", "check", "b102", GRAPH_API_BASE_URL=graph.url)
    assert (result.exit_code, "whatsappAccessToken is missing" in result.stdout) == (1, True)
    result = await command_line("business", "check", "nobody", GRAPH_API_BASE_URL=graph.url)
    assert (result.exit_code, "no business has the subdomain" in result.stderr) == (1, True)


async def test_business_check_of_a_graph_that_is_not_there(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    result = await command_line("business", "check", "b101", GRAPH_API_BASE_URL="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "Graph does not say: no answer: ClientConnectorError" in result.stdout
