"""``whatsapp-hub dead``: the messages that were not answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, Final

import click

from whatsapp_hub.commands.completion import complete_sub_domain
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED, Failure
from whatsapp_hub.commands.printing import json_option, plain, print_fields, print_json
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.dead import DeadLetter, DeadLetters
from whatsapp_hub.inbox.dead_advice import advise
from whatsapp_hub.inbox.timeline import Step, Timeline, say_duration
from whatsapp_hub.tenants.managed import unknown_business

#: So many are retried or discarded by one ``--all``.
MOST_AT_ONCE: Final = 100_000
_SINCE_WIDTH: Final = len("59 min 59 s")
KEYS: Final = (*(field.name for field in fields(DeadLetter)), "business")
_BUSINESS: Final = click.option(
    "--business",
    "sub_domain",
    metavar="SUBDOMAIN",
    shell_complete=complete_sub_domain,
    help="Only those of this business.",
)


@click.group(
    "dead",
    short_help="Messages that were not answered: list, retry, discard.",
    epilog="Example: whatsapp-hub dead list",
)
def command() -> None:
    """List, show, retry and discard dead letters: messages that were not answered, each with its reason."""


@command.command("list", epilog="Example: whatsapp-hub dead list --business bakery")
@_BUSINESS
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@json_option("a list of objects", KEYS)
def list_letters(*, sub_domain: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the newest first."""

    async def work(database: Database) -> tuple[list[DeadLetter], dict[str, str]]:
        letters = await _find(database, sub_domain, limit)
        return letters, await _name_businesses(database, {letter.phone_number_id for letter in letters})

    letters, businesses = run_on_database(read_settings(tenants=False), work)
    if as_json:
        entries = [asdict(letter) | {"business": businesses.get(letter.phone_number_id)} for letter in letters]
        print_json(entries)
        return
    for letter in letters:
        _print_letter(letter, businesses.get(letter.phone_number_id))
    if not letters:
        click.echo("No dead letters.")
    elif len(letters) == limit:
        click.echo(f"These are the newest {limit}; --limit shows more.", err=True)


@command.command("show", epilog="Example: whatsapp-hub dead show 106540352242922:wamid.HBgL...")
@click.argument("letter_id", metavar="ID")
@json_option("an object", (*KEYS, "timeline"))
def show_letter(*, letter_id: str, as_json: bool) -> None:
    """Show what is known of one dead letter, in the order in which it happened; not what was written, nor by whom."""

    async def work(database: Database) -> tuple[DeadLetter, Timeline, str | None]:
        letters = DeadLetters(database)
        letter, timeline = await letters.get(letter_id), await letters.timeline(letter_id)
        if letter is None or timeline is None:
            raise _unknown(letter_id)
        businesses = await _name_businesses(database, {letter.phone_number_id})
        return letter, timeline, businesses.get(letter.phone_number_id)

    letter, timeline, business = run_on_database(read_settings(tenants=False), work)
    shown: dict[str, object] = asdict(letter) | {"business": business, "do": advise(letter.reason)}
    if as_json:
        facts: list[dict[str, object]] = [{"at": None, "what": fact} for fact in timeline.facts]
        shown["timeline"] = facts + [
            {"at": step.at, "what": step.words, "since_s": step.since_s, "clock": step.clock} for step in timeline.steps
        ]
        print_json(shown)
        return
    print_fields({name: _readable(shown[name]) for name in ("id", "business", "reason", "do", "members")})
    for fact in timeline.facts:
        click.echo(f"  {'-':<20}  {'':>{_SINCE_WIDTH}}  {plain(fact)}")
    for step in timeline.steps:
        click.echo(f"  {_time(step.at) if step.at else '-':<20}  {_since(step):>{_SINCE_WIDTH}}  {plain(step.words)}")


