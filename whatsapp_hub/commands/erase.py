"""``whatsapp-hub erase``: still to come."""

from __future__ import annotations

import click

from whatsapp_hub.commands.failures import NotYet


@click.command(
    "erase",
    short_help="Remove a business's or a customer's data (not yet).",
    epilog="Example: whatsapp-hub erase bakery --customer 15550100142",
)
@click.argument("sub_domain", metavar="SUBDOMAIN")
@click.option("--customer", metavar="ID", help="Only what is about this customer.")
def command(*, sub_domain: str, customer: str | None) -> None:
    """Remove a business's or a customer's data from all our collections (not yet)."""
    del sub_domain, customer
    raise NotYet("whatsapp-hub erase")
