"""The pictures: those that a script draws are what it draws now, and the rooms in them exist."""

from __future__ import annotations

import re
import runpy
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.docs.pages import DOCS, ROOT

PICTURES: Final = DOCS / "pictures"
ARCHITECTURE: Final = PICTURES / "architecture.svg"


def test_drawing_of_the_house_is_up_to_date() -> None:
    script = runpy.run_path(str(PICTURES / "make_architecture.py"))
    assert script["draw"]() == ARCHITECTURE.read_text("utf-8"), "run: docs/pictures/make_architecture.py"


def test_rooms_in_the_drawing_exist() -> None:
    rooms = re.findall(r">(\w+/\w+)</text>", ARCHITECTURE.read_text("utf-8"))
    assert len(rooms) == 8
    assert [room for room in rooms if not (ROOT / "whatsapp_hub" / f"{room}.py").exists()] == []


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.name)
def test_picture_is_one_that_a_code_host_shows(path: object) -> None:
    """Well-formed, said in words, and without anything that a page's policy would block."""
    root = ET.parse(str(path)).getroot()
    assert root.get("aria-labelledby") or root.get("aria-label")
    text = ET.tostring(root, encoding="unicode")
    assert "<script" not in text
    assert not re.search(r'(?:href|src|url\()\s*=?\s*["\']?https?:', text)
