"""Dead letters from the command line: found, looked at, retried, put away."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from click.testing import Result

from tests.hub import Hub, business
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes

CommandLine = Callable[..., Awaitable[Result]]

YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


def letter(number: str, wamid: str, died_at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "_id": f"{number}:{wamid}",
        "conversation": f"{number}:491700000001",
        "state": "dead",
        "stage": "new",
        "epoch": 1,
        "attempts": 3,
        "place": int(time.time()),
        "arrival": time.time_ns(),
        "item": b'{"type":"text","text":{"body":"nobody shall read this"}}',
        "profile_name": "Somebody",
        "reason": "131026 undeliverable",
        "dead_at": died_at,
        **changes,
    }


@pytest.fixture
async def letters(database: Database) -> list[str]:
    """Three dead letters of two businesses, the newest first."""
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    await database.businesses.insert_many([business("101"), business("102")])
    documents = [
        letter("101", "wamid.A", YESTERDAY),
        letter("102", "wamid.B", YESTERDAY - timedelta(hours=1)),
        letter("101", "wamid.C", YESTERDAY - timedelta(hours=2)),
    ]
    await database.inbox.insert_many(documents)
    return [document["_id"] for document in documents]


async def states(database: Database) -> dict[str, str]:
    return {row["_id"]: row["state"] async for row in database.inbox.find({})}


async def test_dead_letter_is_listed_shown_retried_and_answered(command_line: CommandLine, hub: Hub) -> None:
    hub.graph.control.faults.arm(Fault(code=131026, times=1))
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="dead")
    (listed,) = orjson.loads((await command_line("dead", "list", "--json")).stdout)
    assert (listed["id"], listed["business"]) == ("101:wamid.1", "b101")
    assert "131026" in listed["reason"]
    shown = await command_line("dead", "show", listed["id"])
    for step in ("received", "stored, and confirmed to Meta", "assistant answered", "reply: sending began"):
        assert step in shown.stdout
    assert "131026" in shown.stdout
    retried = await command_line("dead", "retry", listed["id"])
    assert (retried.exit_code, retried.stdout) == (0, "1 retried.\n")
    (send,) = await hub.graph.log.wait_for(1)
    assert send.text == "hello"
    await hub.at_rest()
    assert (await command_line("dead", "list")).stdout == "No dead letters.\n"


async def test_list_is_newest_first_and_can_be_cut(command_line: CommandLine, letters: list[str]) -> None:
    result = await command_line("dead", "list")
    assert [line for line in result.stdout.splitlines() if not line.startswith(" ")] == letters
    assert f"b101 · {YESTERDAY:%Y-%m-%d %H:%M:%S}Z · 3 attempts · 131026 undeliverable" in result.stdout
    first = await command_line("dead", "list", "--limit", "1", "--json")
    assert [entry["id"] for entry in orjson.loads(first.stdout)] == letters[:1]
    one_business = await command_line("dead", "list", "--business", "b102", "--json")
    assert [entry["id"] for entry in orjson.loads(one_business.stdout)] == [letters[1]]


async def test_nothing_shows_what_was_written_or_by_whom(command_line: CommandLine, letters: list[str]) -> None:
    for arguments in (["list"], ["list", "--json"], ["show", letters[0]], ["show", letters[0], "--json"]):
        result = await command_line("dead", *arguments)
        assert result.exit_code == 0
        for personal in ("nobody shall read", "491700000001", "Somebody"):
            assert personal not in result.output


async def test_show_as_json_has_a_timeline(command_line: CommandLine, letters: list[str]) -> None:
    shown = orjson.loads((await command_line("dead", "show", letters[0], "--json")).stdout)
    assert shown["id"] == letters[0]
    told = {step["what"]: step["at"] for step in shown["timeline"]}
    assert told["asked for an answer 3 times"] is None
    assert told["given up: 131026 undeliverable"] == f"{YESTERDAY:%Y-%m-%dT%H:%M:%S}Z"


async def test_several_are_discarded_by_their_ids(
    command_line: CommandLine, database: Database, letters: list[str]
) -> None:
    result = await command_line("dead", "discard", letters[0], letters[2])
    assert (result.exit_code, result.stdout) == (0, "2 discarded.\n")
    assert await states(database) == {letters[0]: "done", letters[1]: "dead", letters[2]: "done"}


@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_unknown_id_fails_and_the_others_are_done(
    command_line: CommandLine, database: Database, letters: list[str], verb: str
) -> None:
    result = await command_line("dead", verb, "101:nothing", letters[1])
    assert result.exit_code == 1
    assert "no dead letter 101:nothing" in result.stderr
    assert result.stdout.startswith("1 ")
    assert (await states(database))[letters[1]] != "dead"


async def test_unknown_id_cannot_be_shown(command_line: CommandLine, letters: list[str]) -> None:
    result = await command_line("dead", "show", "101:nothing")
    assert result.exit_code == 1
    assert "no dead letter 101:nothing" in result.stderr


async def test_all_asks_first(command_line: CommandLine, database: Database, letters: list[str]) -> None:
    declined = await command_line("dead", "retry", "--all", stdin="n\n")
    assert declined.exit_code == 1
    assert "Retry 3 dead letters?" in declined.stderr
    assert set((await states(database)).values()) == {"dead"}
    agreed = await command_line("dead", "retry", "--all", stdin="y\n")
    assert (agreed.exit_code, agreed.stdout) == (0, "3 retried.\n")
    assert set((await states(database)).values()) == {"queued"}


async def test_all_of_one_business(command_line: CommandLine, database: Database, letters: list[str]) -> None:
    result = await command_line("dead", "discard", "--all", "--business", "b101", "--yes")
    assert (result.exit_code, result.stdout) == (0, "2 discarded.\n")
    assert await states(database) == {letters[0]: "done", letters[1]: "dead", letters[2]: "done"}
    assert (await command_line("dead", "discard", "--all", "--business", "b101")).stdout == "0 discarded.\n"


@pytest.mark.parametrize(
    "arguments", [[], ["101:a", "--all"], ["101:a", "--business", "b101"], ["--business", "b101"]], ids=str
)
async def test_retry_needs_either_ids_or_all(command_line: CommandLine, arguments: list[str]) -> None:
    result = await command_line("dead", "retry", *arguments)
    assert result.exit_code == 2
    assert "--all" in result.stderr


async def test_unknown_business_is_told(command_line: CommandLine) -> None:
    result = await command_line("dead", "list", "--business", "nobody")
    assert result.exit_code == 1
    assert "'nobody'" in result.stderr
