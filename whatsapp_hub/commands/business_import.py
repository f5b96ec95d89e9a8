"""``whatsapp-hub business import``: businesses from JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from whatsapp_hub.commands.business_lines import Change, LineInvalid, Planner
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED
from whatsapp_hub.commands.printing import json_option, plain, print_json, progress
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.errors import BusinessRefused
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.managed import BusinessDocuments


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a line."""

    line: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a file."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


KEYS: Final = ("added", "changed", "unchanged", "faults")


@click.command("import", epilog="Example: whatsapp-hub business import businesses.jsonl --dry-run")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--strict", is_flag=True, help="Write nothing at all if any line has a fault.")
@json_option("an object", KEYS)
@click.pass_context
def import_businesses(ctx: click.Context, *, file: Path, dry_run: bool, strict: bool, as_json: bool) -> None:
    """Add and change businesses from a file of JSON lines, or from stdin with -.

    The fields are those of `business export`. A line with a subdomain that is there changes that business: what the
    line names is set, null takes a field away, what it does not name stays. Others are added; they need name, wabaId
    and whatsappPhoneNumberIds. A secret is written as the export does, or as {"clear": "..."}, and is stored encrypted.

    A line with a fault is left out and told with its number, the others are done; --strict does all or nothing. No line
    takes a number from a business that is switched on. The same file once more changes nothing. Nothing is asked of
    Meta: `doctor` looks at the tokens.

    Exit status: 0 all done, 1 for faults, 2 for wrong usage.
    """
    settings = read_settings(tenants=True)
    lines = list(_read_lines(file))
    outcome = Outcome()
    changes = _plan(settings, lines, outcome)
    if dry_run or (strict and outcome.faults):
        _sort_in(changes, outcome)
    else:
        run_on_database(settings, lambda database: _apply(database, changes, outcome))
    written = not dry_run and not (strict and outcome.faults)
    if as_json:
        print_json(asdict(outcome))
    else:
        _print(outcome, changes, written=written)
    ctx.exit(FAILED if outcome.faults else 0)


def _read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as exc:
        raise click.UsageError(f"{file} cannot be read ({exc.strerror}): name a file, or - for stdin.") from None
    for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if line.strip():
            yield number, line


def _plan(settings: Settings, lines: Sequence[tuple[int, bytes]], outcome: Outcome) -> list[tuple[int, Change]]:
    documents = run_on_database(settings, lambda database: BusinessDocuments(database).find_all())
    planner = Planner(documents, open_vault(settings), datetime.now(UTC))
    changes: list[tuple[int, Change]] = []
    for number, line in lines:
        try:
            changes.append((number, planner.plan(line)))
        except LineInvalid as exc:
            outcome.faults.append(Fault(line=number, words=str(exc)))
    return changes


def _sort_in(changes: Sequence[tuple[int, Change]], outcome: Outcome) -> None:
    for _, change in changes:
        _note(change, outcome)


def _note(change: Change, outcome: Outcome) -> None:
    kind = outcome.unchanged if not change.paths else outcome.added if change.before is None else outcome.changed
    kind.append(change.sub_domain)


async def _apply(database: Database, changes: Sequence[tuple[int, Change]], outcome: Outcome) -> None:
    documents = BusinessDocuments(database)
    for number, change in progress("Importing", changes):
        try:
            await _write(documents, change)
        except BusinessRefused as refused:  # somebody else has written meanwhile
            outcome.faults.append(Fault(line=number, words=str(refused)))
        else:
            _note(change, outcome)


async def _write(documents: BusinessDocuments, change: Change) -> None:
    if change.before is None:
        await documents.add(change.after)
    elif change.paths:
        if change.claims_numbers:
            await documents.refuse_contest(change.after)
        await documents.change(change.before, change.values, change.unset)


def _print(outcome: Outcome, changes: Sequence[tuple[int, Change]], *, written: bool) -> None:
    for fault in sorted(outcome.faults, key=lambda fault: fault.line):
        click.echo(f"Line {fault.line}: {plain(fault.words)}", err=True)
    for _, change in changes:
        if change.before is not None and change.sub_domain in outcome.changed:
            click.echo(f"{change.sub_domain}: {', '.join(map(plain, change.paths))}")
    counts = f"{len(outcome.added)} added, {len(outcome.changed)} changed, {len(outcome.unchanged)} as they were"
    if written:
        click.echo(f"{counts}, {len(outcome.faults)} with faults.")
    else:
        click.echo(f"Nothing was written. It would be: {counts}, {len(outcome.faults)} with faults.")
