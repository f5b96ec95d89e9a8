"""``whatsapp-hub business key``: the keys with which businesses send from outside."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from whatsapp_hub.commands.completion import SUB_DOMAIN
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.commands.printing import json_option, plain, print_json, print_table
from whatsapp_hub.tenants.api_keys import ID_BYTES, SECRET_BYTES, make_key, read_api_key
from whatsapp_hub.tenants.managed import BusinessDocuments

T = TypeVar("T")

MAX_LABEL: Final = 100
MAX_KEYS: Final = 100  #: of one business; more are a sign that nobody revokes any

KEYS: Final = ("id", "label", "created_at")


@click.group(
    "key", short_help="Make, list and revoke API keys.", epilog="Example: whatsapp-hub business key list bakery"
)
def key() -> None:
    """Make, list and revoke the keys with which a business sends from outside (docs/sending.md).

    Only a hash of a key is stored. Running servers see a change within seconds (without change streams, on a standalone
    MongoDB, within half a minute).
    """


@key.command("add", epilog="Example: whatsapp-hub business key add bakery --label shop > key.txt")
@SUB_DOMAIN
@click.option("--label", default="", help="What it is for, to know it by in the list.")
def add_key(*, sub_domain: str, label: str) -> None:
    """Make a key and print it, this once: it is stored nowhere."""
    label = label.strip()
    if len(label) > MAX_LABEL or not label.isprintable():
        raise click.UsageError(f"--label: too long or more than a line; write at most {MAX_LABEL} characters.")
    plain_key, stored = make_key(secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    entry = {"id": stored.id, "hash": stored.hash, "label": label, "createdAt": datetime.now(UTC)}

    async def work(businesses: BusinessDocuments) -> None:
        document = await businesses.get(sub_domain)
        if len(_entries(document)) >= MAX_KEYS:
            raise Failure(f"{sub_domain!r} has {MAX_KEYS} keys", "`whatsapp-hub business key revoke` those not in use")
        await businesses.add_to(document, "apiKeys", entry)

    _on_documents(work)
    click.echo(plain_key)
    click.echo(f"This is the key {stored.id} of {plain(sub_domain)}; it is not shown again.", err=True)


@key.command("list", epilog="Example: whatsapp-hub business key list bakery")
@SUB_DOMAIN
@json_option("a list of objects", KEYS)
def list_keys(*, sub_domain: str, as_json: bool) -> None:
    """List a business's keys: their ids, labels and age, never the keys."""
    keys = [_describe(entry) for entry in _entries(_on_documents(lambda businesses: businesses.get(sub_domain)))]
    if as_json:
        print_json(keys)
    elif not keys:
        click.echo(f"{plain(sub_domain)} has no keys: `whatsapp-hub business key add {plain(sub_domain)}` makes one.")
    else:
        print_table(("id", "label", "made"), [(one["id"], one["label"], _date(one["created_at"])) for one in keys])


@key.command("revoke", epilog="Example: whatsapp-hub business key revoke bakery 3f9a01c2d4e5")
@SUB_DOMAIN
@click.argument("key_id", metavar="ID")
def revoke_key(*, sub_domain: str, key_id: str) -> None:
    """Take a key back: what comes with it is refused from now on. What it had accepted before is still sent."""

    async def work(businesses: BusinessDocuments) -> None:
        document = await businesses.get(sub_domain)
        if not any(entry.get("id") == key_id for entry in _entries(document)):
            raise Failure(f"{sub_domain!r} has no key {key_id!r}", "`whatsapp-hub business key list` shows them")
        await businesses.take_from(document, "apiKeys", {"id": key_id})

    _on_documents(work)
    click.echo(f"The key {plain(key_id)} of {plain(sub_domain)} is revoked.")


def _on_documents(work: Callable[[BusinessDocuments], Awaitable[T]]) -> T:
    return run_on_database(read_settings(tenants=True), lambda database: work(BusinessDocuments(database)))


def _entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stored = document.get("apiKeys")
    return [entry for entry in stored if read_api_key(entry)] if isinstance(stored, list) else []


def _describe(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": entry["id"], "label": str(entry.get("label") or ""), "created_at": entry.get("createdAt")}


def _date(value: object) -> str:
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else "-"
