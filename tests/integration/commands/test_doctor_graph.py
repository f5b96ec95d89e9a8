"""What doctor and ``business check`` learn from Graph about accounts, apps and the clock, and what settings show."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from click.testing import Result

from tests.hub import VAULT, business
from tests.integration.commands.conftest import GraphServer
from tests.leaks import LEAKS
from whatsapp_hub.commands.findings import FINDING_KEYS
from whatsapp_hub.database import Database
from whatsapp_hub.demo.accounts import APP_ID
from whatsapp_hub.tenants.vault import Vault

CommandLine = Callable[..., Awaitable[Result]]
Look = Callable[..., Awaitable[tuple[int, dict[str, dict[str, str]]]]]

APP_SECRET = LEAKS.seed("the secret of the sample app")


@pytest.fixture
async def doctor(command_line: CommandLine, database: Database) -> Look:
    """Ask the doctor about one business; return the exit status and what is not as it should be, by check."""
    await database.businesses.insert_one(business("101"))

    async def run(*command: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
        given = {"ASSISTANT": "echo", "WHATSAPP_APP_SECRET": APP_SECRET, **env}
        result = await command_line(*(command or ("doctor",)), "--json", **given)
        assert APP_SECRET not in result.output
        findings = orjson.loads(result.stdout)
        assert all(tuple(finding) == FINDING_KEYS for finding in findings)
        found = {one["check"]: one for one in findings if one["verdict"] != "ok" and one["check"] != "indexes"}
        assert all(one["remedy"] for one in found.values())
        return result.exit_code, found

    return run


async def test_all_is_well_when_the_app_gets_the_messages(doctor: Look) -> None:
    assert await doctor() == (0, {})
    assert await doctor("business", "check", "b101") == (0, {})


@pytest.mark.parametrize("command", [("doctor",), ("business", "check", "b101")], ids=["doctor", "check"])
async def test_account_that_sends_its_webhooks_to_nobody(
    doctor: Look, graph: GraphServer, command: tuple[str, ...]
) -> None:
    graph.stand_in.accounts.subscribed["waba-101"] = {}
    status, found = await doctor(*command)
    assert (status, found["webhooks"]["verdict"]) == (1, "mend")
    assert found["webhooks"]["words"] == "b101: no app gets the webhooks of its account waba-101"
    assert found["webhooks"]["remedy"] == "`whatsapp-hub business subscribe b101`"


async def test_account_that_sends_its_webhooks_to_other_apps_only_is_a_note(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.subscribed["waba-101"] = {"99": ""}
    status, found = await doctor()
    assert (status, found["webhooks"]["verdict"]) == (0, "note")
    assert f"other apps get the webhooks of its account waba-101, Sample App ({APP_ID})" in found["webhooks"]["words"]


async def test_account_with_a_callback_url_of_its_own_that_leads_elsewhere(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.subscribed["waba-101"] = {APP_ID: "https://old.example/hook"}
    _, found = await doctor()
    assert "go to https://old.example/hook, which is no path of the hub" in found["webhooks"]["words"]


async def test_app_that_is_not_subscribed_to_messages(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.fields = ["account_update"]
    status, found = await doctor()
    assert (status, list(found)) == (1, ["webhook fields"])
    assert "is not subscribed to the field messages" in found["webhook fields"]["words"]
    assert "Configuration > Webhook fields" in found["webhook fields"]["remedy"]


async def test_app_without_webhooks(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.callback_url = ""
    status, found = await doctor()
    assert (status, list(found)) == (1, ["webhook fields"])
    assert "has no webhooks for WhatsApp" in found["webhook fields"]["words"]


async def test_app_secret_of_another_app_is_told_before_the_first_401(
    doctor: Look, graph: GraphServer, database: Database
) -> None:
    graph.stand_in.accounts.app_secrets = {APP_ID: "another"}
    status, found = await doctor()
    assert (status, list(found)) == (1, ["app secret"])
    assert found["app secret"]["words"].startswith("WHATSAPP_APP_SECRET is not the secret of Sample App")
    assert await doctor(WHATSAPP_APP_SECRET=f"{APP_SECRET},another") == (0, {})
    await database.businesses.update_one({}, {"$set": {"whatsappAppSecret": VAULT.encrypt("wrong")}})
    status, found = await doctor(WHATSAPP_APP_SECRET="another")
    assert (status, list(found)) == (1, ["app secret"])
    assert "app secret of b101's own" in found["app secret"]["words"]


async def test_fault_of_an_app_that_many_businesses_have_is_told_once(
    doctor: Look, graph: GraphServer, database: Database, command_line: CommandLine
) -> None:
    await database.businesses.insert_many([business("102"), business("103")])
    graph.stand_in.accounts.fields = []
    result = await command_line("doctor", ASSISTANT="echo", WHATSAPP_APP_SECRET=APP_SECRET)
    assert result.stdout.count("is not subscribed to the field messages") == 1
    assert result.stdout.endswith("\n1 to mend.\n")


async def test_token_that_may_not_look_at_the_account_is_a_note(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.scopes = {"token-101": ["whatsapp_business_messaging"]}
    status, found = await doctor()
    assert (status, list(found)) == (0, ["webhooks"])
    assert "whatsapp_business_management" in found["webhooks"]["remedy"]


async def test_token_that_may_not_send(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.scopes = {"token-101": ["whatsapp_business_management"]}
    status, found = await doctor()
    assert (status, list(found)) == (1, ["token"])
    assert "lacks the permission whatsapp_business_messaging" in found["token"]["words"]


async def test_expiry_that_only_meta_knows(doctor: Look, graph: GraphServer) -> None:
    at = datetime.now(UTC) + timedelta(days=3)
    graph.stand_in.accounts.expires_at = {"token-101": int(at.timestamp())}
    status, found = await doctor()
    assert status == 1
    assert f"Meta says that its access token expires on {at:%Y-%m-%d}" in found["token"]["words"]
    assert "set-token b101" in found["token"]["remedy"]


async def test_number_that_is_none_of_the_account(doctor: Look, graph: GraphServer) -> None:
    graph.stand_in.accounts.numbers = {"waba-101": ["999"]}
    status, found = await doctor()
    assert (status, found["account"]["words"]) == (1, "b101: 101 is no number of its account waba-101")


async def test_account_that_no_document_names_is_a_note(doctor: Look, database: Database) -> None:
    await database.businesses.update_one({}, {"$unset": {"wabaId": ""}})
    status, found = await doctor()
    assert (status, list(found)) == (0, ["account"])


async def test_clock_that_differs_from_metas(doctor: Look, graph: GraphServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("whatsapp_hub.cloud_api.account_client._now_s", lambda: real() - 7200)
    status, found = await doctor()
    assert status == 1
    assert found["clock"]["words"] == "this machine's clock is 7200 s behind Meta's"


async def test_secret_that_opens_nothing_is_told_as_such(doctor: Look, database: Database) -> None:
    """Once, and not only as a fault of every single business."""
    status, found = await doctor(ENCRYPTION_SECRET="a secret of some other program, long enough")
    assert status == 1
    assert found["encryption"]["words"] == "ENCRYPTION_SECRET opens none of the 1 secrets in the businesses' documents"
    await database.businesses.update_one({}, {"$set": {"whatsappAppSecret": Vault("another").encrypt("x")}})
    _, found = await doctor()
    assert found["encryption"]["words"] == "1 of 2 stored secrets do not open"


async def test_proxy_that_is_not_trusted_is_a_note(doctor: Look) -> None:
    status, found = await doctor(HOST="127.0.0.1")
    assert (status, list(found)) == (0, ["proxy"])
    assert "TRUSTED_PROXIES=127.0.0.1,::1" in found["proxy"]["remedy"]
    assert await doctor(HOST="127.0.0.1", TRUSTED_PROXIES="127.0.0.1") == (0, {})
