"""``whatsapp-hub manual``: every command with its options, as the page ``docs/commands.md``."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Final

import click

from whatsapp_hub.cli import PROGRAM

_WIDTH: Final = 120
_HEAD: Final = f"""\
# Commands

Every command of `{PROGRAM}`, as `--help` tells it. `{PROGRAM} manual` makes this page, and a test holds it to be
current.

Exit status of all of them: 0 fine, 1 something went wrong or was found wrong, 2 wrong usage or settings, with every
fault listed. `--json` prints JSON for programs, with the keys that its help names and times in UTC; everything else
that is printed is for people, and may change. Settings come from the environment, from `.env`, from files and from
systemd's credentials, as for `serve`.
"""


@click.command("manual", hidden=True, epilog=f"Example: {PROGRAM} manual > docs/commands.md")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print all commands with their options as Markdown."""
    click.echo("\n".join(write_manual(ctx.find_root().command)), nl=False)


def write_manual(root: click.Command) -> Iterator[str]:
    """Yield the lines of the page."""
    yield from _HEAD.splitlines()
    yield ""
    for name, one in walk(root, PROGRAM):
        yield from _describe(name, one)


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below this one that is not hidden, with its whole name."""
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        if found is not None and not found.hidden:
            yield f"{name} {inner}", found
            yield from walk(found, f"{name} {inner}")


def _describe(name: str, command: click.Command) -> Iterator[str]:
    yield f"## {name}" if name.count(" ") == 1 else f"### {name}"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield from textwrap.wrap(_escape(" ".join(paragraph.split())), _WIDTH)
        yield ""
    context = click.Context(command, info_name=name)
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    yield from (f"`{usage}`, for example:", "", "```sh", (command.epilog or "").removeprefix("Example: "), "```", "")
    options = [record for one in command.params if (record := one.get_help_record(context)) and record[1]]
    if options:
        yield "| Option | |"
        yield "|---|---|"
        yield from (f"| `{written}` | {_escape(words)} |" for written, words in options)
        yield ""


def _escape(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")
