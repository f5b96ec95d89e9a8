"""What ``doctor`` found, as values (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How one finding is to be taken."""

    OK = "ok"
    #: Worth knowing; nothing is broken.
    NOTE = "note"
    #: Something does not work, or will not for long.
    MEND = "mend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    words: str
    remedy: str = ""


def ok(check: str, words: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(check=check, verdict=Verdict.OK, words=words)


def note(check: str, words: str, remedy: str = "") -> Finding:
    """Say something that the operator should know."""
    return Finding(check=check, verdict=Verdict.NOTE, words=words, remedy=remedy)


def mend(check: str, words: str, remedy: str = "") -> Finding:
    """Say what is wrong, and what to do about it."""
    return Finding(check=check, verdict=Verdict.MEND, words=words, remedy=remedy)
