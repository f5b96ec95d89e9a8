"""``whatsapp-hub erase``: a business's or a customer's data, for good."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from whatsapp_hub.commands.completion import SUB_DOMAIN
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED, Failure
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.inbox.erasable import Whose, read_customer
from whatsapp_hub.inbox.erasure import Erased, Eraser
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.redaction import masked
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import read_business
from whatsapp_hub.tenants.managed import BusinessDocuments


@click.command(
    "erase",
    short_help="Remove a business's or a customer's data.",
    epilog="Example: whatsapp-hub erase bakery --customer 15550100142",
)
@SUB_DOMAIN
@click.option("--customer", metavar="ID", help="Only what is about this customer: a phone number or a BSUID.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def command(ctx: click.Context, *, sub_domain: str, customer: str | None, yes: bool) -> None:
    """Remove a business's or a customer's data from all our collections: messages, histories and raw events.

    The business itself stays: it belongs to another program. May run beside servers: a reply that is on its way is
    waited for, a message that waits is not answered any more. Can be stopped at any time, and be called again.
    Not reached: what a customer writes afterwards, what was logged, what others keep (Meta, the model, your backups).
    """
    customer_id = None if customer is None else read_customer(customer)
    if customer_id == "":
        raise click.UsageError("--customer: write a phone number or a BSUID.")
    settings = read_settings(tenants=False)
    business, whose, found = run_on_database(settings, lambda database: _look(database, sub_domain, customer_id))
    of_whom = plain(business.sub_domain if customer_id is None else f"{masked(customer_id)} at {business.sub_domain}")
    if not found.total:
        click.echo(f"Nothing is kept of {of_whom}.")
        return
    if customer_id is None and business.enabled:
        click.echo(
            f"{of_whom} is switched on, and what its customers write from now on is kept again:"
            f" `whatsapp-hub business disable {of_whom}` comes first.",
            err=True,
        )
    if not yes:
        click.confirm(f"Erase {_describe(found)} of {of_whom}, for good?", abort=True, err=True)
    erased = _erase(settings, whose, found.total)
    click.echo(f"Erased of {of_whom}: {_describe(erased)}.")
    if erased.left:
        click.echo(f"Left: {erased.left} that are being answered. Call it again in a while.", err=True)
        ctx.exit(FAILED)


async def _look(database: Database, sub_domain: str, customer: str | None) -> tuple[Business, Whose, Erased]:
    """Find the business, what is its own, and how much is kept of it."""
    documents = BusinessDocuments(database)
    business = _read(await documents.get(sub_domain))
    others = [other for other in map(_read, await documents.find_all()) if other.id != business.id]
    for other in others:
        if shared := set(other.phone_number_ids) & set(business.phone_number_ids):
            raise Failure(
                f"phone number id {min(shared)} is also a number of {other.sub_domain!r}, and nobody can tell whose"
                " data that is",
                "take it away from one of the two documents first",
            )
    whose = Whose(
        business_id=business.id,
        numbers=business.phone_number_ids,
        account_id=None if any(other.account_id == business.account_id for other in others) else business.account_id,
        customer=customer,
    )
    return business, whose, await Eraser(database, whose, lease_s=0).count()


def _erase(settings: Settings, whose: Whose, expected: int) -> Erased:
    with click.progressbar(length=expected, label="Erasing", file=sys.stderr) as bar:
        return run_on_database(settings, lambda database: _eraser(database, settings, whose, bar.update).erase())


def _eraser(database: Database, settings: Settings, whose: Whose, progress: Callable[[int], None]) -> Eraser:
    return Eraser(database, whose, lease_s=settings.timing.lease_s, progress=progress)


def _read(document: Mapping[str, Any]) -> Business:
    return read_business(document, _keep_shut)


def _keep_shut(_: str) -> str:
    """Decrypt nothing: no secret is needed here."""
    raise VaultError


def _describe(found: Erased) -> str:
    return ", ".join(
        f"{count} {name if count == 1 else plural}"
        for count, name, plural in (
            (found.messages, "message", "messages"),
            (found.histories, "history", "histories"),
            (found.events, "event", "events"),
        )
    )
