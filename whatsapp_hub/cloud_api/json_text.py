"""JSON in and out, for what others wrote (pure).

orjson is fast and strict. A verified body that it refuses (a lone surrogate, ``NaN``, a number beyond a double) may
still hold the messages of customers, so the standard library gets a second look at it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import orjson

from whatsapp_hub.errors import PayloadInvalid

#: How deep a body may be nested and still be taken apart.
MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 4_000  # Python refuses to read longer integers
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def read_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for one that is nested deeper than ``MAX_DEPTH``.

    Raises:
        PayloadInvalid: it is not JSON, or not an object.

    """
    try:
        value = read(body)
    except RecursionError:
        if not _may_be_object(body):
            raise PayloadInvalid from None
        return None
    except ValueError:
        raise PayloadInvalid from None
    if not isinstance(value, dict):
        raise PayloadInvalid
    # Counting is cheap, and a body with few brackets cannot be deep.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _too_deep(value):
        return None
    return value


def read(body: bytes) -> Any:
    """Read any JSON. Raises ``ValueError`` for what is none, ``RecursionError`` for what is too deep for both parsers.

    What JSON cannot say (``NaN``, an infinite or endless number) is read as text, so that it can be written again.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body, parse_constant=str, parse_float=_float_or_text, parse_int=_int_or_text)


def write(value: object) -> bytes:
    """Write a value that was read as JSON. Lone surrogates stay as escapes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def write_sorted(value: object) -> bytes:
    """Write a value so that the order of its keys does not show."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def is_clean(text: str) -> bool:
    """Tell whether a text can be encoded; one with a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str) -> str:
    """Replace what cannot be encoded."""
    return text if is_clean(text) else text.encode(errors="replace").decode()


def _float_or_text(literal: str) -> float | str:
    value = float(literal)
    return value if math.isfinite(value) else literal


def _int_or_text(literal: str) -> int | str:
    return int(literal) if len(literal) <= _MAX_DIGITS else literal


def _too_deep(value: dict[str, Any]) -> bool:
    level: list[dict[str, Any] | list[Any]] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _may_be_object(body: bytes) -> bool:
    """Tell whether what is too deep to parse looks like an object: braces around it, and as many opened as closed.

    It need not be exact: what passes is stored unread.
    """
    bare = _STRINGS.sub(b"", body.strip())
    pairs = ((b"{", b"}"), (b"[", b"]"))
    return (
        bare[:1] == b"{" and bare[-1:] == b"}" and all(bare.count(left) == bare.count(right) for left, right in pairs)
    )