@command.command("retry", epilog="Example: whatsapp-hub dead retry --all --business bakery")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@_BUSINESS
@click.option("--all", "all_letters", is_flag=True, help="All of them; asks first.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.pass_context
def retry_letters(ctx: click.Context, /, **options: Any) -> None:
    """Put dead letters back at the end of their conversations' order; a running server answers them within seconds.

    What was said is decided anew, unless a part of the old reply has reached the customer: then the rest is sent.
    """
    ctx.exit(_apply("retry", "retried", DeadLetters.retry, options))


@command.command("discard", epilog="Example: whatsapp-hub dead discard 106540352242922:wamid.HBgL...")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@_BUSINESS
@click.option("--all", "all_letters", is_flag=True, help="All of them; asks first.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.pass_context
def discard_letters(ctx: click.Context, /, **options: Any) -> None:
    """Put dead letters away for good: they will not be answered."""
    ctx.exit(_apply("discard", "discarded", DeadLetters.discard, options))


def _apply(
    verb: str, done: str, action: Callable[[DeadLetters, str], Awaitable[bool]], options: Mapping[str, Any]
) -> int:
    """Do something to the letters that the options name; return the exit status."""
    settings = read_settings(tenants=False)
    ids: Sequence[str] = options["letter_ids"]
    if bool(ids) is options["all_letters"] or (ids and options["sub_domain"]):
        raise click.UsageError("name the letters by their ids, or all with --all (and --business); not both.")
    if options["all_letters"]:
        letters = run_on_database(settings, lambda database: _find(database, options["sub_domain"], MOST_AT_ONCE))
        ids = [letter.id for letter in reversed(letters)]  # those of one conversation keep their order
        if ids and not options["yes"]:
            click.confirm(f"{verb.capitalize()} {len(ids)} dead letter{'s' * (len(ids) > 1)}?", abort=True, err=True)

    async def work(database: Database) -> list[str]:
        letters = DeadLetters(database)
        return [letter_id for letter_id in ids if not await action(letters, letter_id)]

    unknown = run_on_database(settings, work) if ids else []
    for letter_id in unknown:
        click.echo(f"Error: {_unknown(letter_id).message}", err=True)
    click.echo(f"{len(ids) - len(unknown)} {done}.")
    return FAILED if unknown else 0


async def _find(database: Database, sub_domain: str | None, most: int) -> list[DeadLetter]:
    if sub_domain is None:
        return await DeadLetters(database).find(most=most)
    document = await database.businesses.find_one({"subDomain": sub_domain}, {"whatsappPhoneNumberIds": 1})
    if document is None:
        raise unknown_business(sub_domain)
    return await DeadLetters(database).find(phone_number_ids=_numbers(document), most=most)


async def _name_businesses(database: Database, phone_number_ids: set[str]) -> dict[str, str]:
    """Return the subdomain of the business that has each number; of a switched-on one where there are several."""
    query = {"whatsappPhoneNumberIds": {"$in": list(phone_number_ids)}}
    fields = {"subDomain": 1, "whatsappPhoneNumberIds": 1, "whatsappEnabled": 1, "isActive": 1}
    documents = await database.businesses.find(query, fields).to_list(None)
    documents.sort(key=lambda one: one.get("whatsappEnabled") is True and one.get("isActive") is True)
    return {number: str(one.get("subDomain") or one["_id"]) for one in documents for number in _numbers(one)}


def _numbers(document: Mapping[str, Any]) -> list[str]:
    numbers = document.get("whatsappPhoneNumberIds")
    return [number for number in (numbers if isinstance(numbers, list) else [numbers]) if isinstance(number, str)]


def _print_letter(letter: DeadLetter, business: str | None) -> None:
    facts = [
        business or "no business",
        _time(letter.died_at),
        f"{letter.attempts} attempt{'s' * (letter.attempts != 1)}",
        *([f"{letter.parts_sent} of {letter.parts} parts sent"] if letter.parts_sent else []),
        *(["retried before"] if letter.retried else []),
        letter.reason,
    ]
    click.echo(plain(letter.id))
    click.echo(f"  {plain(' · '.join(facts))}")


def _unknown(letter_id: str) -> Failure:
    return Failure(f"there is no dead letter {plain(letter_id)}", "`whatsapp-hub dead list` shows them")


def _readable(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _since(step: Step) -> str:
    """Say how long it took since the step before."""
    if step.since_s is None:
        return ""
    return say_duration(step.since_s, whole_seconds=step.is_rough)


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}Z"
