"""The pages of the documentation, and what is found in them (pure but for the reading)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md")))
#: Stands above a command that stays in the foreground, and is not shown.
OWN_TERMINAL: Final = "<!-- in a terminal of its own -->"
_BLOCK: Final = re.compile(
    r"^(?P<mark><!-- [^\n]* -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code as it stands in a page."""

    language: str
    text: str
    own_terminal: bool


def read_page(name: str) -> str:
    """Return the text of a page in ``docs``."""
    return (DOCS / name).read_text("utf-8")


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, down to the next one of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = page.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, *languages: str) -> Iterator[Block]:
    """Yield the blocks in these languages, in order."""
    for match in _BLOCK.finditer(text):
        if match["language"] in languages:
            own = OWN_TERMINAL in (match["mark"] or "")
            yield Block(language=match["language"], text=match["text"], own_terminal=own)
