"""SVG made fit for a page: said in words, and without the scripts that code hosts do not run."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

_SVG: Final = "{http://www.w3.org/2000/svg}"
_FLAME_WIDTH_PX: Final = 1180
_LETTER_PX: Final = 7.2  # of the 12 px monospace that py-spy sets
_SHORTEST: Final = 3  # letters: fewer say nothing

ET.register_namespace("", _SVG.strip("{}"))
ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def label(file: Path, words: str) -> None:
    """Say in words what a picture shows."""
    spoken = f'<svg role="img" aria-label="{html.escape(words)}" '
    file.write_text(file.read_text("utf-8").replace("<svg ", spoken, 1), "utf-8")


def settle_flame_graph(file: Path, words: str) -> None:
    """Write into a flame graph of py-spy what its script would write, and take the script out; titles stay."""
    tree = ET.parse(file)
    root = tree.getroot()
    for script in root.findall(f"{_SVG}script"):
        root.remove(script)
    for text in root.findall(f"{_SVG}text"):
        root.remove(text)  # its title is a command line, the others are for the script
    root.attrib.pop("onload", None)
    for group in root.iter(f"{_SVG}g"):
        title, rect, caption = (group.find(f"{_SVG}{name}") for name in ("title", "rect", "text"))
        if title is None or rect is None or caption is None:
            continue
        width_px = float(rect.attrib["width"].rstrip("%")) / 100 * _FLAME_WIDTH_PX
        name = (title.text or "").rpartition(" (")[0]
        letters = int(width_px / _LETTER_PX) - 1
        caption.text = name if len(name) <= letters else f"{name[: letters - 2]}.." if letters >= _SHORTEST else ""
    tree.write(file, encoding="utf-8", xml_declaration=True)
    label(file, words)
