"""The troubleshooting of ``docs/operations.md``: every line of the guide's has its row, and no row is half empty."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.deploy.guide import find_unnamed, read_guide, split_sections
from tests.deploy.test_guide import GUIDE, needs_guide
from tests.docs.pages import read_page, section

SYMPTOMS: Final = section(read_page("operations.md"), "## Symptoms")
ROWS: Final = [
    [cell.strip() for cell in line.split("|")[1:-1]] for line in SYMPTOMS.splitlines() if line.startswith("| ")
]


def troubleshooting(guide: Path) -> str:
    """Return the guide's chapter of that name."""
    return section(guide.read_text("utf-8"), "## Troubleshooting")


@needs_guide
def test_every_symptom_and_solution_of_the_guide_has_its_row() -> None:
    chapter = troubleshooting(GUIDE)
    assert len([*read_guide(chapter)]) > 25
    assert find_unnamed(chapter, SYMPTOMS) == []
    wanted = [heading for heading in split_sections(chapter) if heading]
    assert len(wanted) == 5
    assert [heading for heading in split_sections(SYMPTOMS) if heading in wanted] == wanted


def test_every_row_says_what_is_seen_and_what_to_do() -> None:
    rows = [row for row in ROWS if row[1:] != ["What the hub shows", "Next step"]]
    assert len(rows) > 30
    assert [row for row in rows if len(row) != 3 or not all(row)] == []


def test_alerts_that_rows_lead_to_are_the_page_s_own() -> None:
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", read_page("operations.md"), re.MULTILINE)}
    named = {anchor for row in ROWS for name, anchor in re.findall(r"\[(\w+)\]\(#(\w+)\)", " ".join(row)) if name}
    assert len(named) > 10
    assert named <= headings | {"capacity"}
