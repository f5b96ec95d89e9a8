"""Looking into JSON that others wrote (pure): nothing in it is sure to be there, or to have its type."""

from __future__ import annotations

from typing import Any

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.errors import PayloadInvalid

Json = Any  # anything may stand anywhere


def object_in(text: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else. Never raises."""
    try:
        return json_text.read_object(text)
    except PayloadInvalid:
        return None


def field(part: Json, key: str) -> Json:
    """Return what stands under a key, whatever it stands in; None where there is nothing to be had."""
    return part.get(key) if isinstance(part, dict) else None


def elements(value: Json) -> list[Json]:
    """Return a list's elements; none of anything else."""
    return value if isinstance(value, list) else []


def text(part: Json, key: str) -> str:
    """Return the text under a key, with what cannot be encoded replaced; empty where there is none."""
    value = field(part, key)
    return json_text.clean(value) if isinstance(value, str) else ""


def number(part: Json, key: str) -> str:
    """Return a number as it was written, or a text in its place; empty where there is neither."""
    value = field(part, key)
    if isinstance(value, str):
        return json_text.clean(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def whole(part: Json, key: str) -> int | None:
    """Return the whole number under a key, also one that is written as a text."""
    value = field(part, key)
    if isinstance(value, str) and len(value) <= 16 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def degrees(part: Json, key: str) -> float | None:
    """Return the coordinate under a key."""
    value = field(part, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -180 <= value <= 180:
        return None
    return float(value)


def flag(part: Json, key: str) -> bool:
    """Tell whether a key says ``true``."""
    return field(part, key) is True


def plain(value: Json) -> str:
    """Return a value as words: a text as it is, everything else as JSON."""
    return json_text.clean(value) if isinstance(value, str) else json_text.write(value).decode()
