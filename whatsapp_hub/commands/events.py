"""``whatsapp-hub events``: what Meta has told beside messages, and what of it means trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click

from whatsapp_hub.commands.completion import complete_sub_domain
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.printing import json_option, plain, print_json, print_table
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.event_log import EventLog, FieldCount, Scope, Trouble
from whatsapp_hub.tenants.managed import unknown_business

MOST_TROUBLES: Final = 50
_NOBODY: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Whose the numbers and accounts are."""

    by_number: Mapping[str, str]
    by_account: Mapping[str, str]
    scopes: Mapping[str, Scope]

    def of(self, event: FieldCount | Trouble) -> str:
        """Name the business that an event is about."""
        if event.phone_number_id is not None:
            return self.by_number.get(event.phone_number_id, _NOBODY)
        return self.by_account.get(event.account_id or "", _NOBODY)


async def read_names(database: Database) -> Names:
    """Read which business has which numbers and account."""
    scopes: dict[str, Scope] = {}
    async for document in database.businesses.find({}, {"subDomain": 1, "wabaId": 1, "whatsappPhoneNumberIds": 1}):
        numbers, account = document.get("whatsappPhoneNumberIds"), document.get("wabaId")
        listed = numbers if isinstance(numbers, list) else [numbers]
        scopes[str(document.get("subDomain") or document["_id"])] = Scope(
            phone_number_ids=[number for number in listed if isinstance(number, str)],
            account_id=account if isinstance(account, str) and account else None,
        )
    return Names(
        by_number={number: name for name, scope in scopes.items() for number in scope.phone_number_ids},
        by_account={scope.account_id: name for name, scope in scopes.items() if scope.account_id},
        scopes=scopes,
    )


@click.command(
    "events", short_help="What Meta told beside messages.", epilog="Example: whatsapp-hub events bakery --json"
)
@click.argument("sub_domain", metavar="[SUBDOMAIN]", required=False, shell_complete=complete_sub_domain)
@json_option("an object", ("kinds (business, kind, count, last_at)", "troubles (business, at, words)"))
def command(*, sub_domain: str | None, as_json: bool) -> None:
    """List what Meta told beside messages: how much of each kind, when last, and what of it means trouble.

    Restrictions of accounts, templates that were paused or rejected, quality that fell. Says nothing of customers.
    """

    async def work(database: Database) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        names = await read_names(database)
        if sub_domain is not None and sub_domain not in names.scopes:
            raise unknown_business(sub_domain)
        scope = names.scopes[sub_domain] if sub_domain is not None else None
        log = EventLog(database)
        counts, troubles = await log.count(scope), await log.find_troubles(scope)
        return _merge(counts, names), [
            {"business": names.of(trouble), "at": trouble.at, "words": trouble.words} for trouble in troubles
        ]

    kinds, troubles = run_on_database(read_settings(tenants=False), work)
    if as_json:
        print_json({"kinds": kinds, "troubles": troubles})
        return
    _print(kinds, troubles)


def _merge(counts: Sequence[FieldCount], names: Names) -> list[dict[str, Any]]:
    """Add up the numbers of each business."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for one in counts:
        key = (names.of(one), one.field)
        entry = merged.setdefault(key, {"business": key[0], "kind": key[1], "count": 0, "last_at": one.last_at})
        entry["count"] += one.count
        entry["last_at"] = max(entry["last_at"], one.last_at)
    return [merged[key] for key in sorted(merged)]


def _print(kinds: Sequence[Mapping[str, Any]], troubles: Sequence[Mapping[str, Any]]) -> None:
    if not kinds:
        click.echo("No events.")
        return
    rows = [
        (kind["business"], kind["kind"] or "(not understood)", str(kind["count"]), _time(kind["last_at"]))
        for kind in kinds
    ]
    print_table(("business", "kind", "count", "last"), rows)
    if troubles:
        click.echo()
    for trouble in troubles[:MOST_TROUBLES]:
        click.echo(f"{_time(trouble['at'])}  {plain(trouble['business'])}  {plain(trouble['words'])}")
    if len(troubles) > MOST_TROUBLES:
        click.echo(f"These are the newest {MOST_TROUBLES}; --json shows all.", err=True)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
