"""How commands print: tables and fields that stay whole in a pipe, and nothing that moves the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


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
            case _:
                click.echo(f"{label}{'-' if value is None else plain(value)}")
