"""Make the tables of ``docs/configuration.md``: every setting, from the settings themselves and ``.env.example``.

``make .venv/all.stamp && .venv/bin/python -m tests.docs.configuration`` writes the page; a test holds it to the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from tests.contract.test_environment import ENOUGH, TABLE
from whatsapp_hub.settings import INSTRUCTIONS, Settings, Timing

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "configuration.md"
EXAMPLE: Final = ROOT / ".env.example"
#: Another value for each, which a test sets and sees to it that it has its effect.
OTHER: Final = {variable.name: variable.text for variable in TABLE}
#: What a value of each type is, by the name of the type in ``settings_fields``.
WORDS: Final = {
    "MongoUri": "a URI that the driver understands: `mongodb://` or `mongodb+srv://`",
    "DatabaseName": 'a name, at most 63 bytes, without spaces and `./\\"$`',
    "SecretStr": "text",
    "SecretList": "texts with commas between",
    "str": "text",
    "bool": "`true` or `false`",
    "RateText": "a rate",
    "OptionalRateText": "a rate, or empty: no limit",
    "Networks": "networks with commas between",
    "SecretRedisUrl": "a URL: `redis://` or `rediss://`",
    "HttpUrl": "a URL: `http://` or `https://`",
    "SecretHttpUrl": "a URL: `http://` or `https://`",
    "AdminToken": "text, 24 characters at least",
    "GraphVersion": "a version: `v` and two numbers",
    "Factories": "`name=package.module:factory`, with commas between",
    "Level": "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
    "Levels": "`logger=LEVEL`, with commas between",
    "Path": "a path",
    "Literal['json', 'text']": "`json` or `text`",
}
#: Whose types say less than there is to say.
TAKES: Final = {
    "ASSISTANT": "`echo`, `openai`, `http`, `none` or a name from `ASSISTANTS`",
    "HOST": "an address of this machine",
    "PORT": "a whole number, 0 to 65535; 0: any that is free",
    "AI_TRANSCRIPTION_MODEL": "text, or empty: off",
}

BEGIN: Final = "<!-- made by python -m tests.docs.configuration -->\n"
END: Final = "<!-- end of what is made -->\n"
HEADER: Final = """
| Variable | Default | Takes | Meaning | Example |
|---|---|---|---|---|
"""

TIMING: Final = """
## The protocol's own times

Tests shrink them; in production the defaults are meant, and the figures of [reliability.md](reliability.md) are theirs.

| Variable | Default | Takes |
|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One variable as ``.env.example`` tells it."""

    topic: str
    name: str
    meaning: str
    offered: str


def read_entries(text: str) -> Iterator[Entry]:
    """Read the example: headings, comments, and the variables below each comment."""
    topic, comment = "", list[str]()
    fresh = True
    for line in text.splitlines():
        if heading := re.match(r"# --- (.+?) -+$", line):
            topic, comment = heading[1], []
        elif assignment := re.match(r"#?([A-Z0-9_]+)=(.*)$", line):
            fresh = True
            yield Entry(topic=topic, name=assignment[1], meaning=" ".join(comment), offered=assignment[2])
        elif topic and line.startswith("# "):
            comment = [line[2:]] if fresh else [*comment, line[2:]]
            fresh = False


def render(page: str) -> str:
    """Return the page with its tables made anew; what stands around them stays."""
    before, _, rest = page.partition(BEGIN)
    return "".join([before, BEGIN, *_tables(), "\n", END, rest.partition(END)[2]])


def _tables() -> Iterator[str]:
    topic = ""
    for entry in read_entries(EXAMPLE.read_text("utf-8")):
        if entry.topic != topic:
            topic = entry.topic
            yield f"\n## {topic.replace('`', '')}\n{HEADER}"
        yield _row(entry)
    yield TIMING
    for name, field in Timing.model_fields.items():
        yield f"| `TIMING__{name.upper()}` | `{_plain(field.default)}` | {_bounds('', field)} |\n"


def _row(entry: Entry) -> str:
    name = entry.name.lower()
    field = Settings.model_fields[name]
    kind = str(Settings.__annotations__[name]).removesuffix(" | None")
    secret = " *secret*" if "Secret" in kind or kind in {"MongoUri", "AdminToken"} else ""
    default = _default(entry.name, field)
    takes = TAKES.get(entry.name) or WORDS.get(kind) or _bounds(kind, field)
    example = entry.offered if entry.offered and f"`{entry.offered}`" != default else OTHER[entry.name]
    cells = [f"`{entry.name}`{secret}", default, takes, _mark(entry.meaning), f"`{example}`"]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _mark(words: str) -> str:
    """Set the names in a comment as code, and make a link of the page that it names."""
    words = re.sub(r"(?<![\w`])(/[a-z]+(?:/(?:\w+|\*))*|[A-Z_]{3,}\w*(?:=\w+)?)(?![\w`])", _as_code, words)
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", words)


def _as_code(match: re.Match[str]) -> str:
    word = match[0]
    return f"`{word}`" if word.startswith("/") or word.partition("=")[0] in OTHER else word


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if name in ENOUGH:
        return "**needed**"
    if value == INSTRUCTIONS:
        return "friendly, correct, brief"
    return f"`{text}`" if (text := _plain(value)) else "unset"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return "" if value is None or value == {} else str(value)


def _bounds(kind: str, field: FieldInfo) -> str:
    """Say in words what number it takes, from what the field checks."""
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    whole = "int" in repr(field.annotation) and "float" not in repr(field.annotation)
    words = ["a whole number" if whole else "a number"]
    if "Gt" in bounds:
        words.append(f"above {bounds['Gt'].gt}")
    if "Ge" in bounds and "Le" in bounds:
        words.append(f"{bounds['Ge'].ge} to {bounds['Le'].le}")
    elif "Ge" in bounds:
        words.append(f"{bounds['Ge'].ge} at least")
    if len(words) == 1:
        raise ValueError(f"no words for the type {kind!r}")
    return ", ".join(words)


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
