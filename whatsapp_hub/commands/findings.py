"""What was found wrong or right: as values, and as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Final

import click

from whatsapp_hub.commands.printing import plain, print_json


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


#: The keys of a finding in JSON.
FINDING_KEYS: Final = tuple(field.name for field in fields(Finding))
_COLOURS: Final = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MEND: "red"}


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print findings, each with its remedy below it, and how many there are to mend."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:<5}", fg=_COLOURS[finding.verdict])
        click.echo(f"{verdict} {finding.check:<{width}}  {plain(finding.words)}")
        if finding.remedy:
            click.echo(f"      {'':<{width}}  -> {plain(finding.remedy)}")
    count = sum(finding.verdict is Verdict.MEND for finding in findings)
    click.echo(f"\n{count} to mend." if count else "\nAll good.")
