"""What the pages name is there: commands and their options, targets of make, files, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import pytest

from tests.docs.pages import PAGES, ROOT
from whatsapp_hub.cli import hub
from whatsapp_hub.settings import VARIABLES

CODE: Final = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
#: Where a command may begin: a line, after another one, or behind what runs it.
COMMAND: Final = re.compile(
    r"(?:^|[;&|(]|\b(?:sudo|exec \S+|--|END)\s|bin/|=\S* )[ \t]*whatsapp-hub[ \t]+([^;&|>#`\n]*)", re.MULTILINE
)
TARGET: Final = re.compile(r"(?:^|[;&|(] ?)make ((?:[A-Z]+=\S+ )*)([a-z]+)\b", re.MULTILINE)
FILE: Final = re.compile(r"^(?:whatsapp_hub|tests|bench|deploy|systemd|docs|requirements|\.ci)/[\w./-]*\w$")
SETTING: Final = re.compile(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b")
#: Capitals that are no settings of ours.
OTHERS: Final = re.compile(
    r"TIMING__\w+|HUB_\w+|MOTOR_MAX_WORKERS|LISTEN_\w+|NOTIFY_SOCKET|WATCHDOG_\w+|CREDENTIALS_DIRECTORY|NAME_FILE|"
    r"WABA_ID|MEDIA_ID|PHONE_NUMBER_ID|SECONDARY\w*|PYTHON\w*|APP_SECRET|[A-Z]+_SESSION"
)

#: Of the code, which some pages name.
CONSTANTS: Final = {
    name
    for path in (ROOT / "whatsapp_hub").rglob("*.py")
    for name in re.findall(r"^([A-Z][A-Z0-9_]+)(?:: Final)? =", path.read_text("utf-8"), re.MULTILINE)
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def codes(page: Path) -> Iterator[str]:
    """Yield every piece of code of a page, its continued lines joined."""
    for block, span in CODE.findall(page.read_text("utf-8")):
        if "──" not in block:  # a drawing
            yield (block or span).replace("\\\n", " ")


def explain(words: Sequence[str]) -> str | None:
    """Say what is wrong with a command of ours, or None."""
    command: click.Command = hub
    context = click.Context(hub)
    for word in words:
        if word.startswith("["):  # of a usage line: what follows is the reader's
            return None
        if word.startswith("-"):
            name = word.partition("=")[0]
            known = {option for parameter in command.get_params(context) for option in parameter.opts}
            if name not in known | {"--help", "--version", "-h"}:
                return f"{command.name} has no {name}"
        elif isinstance(command, click.Group):
            inner = command.get_command(context, word)
            if inner is None:
                return f"{command.name} has no {word}"
            command, context = inner, click.Context(inner, parent=context)
    return None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["business", "add", "--name", "x", "--token-stdin"], None),
        (["business", "set-token", "bakery"], None),
        (["serve", "--port=1"], None),
        (["busines"], "hub has no busines"),
        (["business", "ad"], "business has no ad"),
        (["dead", "list", "--jsn"], "list has no --jsn"),
    ],
)
def test_a_wrong_command_is_noticed(words: list[str], fault: str | None) -> None:
    assert explain(words) == fault


@each_page
def test_every_command_is_there_with_its_options(page: Path) -> None:
    commands = [match.rstrip(" )").rstrip("'\"") for code in codes(page) for match in COMMAND.findall(code)]
    wrong = {command: fault for command in commands if (fault := explain(_split(command)))}
    assert wrong == {}


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command.replace("...", ""), comments=True)
    except ValueError:
        return command.split()


def test_commands_beside_others_in_the_readme_are_there() -> None:
    """``whatsapp-hub dead list`` and, behind it, what stands for ``dead show``."""
    rows = re.findall(r"^\| `whatsapp-hub ([^`]+)`((?:, `[a-z-]+`)*) \|", PAGES[0].read_text("utf-8"), re.MULTILINE)
    commands = [[*first.split()[:-1], last] for first, more in rows for last in re.findall(r"`([a-z-]+)`", more)]
    assert len(commands) > 4
    assert [fault for command in commands if (fault := explain(command))] == []


def test_commands_are_found() -> None:
    found = sum(len(COMMAND.findall(code)) for page in PAGES for code in codes(page))
    assert found > 80


@each_page
def test_every_target_of_make_is_there(page: Path) -> None:
    targets = {*re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    named = {target for code in codes(page) for _, target in TARGET.findall(code)}
    assert named <= targets


@each_page
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = {code for code in codes(page) if FILE.match(code) and not code.startswith("deploy/secrets/")}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@each_page
def test_every_picture_is_there(page: Path) -> None:
    sources = re.findall(r'<img src="([^"]+)"', page.read_text("utf-8"))
    assert [source for source in sources if not (page.parent / source).exists()] == []


@each_page
def test_every_setting_that_is_named_is_there(page: Path) -> None:
    named = {
        name for code in codes(page) if "\n" not in code for name in SETTING.findall(code) if not OTHERS.fullmatch(name)
    }
    known = {*VARIABLES} | {f"{name}_FILE" for name in VARIABLES} | CONSTANTS
    prefixes = {name for name in named if any(variable.startswith(name) for variable in VARIABLES)}
    assert named - known - prefixes == set()
