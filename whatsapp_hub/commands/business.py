"""``whatsapp-hub business``: the tenants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import click
import orjson

from whatsapp_hub.commands.business_add import TOKEN, add
from whatsapp_hub.commands.business_check import check
from whatsapp_hub.commands.business_fields import NEVER, parse_expiry
from whatsapp_hub.commands.business_keys import key
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.commands.printing import plain, print_fields, print_table
from whatsapp_hub.commands.tenants import BusinessDocuments, describe, open_vault
from whatsapp_hub.settings import Settings

T = TypeVar("T")

_SUB_DOMAIN: Final = click.argument("sub_domain", metavar="SUBDOMAIN")


@click.group("business", short_help="Add, list, show and switch businesses.")
def command() -> None:
    """Add, list, show and switch businesses.

    Tokens are read from a hidden prompt, from stdin or from a file, and never printed. Running servers see a change
    within seconds (without change streams, on a standalone MongoDB, after BUSINESS_CACHE_TTL).
    """


command.add_command(add)
command.add_command(check)
command.add_command(key)


@command.command("list", epilog="Example: whatsapp-hub business list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_businesses(*, as_json: bool) -> None:
    """List all businesses."""
    settings = read_settings(tenants=True)
    decrypt = open_vault(settings).decrypt
    businesses = [describe(document, decrypt) for document in _on_documents(settings, BusinessDocuments.find_all)]
    if as_json:
        click.echo(orjson.dumps(businesses, option=orjson.OPT_INDENT_2))
    elif not businesses:
        click.echo("No businesses yet: `whatsapp-hub business add` makes one.")
    else:
        columns = ("subdomain", "name", "phone number ids", "switched", "access token", "assistant")
        print_table(columns, [_summarize(business) for business in businesses])


@command.command("show", epilog="Example: whatsapp-hub business show bakery")
@_SUB_DOMAIN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_business(*, sub_domain: str, as_json: bool) -> None:
    """Show one business, without its secrets: only whether each is set and can be read."""
    settings = read_settings(tenants=True)
    document = _on_documents(settings, lambda businesses: businesses.get(sub_domain))
    business = describe(document, open_vault(settings).decrypt)
    if as_json:
        click.echo(orjson.dumps(business, option=orjson.OPT_INDENT_2))
    else:
        print_fields(business)


@command.command("enable", epilog="Example: whatsapp-hub business enable bakery")
@_SUB_DOMAIN
@click.option("--active", is_flag=True, help="Set isActive too, which is the dashboard's switch.")
def enable_business(*, sub_domain: str, active: bool) -> None:
    """Switch a business on (whatsappEnabled): its customers are answered from now on."""

    async def work(businesses: BusinessDocuments) -> None:
        document = await businesses.get(sub_domain)
        if not active and document.get("isActive") is not True:
            raise Failure(f"{sub_domain!r} is not active (isActive): use --active if it may be, nothing was written.")
        await businesses.refuse_contest(document)
        await businesses.change(document, {"whatsappEnabled": True} | ({"isActive": True} if active else {}))

    _on_documents(read_settings(tenants=True), work)
    click.echo(f"{plain(sub_domain)} is switched on.")


@command.command("disable", epilog="Example: whatsapp-hub business disable bakery")
@_SUB_DOMAIN
def disable_business(*, sub_domain: str) -> None:
    """Switch a business off (whatsappEnabled): messages to it are stored and not answered, now or later."""

    async def work(businesses: BusinessDocuments) -> None:
        await businesses.change(await businesses.get(sub_domain), {"whatsappEnabled": False})

    _on_documents(read_settings(tenants=True), work)
    click.echo(f"{plain(sub_domain)} is switched off.")


@command.command("set-token", epilog="Example: whatsapp-hub business set-token bakery --token-file token.txt")
@_SUB_DOMAIN
@TOKEN.add_to
@click.option("--expires", metavar="DATE", help='When it expires, as 2027-01-31; "never" removes the date stored.')
def set_token(*, sub_domain: str, expires: str | None, **options: Any) -> None:
    """Store another access token for a business. What waits for it goes on by itself."""
    settings = read_settings(tenants=True)
    try:
        expires_at = parse_expiry(expires)
        token = TOKEN.read(options)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    values: dict[str, object] = {"whatsappAccessToken": open_vault(settings).encrypt(token or "")}
    if expires_at is not None:
        values["whatsappTokenExpiresAt"] = expires_at

    async def work(businesses: BusinessDocuments) -> object:
        document = await businesses.get(sub_domain)
        await businesses.change(document, values, ["whatsappTokenExpiresAt"] if expires == NEVER else [])
        return document.get("whatsappTokenExpiresAt")

    before = _on_documents(settings, work)
    click.echo(f"The access token of {plain(sub_domain)} is stored.")
    if expires is None and isinstance(before, datetime):
        click.echo(f"Its expiry is still the one stored before, {before:%Y-%m-%d}; --expires says another.", err=True)


def _on_documents(settings: Settings, work: Callable[[BusinessDocuments], Awaitable[T]]) -> T:
    return run_on_database(settings, lambda database: work(BusinessDocuments(database)))


def _summarize(business: dict[str, Any]) -> tuple[str, ...]:
    switched = "on" if business["served"] else "off" if business["active"] else "off, not active"
    token: str = business["access_token"]
    if token == "set" and business["token_expires_at"]:  # noqa: S105 - a word about it
        token = f"until {business['token_expires_at'][:10]}"
    assistant = (business["assistant"] or {}).get("kind") or "as ASSISTANT"
    numbers = ", ".join(business["phone_number_ids"])
    return (business["business"], business["name"], numbers, switched, token, str(assistant))
