"""``whatsapp-hub rotate-secrets``: what businesses keep encrypted, brought under the present secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import click

from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED
from whatsapp_hub.commands.printing import json_option, plain, print_json, progress
from whatsapp_hub.commands.tenants import find_secrets, open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.managed import BusinessDocuments, Document
from whatsapp_hub.tenants.vault import Vault

RENEWED: Final = "renewed"
KEYS: Final = (RENEWED, "current", "changed", "unreadable")
ORDER: Final = """\
The program that writes the businesses shares this secret, so the order counts:
  1. Give every hub the new secret as ENCRYPTION_SECRET and the old one in ENCRYPTION_SECRETS_OLD; restart them.
  2. Let the other program read both, and encrypt with the new one.
  3. Run this. What it writes, a program that knows the old one only cannot read any more.
  4. Run it again until nothing is left to renew; then take the old secret away from both."""


@click.command(
    "rotate-secrets",
    short_help="Encrypt what is stored under the present secret.",
    epilog="Example: whatsapp-hub rotate-secrets --dry-run",
)
@click.option("--dry-run", is_flag=True, help="Count what would be encrypted anew, and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option("an object", KEYS)
@click.pass_context
def command(ctx: click.Context, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Encrypt tokens and secrets of all businesses anew where an old secret encrypted them.

    First every hub, and the program that writes the businesses, has to know both: the new one as ENCRYPTION_SECRET, the
    other in ENCRYPTION_SECRETS_OLD. Afterwards the old one may be taken away. Touches only what decrypts. May run
    beside servers, be stopped at any time, and be called again: it goes on where it was. A secret that is stored
    meanwhile is left as it is.

    Exit status: 0 all is under the present secret, or would be; 1 something is not.
    """
    settings = read_settings(tenants=True)
    vault = open_vault(settings)
    if not yes and not dry_run:
        click.echo(ORDER, err=True)
        click.confirm("Are 1 and 2 done?", abort=True, err=True)
    count = run_on_database(settings, lambda database: _rotate(database, vault, dry_run=dry_run))
    if as_json:
        print_json({key: count[key] for key in KEYS})
    else:
        _print(count, dry_run=dry_run)
    if count["changed"] or count["unreadable"]:
        ctx.exit(FAILED)


def _print(count: Counter[str], *, dry_run: bool) -> None:
    done = "Would be encrypted anew" if dry_run else "Encrypted anew"
    click.echo(f"{done}: {count[RENEWED]}. Under the present secret before: {count['current']}.")
    if count["changed"]:
        click.echo(f"Changed meanwhile by somebody else: {count['changed']}. Call it again.", err=True)
    if count["unreadable"]:
        click.echo(
            f"Not readable with any known secret: {count['unreadable']}. Add the one that wrote them to"
            " ENCRYPTION_SECRETS_OLD, or store them anew (`whatsapp-hub business set-token`).",
            err=True,
        )


async def _rotate(database: Database, vault: Vault, *, dry_run: bool) -> Counter[str]:
    documents = BusinessDocuments(database)
    count: Counter[str] = Counter()
    for document in progress("Businesses", await documents.find_all()):
        for path, stored in find_secrets(document):
            outcome = await _renew(None if dry_run else documents, document, path, stored, vault.renew)
            count[outcome] += 1
            if outcome == "unreadable":
                name = plain(str(document.get("subDomain") or document["_id"]))
                click.echo(f"{name}: {path} does not decrypt", err=True)
    return count


async def _renew(
    documents: BusinessDocuments | None,
    document: Document,
    path: str,
    stored: str,
    renew: Callable[[str], str | None],
) -> str:
    """Renew one secret; without ``documents`` only say what would come of it."""
    try:
        renewed = renew(stored)
    except VaultError:
        return "unreadable"
    if renewed is None:
        return "current"
    if documents is None or await documents.replace_secret(document, path, stored, renewed):
        return RENEWED
    return "changed"
