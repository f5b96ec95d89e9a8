"""The command line: what commands there are, and how what goes wrong is told.

Each command is imported when it is asked for, so that ``serve`` never loads the demo.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from whatsapp_hub import __version__
from whatsapp_hub.commands.failures import as_failure
from whatsapp_hub.errors import HubError

PROGRAM: Final = "whatsapp-hub"
#: In the order of the help; each lives in ``commands``, in the module of its name.
COMMANDS: Final = (
    "serve",
    "demo",
    "business",
    "doctor",
    "dead",
    "events",
    "erase",
    "rotate-secrets",
    "completion",
    "manual",
)


class Commands(click.Group):
    """The commands, each loaded on demand, and the one place where errors become words and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"whatsapp_hub.commands.{cmd_name.replace('-', '_')}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names without loading what they name: a shell waits for this."""
        names = [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete) and name != "manual"]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except HubError as exc:
            raise as_failure(exc) from exc


@click.command(
    cls=Commands,
    epilog="Example: whatsapp-hub demo",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM)
def hub() -> None:
    """Answer WhatsApp for many businesses, each message once and in order.

    \b
    whatsapp-hub demo      try it: nothing needed, nothing left behind
    whatsapp-hub doctor    what is still missing before `serve`
    whatsapp-hub serve     the production server, from the environment
    """  # noqa: D301 - click's mark for lines that stay as they are


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    hub(args=arguments, prog_name=PROGRAM)
