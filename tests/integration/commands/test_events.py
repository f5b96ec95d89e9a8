"""What Meta told beside messages, on the command line and by the doctor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from click.testing import Result

from tests.hub import business
from whatsapp_hub.cloud_api.payload import read_webhook
from whatsapp_hub.database import Database

CommandLine = Callable[..., Awaitable[Result]]
SAMPLES = Path(__file__).parents[2] / "samples"
NUMBER = "106540352242922"
NOW = datetime.now(UTC).replace(microsecond=0)
TOLD = (
    "template_status",
    "template_quality",
    "account_restricted",
    "account_alerts",
    "echo",
    "echo_revoke",
    "user_preferences",
)


async def store(database: Database, *samples: str, at: datetime = NOW) -> None:
    for sample in samples:
        for other in read_webhook((SAMPLES / f"{sample}.json").read_bytes(), now=1, new_id=None).others:
            document = {name: getattr(other, name) for name in ("field", "phone_number_id", "account_id", "item")}
            await database.events.insert_one({"_id": f"{other.key}{at}", "at": at, **document})


@pytest.fixture
async def told(database: Database) -> Database:
    """Two businesses, and what Meta told of one of them."""
    await database.businesses.insert_many(
        [business(NUMBER, wabaId="102290129340398", subDomain="bakery"), business("7")]
    )
    await store(database, *TOLD)
    return database


async def test_events_are_counted_by_kind_and_trouble_is_told(told: Database, command_line: CommandLine) -> None:
    result = await command_line("events", "bakery", "--json")
    assert result.exit_code == 0
    shown = orjson.loads(result.stdout)
    moment = NOW.isoformat().replace("+00:00", "Z")
    assert {(kind["kind"], kind["count"], kind["last_at"]) for kind in shown["kinds"]} == {
        ("account_alerts", 1, moment),
        ("account_update", 1, moment),
        ("message_template_quality_update", 1, moment),
        ("message_template_status_update", 1, moment),
        ("smb_message_echoes", 2, moment),
        ("user_preferences", 1, moment),
    }
    assert sorted(trouble["words"] for trouble in shown["troubles"]) == [
        "account: ACCOUNT_RESTRICTION, RESTRICTED_BIZ_INITIATED_MESSAGING, until 2025-07-08",
        "template order_ready: PAUSED",
        "template order_ready: quality RED, was GREEN",
    ]
    del told


async def test_nothing_of_a_customer_is_shown(told: Database, command_line: CommandLine) -> None:
    for arguments in (("events",), ("events", "--json"), ("events", "bakery")):
        output = (await command_line(*arguments)).output
        assert "bakery" in output or arguments == ("events", "bakery")
        assert not [word for word in ("16505551234", "US.1349", "answered by hand", "Sheena") if word in output]
    del told


async def test_business_sees_only_what_is_told_of_it(told: Database, command_line: CommandLine) -> None:
    assert (await command_line("events", "b7")).output == "No events.\n"
    everything = orjson.loads((await command_line("events", "--json")).stdout)
    assert {kind["business"] for kind in everything["kinds"]} == {"bakery"}
    await store(told, "account_update")  # of an account that nobody has
    everything = orjson.loads((await command_line("events", "--json")).stdout)
    assert {kind["business"] for kind in everything["kinds"]} == {"bakery", "-"}


async def test_unknown_subdomain_is_told(told: Database, command_line: CommandLine) -> None:
    result = await command_line("events", "nobody")
    assert result.exit_code == 1
    assert "no business has the subdomain 'nobody'" in result.output
    del told


async def test_doctor_warns_of_what_meta_said_lately(told: Database, command_line: CommandLine) -> None:
    await store(told, "phone_number_quality", at=NOW - timedelta(days=8))
    await store(told, "template_status", at=NOW - timedelta(days=1))  # the same once more
    result = await command_line("doctor", "--json", ASSISTANT="echo", WHATSAPP_APP_SECRET="secret")
    found = [finding for finding in orjson.loads(result.stdout) if finding["check"] == "what Meta says"]
    assert {finding["verdict"] for finding in found} == {"note"}
    assert sorted(finding["words"] for finding in found) == [
        f"bakery: account: ACCOUNT_RESTRICTION, RESTRICTED_BIZ_INITIATED_MESSAGING, until 2025-07-08 ({NOW:%Y-%m-%d})",
        f"bakery: template order_ready: PAUSED ({NOW:%Y-%m-%d})",
        f"bakery: template order_ready: quality RED, was GREEN ({NOW:%Y-%m-%d})",
    ]


async def test_doctor_has_nothing_to_say_where_meta_said_nothing(database: Database, command_line: CommandLine) -> None:
    result = await command_line("doctor", "--json", ASSISTANT="echo", WHATSAPP_APP_SECRET="secret")
    found = [finding for finding in orjson.loads(result.stdout) if finding["check"] == "what Meta says"]
    assert [(finding["verdict"], finding["words"]) for finding in found] == [
        ("ok", "nothing against a business in the last 7 days")
    ]
    del database
