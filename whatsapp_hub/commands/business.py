"""``whatsapp-hub business``: the tenants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from whatsapp_hub.commands.business_add import TOKEN, add
from whatsapp_hub.commands.business_check import check
from whatsapp_hub.commands.business_export import export_businesses
from whatsapp_hub.commands.business_fields import NEVER, parse_expiry
from whatsapp_hub.commands.business_import import import_businesses
from whatsapp_hub.commands.business_keys import key
from whatsapp_hub.commands.business_meta import subscribe_business, test_business
from whatsapp_hub.commands.completion import SUB_DOMAIN
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.commands.last_messages import find_last_messages
from whatsapp_hub.commands.printing import ago, in_words, json_option, plain, print_fields, print_json, print_table
from whatsapp_hub.commands.tenants import BUSINESS_KEYS, describe, open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.managed import BusinessDocuments, Document

T = TypeVar("T")

_COLUMNS: Final = ("subdomain", "name", "phone number ids", "state", "access token", "last message", "assistant")
_FAR: Final = timedelta(days=60)  #: an expiry that is no news


@click.group(
    "business",
    short_help="Add, list, show, check and switch businesses.",
    epilog="Example: whatsapp-hub business list",
)
def command() -> None:
    """Add, list, show, check and switch businesses.

    Tokens are read from a hidden prompt, from stdin or from a file, and never printed. Running servers see a change
    within seconds (without change streams, on a standalone MongoDB, after BUSINESS_CACHE_TTL).
    """


for one in (add, check, export_businesses, import_businesses, key, subscribe_business, test_business):
    command.add_command(one)


@command.command("list", epilog="Example: whatsapp-hub business list --json")
@json_option("a list of objects", BUSINESS_KEYS)
def list_businesses(*, as_json: bool) -> None:
    """List all businesses, with their state, the expiry of their token and their last message.

    The last message is the last that the hub has stored for one of its numbers, among the newest 20,000.
    """
    settings = read_settings(tenants=True)
    businesses = _describe(settings, BusinessDocuments.find_all)
    if as_json:
        print_json(businesses)
    elif not businesses:
        click.echo("No businesses yet: `whatsapp-hub business add` makes one.")
    else:
        print_table(_COLUMNS, [_summarize(business) for business in businesses])


@command.command("show", epilog="Example: whatsapp-hub business show bakery")
@SUB_DOMAIN
@json_option("an object", BUSINESS_KEYS)
def show_business(*, sub_domain: str, as_json: bool) -> None:
    """Show one business, without its secrets: only whether each is set and can be read."""

    async def find(businesses: BusinessDocuments) -> Sequence[Document]:
        return [await businesses.get(sub_domain)]

    (business,) = _describe(read_settings(tenants=True), find)
    if as_json:
        print_json(business)
    else:
        print_fields(business)


@command.command("enable", epilog="Example: whatsapp-hub business enable bakery")
@SUB_DOMAIN
@click.option("--active", is_flag=True, help="Set isActive too, which is the dashboard's switch.")
def enable_business(*, sub_domain: str, active: bool) -> None:
    """Switch a business on (whatsappEnabled): its customers are answered from now on."""

    async def work(businesses: BusinessDocuments) -> None:
        document = await businesses.get(sub_domain)
        if not active and document.get("isActive") is not True:
            raise Failure(f"{sub_domain!r} is not active (isActive), nothing was written", "use --active if it may be")
        await businesses.refuse_contest(document)
        await businesses.change(document, {"whatsappEnabled": True} | ({"isActive": True} if active else {}))

    _on_documents(read_settings(tenants=True), work)
    click.echo(f"{plain(sub_domain)} is switched on.")


@command.command("disable", epilog="Example: whatsapp-hub business disable bakery")
@SUB_DOMAIN
def disable_business(*, sub_domain: str) -> None:
    """Switch a business off (whatsappEnabled): messages to it are stored and not answered, now or later."""

    async def work(businesses: BusinessDocuments) -> None:
        await businesses.change(await businesses.get(sub_domain), {"whatsappEnabled": False})

    _on_documents(read_settings(tenants=True), work)
    click.echo(f"{plain(sub_domain)} is switched off.")


@command.command("set-token", epilog="Example: whatsapp-hub business set-token bakery --token-file token.txt")
@SUB_DOMAIN
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


def _describe(
    settings: Settings, find: Callable[[BusinessDocuments], Awaitable[Sequence[Document]]]
) -> list[dict[str, Any]]:
    decrypt = open_vault(settings).decrypt

    async def work(database: Database) -> list[dict[str, Any]]:
        found = [describe(document, decrypt) for document in await find(BusinessDocuments(database))]
        numbers = {number for business in found for number in business["phone_number_ids"]}
        last = await find_last_messages(database, numbers) if numbers else {}
        for business in found:
            of_business = [last[number] for number in business["phone_number_ids"] if number in last]
            business["last_message_at"] = max(of_business, default=None)
        return found

    return run_on_database(settings, work)


def _summarize(business: dict[str, Any]) -> tuple[str, ...]:
    assistant = (business["assistant"] or {}).get("kind") or "as ASSISTANT"
    numbers = ", ".join(business["phone_number_ids"])
    last = ago(business["last_message_at"])
    return (
        business["business"],
        business["name"],
        numbers,
        business["state"],
        _describe_token(business),
        last,
        str(assistant),
    )


def _describe_token(business: dict[str, Any]) -> str:
    token: str = business["access_token"]
    expires_at = business["token_expires_at"]
    if token != "set" or not isinstance(expires_at, datetime):  # noqa: S105 - a word about it
        return token
    left = expires_at - datetime.now(UTC)
    if left > _FAR:
        return f"until {expires_at:%Y-%m-%d}"
    return f"expires in {in_words(left)}" if left.total_seconds() > 0 else f"expired {in_words(left)} ago"
