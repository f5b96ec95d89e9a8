"""``whatsapp-hub business export``: businesses as JSON lines, for another hub or for safety."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from whatsapp_hub.commands.business_lines import CLEAR, write_line
from whatsapp_hub.commands.completion import complete_sub_domain
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED, Failure
from whatsapp_hub.commands.printing import plain, progress
from whatsapp_hub.commands.tenants import find_secrets, open_vault
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.managed import BusinessDocuments, Document, unknown_business
from whatsapp_hub.tenants.vault import Vault

WARNING = (
    "Whoever reads what follows can send WhatsApp messages in the name of these businesses: keep it where nobody else"
    " gets at it, and delete it soon. `--secrets encrypted` is enough for a hub with the same ENCRYPTION_SECRET."
)


@click.command("export", epilog="Example: whatsapp-hub business export --secrets encrypted --output businesses.jsonl")
@click.argument("sub_domains", metavar="[SUBDOMAIN]...", nargs=-1, shell_complete=complete_sub_domain)
@click.option("--output", type=click.Path(path_type=Path), help="Write to this new file, for its owner only (0600).")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@click.option(
    "--secrets",
    type=click.Choice(("encrypted", CLEAR)),
    help="Write tokens and secrets too: under the present ENCRYPTION_SECRET, or for everybody to read.",
)
@click.option("--yes", is_flag=True, help="With --secrets clear: do not ask.")
@click.pass_context
def export_businesses(ctx: click.Context, /, **options: Any) -> None:
    """Write all businesses, or those named, as JSON lines that `business import` reads.

    A line has the fields of the document that the hub knows: subDomain, name, wabaId, whatsappPhoneNumberIds,
    whatsappEnabled, isActive, whatsappTokenExpiresAt, messagesPerSecond and assistant. Without --secrets none is
    written, and an import of that leaves the secrets that are there. API keys are never written: make new ones.
    """
    settings = read_settings(tenants=True)
    path: Path | None = options["output"]
    if path is not None and path.exists() and not options["overwrite"]:
        raise click.UsageError(f"--output: {path} is there already: name another file, or use --overwrite.")
    if options["secrets"] == CLEAR:
        click.echo(WARNING, err=True)
        if not options["yes"]:
            click.confirm("Write them?", abort=True, err=True)
    documents = _choose(
        run_on_database(settings, lambda one: BusinessDocuments(one).find_all()), options["sub_domains"]
    )
    vault, faults = open_vault(settings), list[str]()
    with _open_output(path) as write:
        for document in progress("Exporting", documents):
            secrets = dict(_read_secrets(document, vault, options["secrets"], faults))
            write(write_line(document, secrets))
    for fault in faults:
        click.echo(fault, err=True)
    click.echo(f"{len(documents)} exported.", err=True)
    ctx.exit(FAILED if faults else 0)


def _choose(documents: Sequence[Document], names: Sequence[str]) -> Sequence[Document]:
    if not names:
        return documents
    known = {document.get("subDomain") for document in documents}
    if unknown := [name for name in names if name not in known]:
        raise unknown_business(*unknown)
    return [document for document in documents if document.get("subDomain") in names]


def _read_secrets(
    document: Document, vault: Vault, form: str | None, faults: list[str]
) -> Iterator[tuple[str, str | dict[str, str]]]:
    for path, stored in find_secrets(document) if form else ():
        try:
            yield path, {CLEAR: vault.decrypt(stored)} if form == CLEAR else vault.renew(stored) or stored
        except VaultError:
            name = plain(document.get("subDomain") or document["_id"])
            faults.append(
                f"{name}: {path} does not decrypt and was left out: put its secret into ENCRYPTION_SECRETS_OLD."
            )


@contextmanager
def _open_output(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Write to stdout, or to a file that is there when all of it is."""
    if path is None:
        yield sys.stdout.buffer.write
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Nobody else may open it, not even for the moment between the making and a chmod.
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - of a descriptor
            yield file.write
        unfinished.replace(path)
    except OSError as exc:
        raise Failure(f"{path} cannot be written ({exc.strerror})", "name another file with --output") from None
    finally:
        unfinished.unlink(missing_ok=True)
