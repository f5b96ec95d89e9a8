"""Tracebacks without what was worked on: where it happened and what kind of error it was (pure).

An error that somebody else's code raises may repeat what a customer wrote, so its own words are left out. Ours never
do, so they stay.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from whatsapp_hub.errors import HubError


def describe(error: BaseException) -> str:
    """Return an error's traceback, and those of what led to it, as text."""
    return "\n".join(_lines(error, seen=set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in seen:
        yield from _lines(earlier, seen)
        yield "which led to:" if error.__cause__ else "while that was handled:"
    yield "Traceback (most recent call last):"
    for entry in traceback.format_tb(error.__traceback__):
        yield entry.rstrip("\n")
    yield _name(type(error)) + (f": {error}" if isinstance(error, HubError) else "")
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if id(member) not in seen:
                yield "in this group:"
                yield from _lines(member, seen)


def _name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
