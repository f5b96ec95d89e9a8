"""A new ENCRYPTION_SECRET: what is stored is brought under it, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest
from click.testing import Result

from tests.hub import VAULT, business
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.managed import BusinessDocuments
from whatsapp_hub.tenants.vault import Vault

CommandLine = Callable[..., Awaitable[Result]]

OLD = Vault("the secret from before")
ROTATE = {"ENCRYPTION_SECRETS_OLD": "the secret from before"}
PLAIN = {
    "whatsappAccessToken": "token",
    "whatsappRefreshToken": "refresh",
    "whatsappAppSecret": "app secret",
    "whatsappVerifyToken": "verify",
    "assistant": {"apiKey": "key", "secret": "shared"},
}


def encrypted(vault: Vault, plain: Any = PLAIN) -> Any:
    if isinstance(plain, dict):
        return {name: encrypted(vault, value) for name, value in plain.items()}
    return vault.encrypt(plain)


def opened(vault: Vault, document: Any, like: Any = PLAIN) -> Any:
    if isinstance(like, dict):
        return {name: opened(vault, document[name], value) for name, value in like.items()}
    return vault.decrypt(document)


async def insert(database: Database, numbers: Sequence[str], **secrets: Any) -> None:
    await database.businesses.insert_many([business(number) | secrets for number in numbers])


async def test_everything_that_is_kept_encrypted_opens_with_the_new_secret_alone(
    command_line: CommandLine, database: Database
) -> None:
    await insert(database, ["101", "102"], **encrypted(OLD))
    result = await command_line("rotate-secrets", "--yes", **ROTATE)
    assert result.exit_code == 0, result.stderr
    assert "Encrypted anew: 12. Under the present secret before: 0." in result.stdout
    found = await database.businesses.find({}).to_list(None)
    assert [opened(VAULT, document) for document in found] == [PLAIN, PLAIN]
    with pytest.raises(VaultError):
        OLD.decrypt(found[0]["whatsappAccessToken"])
    again = await command_line("rotate-secrets", "--yes", **ROTATE)
    assert "Encrypted anew: 0. Under the present secret before: 12." in again.stdout


async def test_one_that_was_stopped_half_way_is_finished_by_the_next(
    command_line: CommandLine, database: Database
) -> None:
    await insert(database, ["101"], **encrypted(VAULT))
    await insert(database, ["102"], **encrypted(OLD) | {"whatsappAccessToken": VAULT.encrypt("token")})
    await insert(database, ["103"], **encrypted(OLD))
    result = await command_line("rotate-secrets", "--yes", **ROTATE)
    assert "Encrypted anew: 11. Under the present secret before: 7." in result.stdout
    assert [opened(VAULT, document) async for document in database.businesses.find({})] == [PLAIN] * 3


async def test_what_no_secret_opens_is_named_and_left(command_line: CommandLine, database: Database) -> None:
    strange = Vault("nobody knows").encrypt("token")
    await insert(database, ["101"], whatsappAccessToken=strange)
    result = await command_line("rotate-secrets", "--yes", **ROTATE)
    assert result.exit_code == 1
    assert "whatsappAccessToken does not decrypt" in result.stderr
    assert strange not in result.output
    assert [document["whatsappAccessToken"] async for document in database.businesses.find({})] == [strange]


async def test_a_secret_that_is_stored_meanwhile_stays(database: Database) -> None:
    read, newer = OLD.encrypt("token"), VAULT.encrypt("newer")
    await insert(database, ["101"], whatsappAccessToken=newer)
    documents = BusinessDocuments(database)
    (document,) = await documents.find_all()
    assert not await documents.replace_secret(document, "whatsappAccessToken", read, VAULT.encrypt("token"))
    assert [each["whatsappAccessToken"] async for each in database.businesses.find({})] == [newer]


async def test_it_tells_the_order_and_asks_first(command_line: CommandLine, database: Database) -> None:
    await insert(database, ["101"], **encrypted(OLD))
    before = await database.businesses.find({}).to_list(None)
    declined = await command_line("rotate-secrets", stdin="n\n", **ROTATE)
    assert declined.exit_code == 1
    assert "ENCRYPTION_SECRETS_OLD; restart them" in declined.stderr
    assert "Are 1 and 2 done? [y/N]" in declined.stderr
    assert await database.businesses.find({}).to_list(None) == before
    assert (await command_line("rotate-secrets", stdin="y\n", **ROTATE)).exit_code == 0
    assert await database.businesses.find({}).to_list(None) != before


async def test_dry_run_counts_and_writes_nothing(command_line: CommandLine, database: Database) -> None:
    await insert(database, ["101"], **encrypted(OLD) | {"whatsappAccessToken": VAULT.encrypt("token")})
    before = await database.businesses.find({}).to_list(None)
    result = await command_line("rotate-secrets", "--dry-run", **ROTATE)
    assert (result.exit_code, result.stdout) == (
        0,
        "Would be encrypted anew: 5. Under the present secret before: 1.\n",
    )
    counted = await command_line("rotate-secrets", "--dry-run", "--json", **ROTATE)
    assert orjson.loads(counted.stdout) == {"renewed": 5, "current": 1, "changed": 0, "unreadable": 0}
    assert await database.businesses.find({}).to_list(None) == before
