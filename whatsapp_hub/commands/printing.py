"""How commands print: tables and fields that stay whole in a pipe, and nothing that moves the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_JSON: Final = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60))


def json_option(form: str, keys: Sequence[str]) -> Callable[[F], F]:
    """Add ``--json``; its keys stand in the help, and are a promise."""
    words = f"Print JSON: {form} with {', '.join(keys)}."
    return click.option("--json", "as_json", is_flag=True, help=words)


def print_json(value: object) -> None:
    """Print JSON for programs: times as ISO 8601 in UTC, to the second."""
    click.echo(orjson.dumps(value, option=_JSON))


def progress(label: str, items: Sequence[T]) -> Iterator[T]:
    """Yield the items with a progress bar on stderr, at a terminal only: there somebody waits."""
    with click.progressbar(items, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def in_words(span: timedelta) -> str:
    """Say how long that is, in its largest unit: 3 days."""
    seconds = abs(span.total_seconds())
    for unit, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return "under a minute"


def ago(moment: datetime | None) -> str:
    """Say how long ago that was."""
    return "-" if moment is None else f"{in_words(datetime.now(UTC) - moment)} ago"


def plain(text: object) -> str:
    """Return a text with what could steer a terminal replaced: the dashboard's users write these documents."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as it is in a pipe and folded to a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def print_fields(fields: Mapping[str, object], *, indent: str = "") -> None:
    """Print one value a line, with those of an inner mapping below it."""
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        label = f"{indent}{name.replace('_', ' '):<{width}}"
        match value:
            case {}:
                click.echo(label.rstrip())
                print_fields(value, indent=f"{indent}  ")
            case list():
                click.echo(f"{label}{', '.join(map(plain, value)) or '-'}")
            case bool():
                click.echo(f"{label}{'yes' if value else 'no'}")
            case datetime():
                click.echo(f"{label}{value:%Y-%m-%d %H:%M:%S}Z")
            case _:
                click.echo(f"{label}{'-' if value is None else plain(value)}")
