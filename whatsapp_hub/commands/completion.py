"""``whatsapp-hub completion``: what a shell needs to complete our commands, and businesses where they are at hand."""

from __future__ import annotations

import re
from typing import Final

import click
import pymongo
from click.shell_completion import get_completion_class

from whatsapp_hub.cli import PROGRAM
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.database import Database
from whatsapp_hub.errors import HubError

VARIABLE: Final = "_WHATSAPP_HUB_COMPLETE"  # click's name for it
#: Nobody waits longer for a completion; a database that is further away completes nothing.
QUICK_S: Final = 0.5
MOST: Final = 50

_INSTALL: Final = {
    "bash": "whatsapp-hub completion bash > ~/.local/share/bash-completion/completions/whatsapp-hub",
    "zsh": 'whatsapp-hub completion zsh > "${fpath[1]}/_whatsapp-hub"',
    "fish": "whatsapp-hub completion fish > ~/.config/fish/completions/whatsapp-hub.fish",
}


def complete_sub_domain(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Find the subdomains that begin like this; none where that is not quick."""

    async def find(database: Database) -> list[str]:
        query = {"subDomain": {"$regex": f"^{re.escape(incomplete)}"}}
        with pymongo.timeout(QUICK_S):
            found = await database.businesses.find(query, {"subDomain": 1}).sort("subDomain").to_list(MOST)
        return [document["subDomain"] for document in found]

    try:
        return run_on_database(read_settings(tenants=False), find, first_answer_s=QUICK_S)
    except HubError:  # it is only a convenience
        return []


SUB_DOMAIN: Final = click.argument("sub_domain", metavar="SUBDOMAIN", shell_complete=complete_sub_domain)


@click.command(
    "completion",
    short_help="Print what a shell needs to complete commands.",
    epilog="Example: whatsapp-hub completion bash > ~/.local/share/bash-completion/completions/whatsapp-hub",
)
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    """Print the script with which bash, zsh or fish complete commands, options and, where quick, subdomains.

    Subdomains come from the database of the settings, where it answers within half a second.
    """
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 - click knows these three
    root = ctx.find_root().command
    click.echo(completion(root, {}, PROGRAM, VARIABLE).source())
    click.echo(f"To install it: {_INSTALL[shell]}\nThen open a new shell.", err=True)
