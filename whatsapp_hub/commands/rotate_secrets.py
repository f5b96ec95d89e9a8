"""``whatsapp-hub rotate-secrets``: what businesses keep encrypted, brought under the present secret."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.commands.tenants import BusinessDocuments, Document, open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.vault import Vault

#: Every field of a business that is kept encrypted.
SECRETS: Final = (
    "whatsappAccessToken",
    "whatsappRefreshToken",
    "whatsappAppSecret",
    "whatsappVerifyToken",
    "assistant.apiKey",
    "assistant.secret",
)


@click.command(
    "rotate-secrets",
    short_help="Bring what is kept encrypted under the present ENCRYPTION_SECRET.",
    epilog="Example: whatsapp-hub rotate-secrets",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Encrypt tokens and secrets of all businesses anew where an old secret encrypted them.

    First every hub, and the program that writes the businesses, has to know both: the new one as ENCRYPTION_SECRET, the
    other in ENCRYPTION_SECRETS_OLD. Afterwards the old one may be taken away. May run beside servers, be stopped at any
    time, and be called again: it goes on where it was. A secret that is stored meanwhile is left as it is.
    """
    settings = read_settings(tenants=True)
    vault = open_vault(settings)
    count = run_on_database(settings, lambda database: _rotate(database, vault))
    click.echo(f"Encrypted anew: {count['renewed']}. Under the present secret before: {count['current']}.")
    if count["changed"]:
        click.echo(f"Changed meanwhile by somebody else: {count['changed']}. Call it again.", err=True)
    if count["unreadable"]:
        click.echo(
            f"Not readable with any known secret: {count['unreadable']}. Add the one that wrote them to"
            " ENCRYPTION_SECRETS_OLD, or store them anew (`whatsapp-hub business set-token`).",
            err=True,
        )
    if count["changed"] or count["unreadable"]:
        ctx.exit(FAILED)


async def _rotate(database: Database, vault: Vault) -> Counter[str]:
    documents = BusinessDocuments(database)
    count: Counter[str] = Counter()
    found = await documents.find_all()
    with click.progressbar(found, label="Businesses", file=sys.stderr) as bar:
        for document in bar:
            for path, stored in _secrets(document):
                outcome = await _renew(documents, document, path, stored, vault.renew)
                count[outcome] += 1
                if outcome == "unreadable":
                    name = plain(str(document.get("subDomain") or document["_id"]))
                    click.echo(f"{name}: {path} does not decrypt", err=True)
    return count


async def _renew(
    documents: BusinessDocuments, document: Document, path: str, stored: str, renew: Callable[[str], str | None]
) -> str:
    try:
        renewed = renew(stored)
    except VaultError:
        return "unreadable"
    if renewed is None:
        return "current"
    return "renewed" if await documents.replace_secret(document, path, stored, renewed) else "changed"


def _secrets(document: Document) -> Iterator[tuple[str, str]]:
    for path in SECRETS:
        value: Any = document
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            yield path, value
