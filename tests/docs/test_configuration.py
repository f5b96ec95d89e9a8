"""``docs/configuration.md`` has every setting, and what it says of each is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.contract.test_environment import COMPANIONS
from tests.docs.configuration import EXAMPLE, PAGE, read_entries, render
from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import VARIABLES, Timing, load_settings

TEXT: Final = PAGE.read_text("utf-8")
ROW: Final = re.compile(r"^\| `([A-Z_]+)`(?: \*secret\*)? \| (.+?) \| (.+?) \| (.+) \| `(.+)` \|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    name: str
    default: str
    takes: str
    meaning: str
    example: str


ROWS: Final = [Row(*cells) for cells in ROW.findall(TEXT)]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_page_is_up_to_date() -> None:
    assert render(TEXT) == TEXT, "run: .venv/bin/python -m tests.docs.configuration"


def test_every_variable_has_its_row() -> None:
    assert sorted(row.name for row in ROWS) == sorted(VARIABLES)
    times = re.findall(r"^\| `TIMING__([A-Z_]+)` \|", TEXT, re.MULTILINE)
    assert times == [name.upper() for name in Timing.model_fields]


def test_comments_of_the_example_are_read_whole() -> None:
    text = "# before\n# --- One -----\n\n# First\n# and second.\n#A=1\n#B=\n# Third.\nC=x=y\n"
    entries = [(entry.topic, entry.name, entry.meaning, entry.offered) for entry in read_entries(text)]
    both = "First and second."
    assert entries == [("One", "A", both, "1"), ("One", "B", both, ""), ("One", "C", "Third.", "x=y")]


def test_each_variable_has_a_comment_of_its_own() -> None:
    meanings = [entry.meaning for entry in read_entries(EXAMPLE.read_text("utf-8"))]
    assert len(meanings) == len({*meanings}) == len(VARIABLES)


@each_row
def test_example_is_taken(row: Row) -> None:
    env = {row.name: row.example} | COMPANIONS.get(row.name, {})
    companions = {"ASSISTANT": "openai"} if row.name == "AI_MODEL" else {}
    load_settings(env=env | companions, env_file=None)


def _outside(takes: str) -> Iterator[str]:
    """Yield what lies just beyond the bounds that the page tells."""
    if above := re.search(r"above (\d+)", takes):
        yield above[1]
    if least := re.search(r"(\d+) at least", takes):
        yield str(int(least[1]) - 1)
    if span := re.search(r"(\d+) to (\d+)", takes):
        yield from (str(int(span[1]) - 1), str(int(span[2]) + 1))


def test_numbers_beyond_the_bounds_that_are_told_are_refused() -> None:
    beyond = [(row.name, value) for row in ROWS if "number" in row.takes for value in _outside(row.takes)]
    assert len(beyond) > 15
    for name, value in beyond:
        with pytest.raises(SettingsInvalid, match=f"^{name}: |{name}: .* too (small|large)"):
            load_settings(env={name: value}, env_file=None)
