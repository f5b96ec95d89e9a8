"""What the guide that was asked for says, line by line, and what ``docs/guide.md`` has to name of it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_FENCE: Final = "```"
_FIGURE: Final = re.compile(r"(?<![\w.$-])\d[\w.,:/-]*")
_FLAG: Final = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_VARIABLE: Final = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_KEY: Final = re.compile(r"""^\s*(?:-\s+)?["']?([A-Za-z_][\w.-]*)["']?\s*[:=]""")
_JSON_KEY: Final = re.compile(r'"(\w+)"\s*:')
_CODE: Final = re.compile(r"`([^`]+)`")
_BOLD: Final = re.compile(r"\*\*([^*]+?):?\*\*")
_NUMBERING: Final = re.compile(r"^\s*\d+\.\s+")
_CHECK: Final = re.compile(r"^- \[ \] (.+)$")
_ROUTE: Final = re.compile(r"^(/[\w/*]+):")
_LABEL: Final = re.compile(r"\[([A-Za-z ]+)[\]:]|^\[(\w+)\]")
_BEGINNING: Final = re.compile(r"^[A-Za-z_-]+(?: [A-Za-z_-]+){1,2}")
_LIST: Final = re.compile(r"^(?:\d+\.|-) ")
_OF_NO_CONTENT: Final = ("| Component | Original | Optimized | Improvement |", "**Benefits:**", "**Deployment:**")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One line of the guide, and what has to be named of it, together in one row."""

    section: str
    line: str
    names: frozenset[str]


def read_guide(text: str) -> Iterator[Claim]:
    """Return every line that says something which can be looked up."""
    for section, lines in split_sections(text).items():
        language = ""
        for line in lines:
            if line.startswith(_FENCE):
                language = "" if language else line.removeprefix(_FENCE) or "text"
                continue
            names = _in_code(line, language) if language else _in_prose(line)
            if names and section != "Table of Contents" and line not in _OF_NO_CONTENT:
                yield Claim(section=section, line=line.strip(), names=frozenset(map(_plain, names)))


def split_sections(text: str) -> Mapping[str, list[str]]:
    """Return the lines under each heading, in order."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith(_FENCE)
        if not fenced and re.match(r"#{1,4} ", line):
            lines = sections.setdefault(line.lstrip("# "), [])
        else:
            lines.append(line)
    return sections


def find_unnamed(guide: str, ours: str) -> list[str]:
    """Return what no row of ours names, as section and line."""
    rows = {
        section: [_plain(line) for line in lines if line.startswith("|")]
        for section, lines in split_sections(ours).items()
    }
    return [
        f"{claim.section}: {claim.line}  {sorted(claim.names)}"
        for claim in read_guide(guide)
        if not any(all(_has(row, name) for name in claim.names) for row in rows.get(claim.section, ()))
    ]


def _has(row: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", row) is not None


def _plain(line: str) -> str:
    return line.replace("`", "").replace("\\|", "|")


def _in_code(line: str, language: str) -> set[str]:
    names = {match.rstrip(".,:") for match in _FIGURE.findall(line)}
    names |= {*_FLAG.findall(line), *_VARIABLE.findall(line), *_JSON_KEY.findall(line)}
    names |= {match[1] or match[2] for match in _LABEL.finditer(line) if language in {"text", "python"}}
    if route := _ROUTE.match(line):
        names.add(route[1])
    if language == "text" and not names and (beginning := _BEGINNING.match(line.strip())):
        names.add(beginning[0])
    if language != "text" and (key := _KEY.match(line)):
        names.add(key[1])
    if language == "bash" and (command := re.match(r"([a-z]+) ", line)):
        names.add(command[1])
    if language == "dockerfile" and (word := re.match(r"[A-Z]+\b", line)):
        names.add(word[0])
    return names


def _in_prose(line: str) -> set[str]:
    if check := _CHECK.match(line):
        return {check[1]}
    if line.startswith("|"):
        cells = [cell.strip(" *") for cell in line.strip("| ").split("|")]
        return set() if set(line) <= set("|- ") else {cells[0], *_figures(line)}
    text = re.sub(r"\*\*\d+\. ", "**", _NUMBERING.sub("", line))
    names = {word for code in _CODE.findall(text) for word in code.split()}
    names |= {bold.strip() for bold in _BOLD.findall(text)} | _figures(_CODE.sub("", text))
    if not names and _LIST.match(line) and (beginning := _BEGINNING.match(_LIST.sub("", line))):
        names.add(beginning[0])
    return names


def _figures(text: str) -> set[str]:
    return {match.rstrip(".,:") for match in _FIGURE.findall(text)}
