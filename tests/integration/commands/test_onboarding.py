"""A new business and Meta: what is asked before anything is written, and what is done afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import Result

from tests.hub import VAULT, VERIFY_TOKEN, business
from tests.integration.commands.conftest import GraphServer
from tests.leaks import LEAKS
from whatsapp_hub.database import Database
from whatsapp_hub.demo.accounts import APP_ID
from whatsapp_hub.demo.faults import Fault

CommandLine = Callable[..., Awaitable[Result]]

TOKEN = LEAKS.seed("EAAGtokenOfTheNewBusiness")
ADD = ["business", "add", "--name", "The Bakery", "--sub-domain", "bakery", "--waba-id", "102", "--token-stdin"]
ADD += ["--phone-number-id", "106"]


async def stored(database: Database) -> dict[str, Any] | None:
    found: dict[str, Any] | None = await database.businesses.find_one({"subDomain": "bakery"})
    return found


async def refusal(command_line: CommandLine, database: Database, *options: str, **env: str) -> str:
    """Have a business refused, and return why; nothing may have been written."""
    result = await command_line(*ADD, *options, stdin=TOKEN, **env)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert TOKEN not in result.output
    assert await stored(database) is None
    return result.stderr


async def test_wrong_token_is_told_once_and_nothing_is_written(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    graph.stand_in.control.tokens = {"106": "another", "107": "another"}
    words = await refusal(command_line, database, "--phone-number-id", "107")
    assert words.count("the access token: 190") == 1
    assert "copy it again" in words
    assert "nothing was written" in words
    assert "--offline" in words


async def test_number_that_the_token_cannot_see_is_named(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    graph.stand_in.control.tokens = {"106": TOKEN}
    words = await refusal(command_line, database, "--phone-number-id", "107")
    assert "phone number id 107: 33 the phone number id is deleted or wrong" in words
    assert "phone number id 106" not in words
    assert "API Setup shows the right one" in words


async def test_number_of_another_account_is_told_with_what_the_account_has(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    graph.stand_in.accounts.numbers = {"102": ["108", "109"]}
    assert "it has not the phone number id 106; it has 108, 109" in await refusal(command_line, database)


async def test_account_that_is_not_there_is_told(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    graph.stand_in.accounts.numbers = {"another": ["106"]}
    words = await refusal(command_line, database)
    assert "account 102: 100 there is no such object, or not for this token" in words
    assert "whatsapp_business_management" in words


async def test_token_without_the_permission_to_send_is_refused(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    graph.stand_in.accounts.scopes = {TOKEN: ["whatsapp_business_management"]}
    assert "lacks the permission whatsapp_business_messaging" in await refusal(command_line, database)


async def test_graph_that_cannot_be_reached_writes_nothing_but_when_told_to(
    command_line: CommandLine, database: Database
) -> None:
    away = {"GRAPH_API_BASE_URL": "http://127.0.0.1:1"}
    words = await refusal(command_line, database, **away)
    assert "cannot be reached (ClientConnectorError)" in words
    result = await command_line(*ADD, "--offline", stdin=TOKEN, **away)
    assert result.exit_code == 0, result.stderr
    assert "Not subscribed: `whatsapp-hub business subscribe bakery`" in result.stdout
    assert await stored(database) is not None


async def test_number_of_another_business_is_refused_before_meta_is_asked(
    command_line: CommandLine, database: Database
) -> None:
    await database.businesses.insert_one(business("106"))
    words = await refusal(command_line, database, GRAPH_API_BASE_URL="http://127.0.0.1:1")
    assert "phone number id 106 belongs to 'b106'" in words


async def test_metas_word_on_the_expiry_is_stored_unless_one_is_given(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    graph.stand_in.accounts.expires_at = {TOKEN: int(at.timestamp())}
    assert (await command_line(*ADD, stdin=TOKEN)).exit_code == 0
    document = await stored(database)
    assert document is not None
    assert document["whatsappTokenExpiresAt"] == at
    await database.businesses.delete_many({})
    assert (await command_line(*ADD, "--expires", "2030-01-01", stdin=TOKEN)).exit_code == 0
    document = await stored(database)
    assert document is not None
    assert document["whatsappTokenExpiresAt"] == datetime(2030, 1, 1, tzinfo=UTC)


async def test_app_is_subscribed_once(command_line: CommandLine, database: Database, graph: GraphServer) -> None:
    accounts = graph.stand_in.accounts
    accounts.subscribed["102"] = {"another": ""}
    result = await command_line(*ADD, stdin=TOKEN)
    assert result.exit_code == 0, result.stderr
    assert f"Sample App ({APP_ID}) gets the webhooks of account 102 from now on." in result.stdout
    assert accounts.subscribed["102"] == {"another": "", APP_ID: ""}
    again = await command_line("business", "subscribe", "bakery")
    assert (again.exit_code, "webhooks of account 102 already." in again.stdout) == (0, True)


async def test_subscription_can_be_declined(command_line: CommandLine, database: Database, graph: GraphServer) -> None:
    graph.stand_in.accounts.subscribed["102"] = {}
    result = await command_line(*ADD, "--no-subscribe", stdin=TOKEN)
    assert (result.exit_code, "Not subscribed" in result.stdout) == (0, True)
    assert graph.stand_in.accounts.subscribed["102"] == {}


async def test_subscription_that_is_refused_leaves_the_business_and_says_how_to_go_on(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    await command_line(*ADD, "--no-subscribe", stdin=TOKEN)
    graph.stand_in.accounts.scopes = {TOKEN: ["whatsapp_business_messaging"]}
    result = await command_line("business", "subscribe", "bakery")
    assert result.exit_code == 1
    assert "200 permission missing or removed" in result.stderr
    assert "`whatsapp-hub business subscribe bakery` tries again" in result.stderr


async def test_callback_url_and_verify_token_are_told_but_the_token_is_not_printed_into_a_pipe(
    command_line: CommandLine, database: Database
) -> None:
    env = {"WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN}
    result = await command_line(*ADD, "--public-url", "https://hub.example/", stdin=TOKEN, **env)
    assert "Callback URL  https://hub.example/whatsapp_response\n" in result.stdout
    assert "Verify token  that of WHATSAPP_VERIFY_TOKEN" in result.stdout
    assert "subscribe to messages" in result.stdout
    assert VERIFY_TOKEN not in result.output
    shown = await command_line("business", "subscribe", "bakery", "--show-verify-token", **env)
    assert f"Verify token  {VERIFY_TOKEN}\n" in shown.stdout
    none = await command_line("business", "subscribe", "bakery")
    assert "Verify token  none yet: make up a long word, set it as WHATSAPP_VERIFY_TOKEN" in none.stdout


async def test_business_with_secrets_of_its_own_has_a_path_of_its_own(
    command_line: CommandLine, database: Database
) -> None:
    own = {"whatsappAppSecret": VAULT.encrypt("own"), "whatsappVerifyToken": VAULT.encrypt("own word")}
    await database.businesses.insert_one(business("101", **own))
    result = await command_line("business", "subscribe", "b101", "--show-verify-token")
    assert "https://<your host>/whatsapp_response/b101\n" in result.stdout
    assert "Verify token  own word\n" in result.stdout


async def test_business_that_lacks_something_cannot_be_subscribed(
    command_line: CommandLine, database: Database
) -> None:
    await database.businesses.insert_one(business("101", wabaId=None, whatsappAccessToken=None))
    result = await command_line("business", "subscribe", "b101")
    assert result.exit_code == 1
    assert "'b101' lacks an access token and an account: `whatsapp-hub business set-token`" in result.stderr


# Test messages


async def test_test_message_is_metas_template(command_line: CommandLine, graph: GraphServer) -> None:
    result = await command_line(*ADD, "--test-to", "+1 (555) 0100-142", stdin=TOKEN)
    assert result.exit_code == 0, result.stderr
    (send,) = graph.stand_in.log.accepted
    assert (send.phone_number_id, send.to) == ("106", "15550100142")
    assert send.body is not None
    assert send.body["template"] == {"name": "hello_world", "language": {"code": "en_US"}}
    assert "15550100142" not in result.output


async def test_test_message_may_be_a_text_from_another_number(
    command_line: CommandLine, database: Database, graph: GraphServer
) -> None:
    await database.businesses.insert_one(business("101", whatsappPhoneNumberIds=["101", "102"]))
    options = ["--to", "15550100142", "--text", "Hello", "--phone-number-id", "102"]
    result = await command_line("business", "test", "b101", *options, stdin="n\n")
    assert result.exit_code == 1
    assert "Meta charges the business for templates" in result.stderr
    assert not graph.stand_in.log.sends
    assert (await command_line("business", "test", "b101", *options, "--yes")).exit_code == 0
    (send,) = graph.stand_in.log.accepted
    assert (send.phone_number_id, send.text) == ("102", "Hello")
    wrong = await command_line("business", "test", "b101", *options[:-1], "999")
    assert (wrong.exit_code, "write one of 101, 102" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(131030, "list of the test number"), (131058, "--text"), (131047, "--text"), (131000, "business check b101")],
)
async def test_test_message_that_meta_refuses_is_told_with_what_to_do(
    command_line: CommandLine, database: Database, graph: GraphServer, code: int, remedy: str
) -> None:
    await database.businesses.insert_one(business("101"))
    graph.stand_in.control.faults.arm(Fault(code=code, status=400))
    result = await command_line("business", "test", "b101", "--to", "15550100142", "--yes")
    assert result.exit_code == 1
    assert f"not taken: {code} " in result.stderr
    assert remedy in result.stderr
    assert "15550100142" not in result.output


async def test_test_message_needs_a_phone_number(command_line: CommandLine, database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    result = await command_line("business", "test", "b101", "--to", "my phone", "--yes")
    assert (result.exit_code, "country code" in result.stderr) == (2, True)
    early = await command_line(*ADD, "--test-to", "my phone", stdin=TOKEN)
    assert (early.exit_code, "country code" in early.stderr) == (2, True)
    assert await stored(database) is None
