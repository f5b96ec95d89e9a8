"""The documents: nothing of the guide is left out, and what they name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.guide import find_unnamed, read_guide, split_sections

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT.parent / "shared" / "deployment-guide.md"
OURS: Final = ROOT / "docs" / "guide.md"
DOCUMENTS: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
VERDICTS: Final = {"as written", "another way", "yours"}
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
EVIDENCE: Final = re.compile(r"`[^`]+`|\]\([^)]+\)")
LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")

needs_guide = pytest.mark.skipif(not GUIDE.exists(), reason="the guide is not beside this folder")


def test_a_line_is_told_by_its_names_and_figures() -> None:
    text = "## S\n\n- **Size:** 10,000 of `X_Y=2`\n- [ ] All done (3+)\n```bash\nrun --fast 8 \\\n```\n"
    assert [sorted(claim.names) for claim in read_guide(text)] == [
        ["10,000", "Size", "X_Y=2"],
        ["All done (3+)"],
        ["--fast", "8", "run"],
    ]
    named = "## S\n| Size: 10,000, `X_Y=2` |\n| All done (3+) |\n| `run --faster 8` |\n"
    assert [line.split("  ")[0] for line in find_unnamed(text, named)] == ["S: run --fast 8 \\"]


@needs_guide
def test_every_line_of_the_guide_has_its_row() -> None:
    text = GUIDE.read_text()
    assert len([*read_guide(text)]) > 300
    assert find_unnamed(text, OURS.read_text()) == []


@needs_guide
def test_headings_stand_in_the_guides_order() -> None:
    wanted = [*dict.fromkeys(claim.section for claim in read_guide(GUIDE.read_text()))]
    assert [heading for heading in split_sections(OURS.read_text()) if heading in wanted] == wanted


def test_every_row_has_a_verdict_and_what_shows_it() -> None:
    lines = [line for line in OURS.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = [row for row in rows if row[:2] != ["The guide", "Verdict"]]
    assert len(rows) > 150
    wrong = [row for row in rows if len(row) != 4 or row[1] not in VERDICTS or not EVIDENCE.search(row[3])]
    assert wrong == []


def test_every_test_that_is_named_exists() -> None:
    named = {(document.name, *match) for document in DOCUMENTS for match in TEST.findall(document.read_text())}
    assert len(named) > 50
    assert [entry for entry in sorted(named) if not _has_test(*entry[1:])] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [*_broken_links(document)] == []


def _has_test(file: str, name: str) -> bool:
    path = ROOT / file
    return path.exists() and re.search(rf"^\s*(?:async )?def {name}\(", path.read_text(), re.MULTILINE) is not None


def _broken_links(document: Path) -> Iterator[str]:
    for path, anchor in LINK.findall(document.read_text()):
        target = (document.parent / path) if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield f"{path}{'#' + anchor if anchor else ''}"


def _anchors(document: Path) -> set[str]:
    """Return the anchors as GitHub makes them of headings."""
    headings = (re.sub(r"[`*]", "", heading).lower() for heading in split_sections(document.read_text()))
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}
