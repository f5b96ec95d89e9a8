"""The command line without a database: what there is, what is told, and with which exit status."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from whatsapp_hub import __version__
from whatsapp_hub.cli import COMMANDS, hub
from whatsapp_hub.commands.failures import as_failure, explain_bind_error, explain_database_error
from whatsapp_hub.errors import HubError, SettingsInvalid, StoreUnavailable


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(hub, arguments, env=env)


def all_commands(*, groups: bool = False) -> Iterator[list[str]]:
    context = click.Context(hub)
    for name in COMMANDS:
        yield from below([name], hub.get_command(context, name), groups=groups)


def below(names: list[str], command: click.Command | None, *, groups: bool) -> Iterator[list[str]]:
    if groups or not isinstance(command, click.Group):
        yield names
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from below([*names, name], inner, groups=groups)


def command_of(names: list[str]) -> click.Command:
    command: click.Command = hub
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"whatsapp-hub, version {__version__}\n")


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:")[2].partition("Example:")[0]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == [
        name for name in COMMANDS if name != "manual"
    ]
    assert "..." not in result.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("arguments", [[], *all_commands(groups=True)], ids=" ".join)
def test_every_command_has_help_with_an_example(arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert " ".join(("Example: whatsapp-hub", *arguments)) in words
    assert command_of(arguments).help


@pytest.mark.parametrize("arguments", list(all_commands(groups=True)), ids=" ".join)
def test_every_option_has_help(arguments: list[str]) -> None:
    options = [one for one in command_of(arguments).params if isinstance(one, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("arguments", list(all_commands(groups=True)), ids=" ".join)
def test_examples_are_right_usage(arguments: list[str]) -> None:
    """Each example parses: no option in it is misspelt or missing."""
    words = shlex.split((command_of(arguments).epilog or "").removeprefix("Example: ").partition(" > ")[0])
    assert words[0] == "whatsapp-hub"
    command: click.Command = hub
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        command, rest = command_of([*words[1 : words.index(rest[0])], rest[0]]), rest[1:]
    command.make_context("example", rest).close()


def test_whatever_says_what_is_there_says_it_in_json_too() -> None:
    """And its help names the keys."""
    silent = {"serve", "business enable", "business disable", "business set-token", "business add", "business key add"}
    silent |= {"business key revoke", "business subscribe", "business test", "dead retry", "dead discard", "erase"}
    silent |= {"business export", "completion", "manual"}  # which print something else for programs
    for names in all_commands():
        option = next((one for one in command_of(names).params if one.name == "as_json"), None)
        assert (option is None) is (" ".join(names) in silent), names
        if isinstance(option, click.Option):
            assert " with " in str(option.help), names


def test_page_of_the_commands_is_current() -> None:
    """``whatsapp-hub manual > docs/commands.md`` makes it so."""
    page = (Path(__file__).parents[2] / "docs/commands.md").read_text("utf-8")
    result = run("manual")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == page.splitlines()
    for names in all_commands(groups=True):
        command = command_of(names)
        assert command.hidden or f"# whatsapp-hub {' '.join(names)}\n" in page
        assert all(
            command.hidden or option in page for one in command.params for option in one.opts if option[0] == "-"
        )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_and_says_how_to_install_it(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_WHATSAPP_HUB_COMPLETE" in result.stdout
    assert f"To install it: whatsapp-hub completion {shell} > " in result.stderr


def complete(*words: str, **env: str) -> list[str]:
    """Ask as bash does when the tabulator is pressed after the last word."""
    given = {"_WHATSAPP_HUB_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("whatsapp-hub", *words))}
    result = CliRunner().invoke(
        hub, [], prog_name="whatsapp-hub", env={**given, "COMP_CWORD": str(len(words)), **env}, complete_var=None
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_commands_and_options_are_completed() -> None:
    assert complete("bus") == ["business"]
    assert complete("business", "se") == ["set-token"]
    assert complete("doctor", "--o") == ["--offline"]


def test_database_that_is_away_completes_nothing_and_says_nothing() -> None:
    away = {"MONGODB_URI": "mongodb://127.0.0.1:1/", "MONGODB_DB_NAME": "x"}
    assert complete("business", "show", "b", **away) == []
    assert complete("business", "show", "b") == []


def test_commands_are_those_of_the_contract_and_what_was_added() -> None:
    business = ["add", "list", "show", "enable", "disable", "set-token", "check"]
    business += ["export", "import", "subscribe", "test"]
    dead = ["list", "show", "retry", "discard"]
    assert sorted(map(tuple, all_commands())) == sorted(
        [(name,) for name in ("serve", "demo", "doctor", "erase", "events", "rotate-secrets", "completion", "manual")]
        + [("business", name) for name in business]
        + [("business", "key", name) for name in ("add", "list", "revoke")]
        + [("dead", name) for name in dead]
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["dead", "show"],
        ["demo", "--json"],
        ["demo", "--port", "70000"],
        ["dead", "list", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_says_how_to_get_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "--help" in result.stderr
    assert not result.stdout


def test_serve_lists_every_fault_at_once() -> None:
    result = run("serve", "--port", "high", LOG_LEVEL="LOUD")
    assert result.exit_code == 2
    for fault in ("PORT: 'high'", "LOG_LEVEL: 'LOUD'", "MONGODB_URI", "MONGODB_DB_NAME", "ENCRYPTION_SECRET"):
        assert f"\n  {fault}" in result.stderr
    for fault in ("ASSISTANT: missing; choose who writes the replies: echo", "WHATSAPP_APP_SECRET"):
        assert f"\n  {fault}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_other_commands_ask_only_for_the_settings_that_they_need() -> None:
    of_tenants = run("business", "list", PORT="high")
    assert of_tenants.exit_code == 2
    assert [line.split(":")[0].strip() for line in of_tenants.stderr.splitlines()[1:]] == [
        "PORT",
        "MONGODB_URI",
        "MONGODB_DB_NAME",
        "ENCRYPTION_SECRET",
    ]
    of_the_inbox = run("dead", "list")
    assert of_the_inbox.exit_code == 2
    assert [line.split(":")[0].strip() for line in of_the_inbox.stderr.splitlines()[1:]] == [
        "MONGODB_URI",
        "MONGODB_DB_NAME",
    ]


def test_database_that_is_down_is_told_in_words() -> None:
    result = run("dead", "list", MONGODB_URI="mongodb://user:hunter2@127.0.0.1:1/", MONGODB_DB_NAME="x")
    assert result.exit_code == 1
    assert "No database could be reached" in result.stderr
    assert "MONGODB_URI" in result.stderr
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.output


def test_serve_does_not_load_the_demo() -> None:
    code = (
        "import sys; from whatsapp_hub.cli import hub; hub.get_command(None, 'serve');"
        "assert 'whatsapp_hub.server' in sys.modules; assert 'whatsapp_hub.demo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ServerSelectionTimeoutError("10.1.2.3:27017"), "No database could be reached"),
        (OperationFailure("user hunter", 18), "does not accept the user or the password"),
        (OperationFailure("not authorized on x", 13), "may not do this"),
        (OperationFailure("something", 96), "error 96"),
        (WTimeoutError("waiting"), "on a majority"),
        (NetworkTimeout("10.1.2.3:27017"), "did not answer in time"),
        (ConnectionFailure("10.1.2.3:27017"), "connection to the database failed"),
        (ConfigurationError("nope.invalid"), "MONGODB_URI cannot be used"),
        (None, "did not confirm in time"),
    ],
)
def test_store_unavailable_says_why_and_what_to_do(error: Exception | None, words: str) -> None:
    unavailable = StoreUnavailable()
    unavailable.__cause__ = error
    failure = as_failure(unavailable)
    assert words in failure.message
    assert "doctor" in failure.message
    assert not any(secret in failure.message for secret in ("10.1.2.3", "hunter", "nope.invalid"))
    assert failure.exit_code == 1


def test_error_that_is_no_operation_is_named() -> None:
    assert explain_database_error(ValueError("secret")) == "The database did not do this (ValueError)."


def test_settings_exit_2_and_everything_else_1() -> None:
    assert as_failure(SettingsInvalid(["A: b", "C: d"])).exit_code == 2
    assert as_failure(SettingsInvalid(["A: b", "C: d"])).message.endswith("\n  A: b\n  C: d")
    assert (as_failure(HubError("words")).exit_code, as_failure(HubError("words")).message) == (
        1,
        "words: `whatsapp-hub doctor` looks closer.",
    )


def test_bind_errors_name_the_way_out() -> None:
    assert "--port" in str(explain_bind_error(OSError(98, "in use"), "127.0.0.1 port 80"))
    assert "--host" in str(explain_bind_error(OSError(99, "cannot assign"), "192.0.2.1 port 80"))
    assert "known here" in str(explain_bind_error(OSError(socket.EAI_NONAME, "no such name"), "nohost port 80"))
    assert "known here" in str(explain_bind_error(socket.gaierror(socket.EAI_AGAIN, "later"), "nohost port 80"))
    assert explain_bind_error(OSError(5, "I/O error"), "127.0.0.1 port 80") is None
