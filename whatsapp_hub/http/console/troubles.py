"""What is wrong and what to do next, in words for the operator (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from whatsapp_hub.conversation.holds import HoldKind
from whatsapp_hub.http.console.held import HeldNumber
from whatsapp_hub.telemetry.alerts import token_alerts
from whatsapp_hub.tenants.table import Problem

MOST_OF_A_KIND: Final = 10

BAD: Final = "bad"
WARN: Final = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong."""

    level: str  #: ``bad``: customers wait for it; ``warn``: they may soon
    what: str
    next: str
    command: str | None = None
    page: str | None = None  #: of the console


def find_troubles(
    *,
    reasons: Sequence[str],
    held: Sequence[HeldNumber],
    dead: Mapping[str, int],
    problems: Iterable[Problem],
    expiries: Mapping[str, datetime],
    now: datetime,
) -> list[Trouble]:
    """Return everything that somebody has to look at, what is worst first."""
    told = {(one.business, one.reason) for one in held}
    others = [problem for problem in problems if (problem.business, problem.reason) not in told]
    page = "/console/businesses?state=attention"
    return [
        *map(_not_ready, reasons),
        *_bounded(
            [_describe_held(one) for one in held], BAD, "numbers are held", "/console/businesses?state=attention"
        ),
        *_describe_dead(dead),
        *_bounded([_describe_problem(problem) for problem in others], WARN, "documents have faults", page),
        *_bounded(_describe_expiries(expiries, now), WARN, "tokens expire soon", page),
    ]


def next_step(held: HeldNumber) -> tuple[str, str]:
    """Say what ends a hold, and the command for it."""
    match held.kind:
        case HoldKind.UNSERVED.value if held.reason.startswith("claimed"):
            return "Switch all but one of them off, or take the number out of their documents.", "whatsapp-hub doctor"
        case HoldKind.UNSERVED.value:
            return "Add the business that has this number:", "whatsapp-hub business add"
        case HoldKind.FAULT.value if "AccessToken" in held.reason:
            return "Enter its token anew with:", f"whatsapp-hub business set-token {held.business}"
        case HoldKind.FAULT.value:
            return "Mend its document; this says what is wrong with it:", f"whatsapp-hub business show {held.business}"
    if held.needs_token:
        return "Enter a new token with:", f"whatsapp-hub business set-token {held.business}"
    words = "Mend it in Meta's Business Manager; the hub tries again by itself every few minutes. This asks Meta:"
    return words, f"whatsapp-hub business check {held.business}"


def _not_ready(reason: str) -> Trouble:
    if reason == "stopping":
        return Trouble(
            level=WARN, what="This process is stopping.", next="Others take over; reload the page in a moment."
        )
    return Trouble(
        level=BAD,
        what=f"Webhooks are refused: {reason}.",
        next="Bring the database back. Nothing is lost: Meta delivers again, and the hub goes on by itself.",
        command="whatsapp-hub doctor",
    )


def _describe_held(held: HeldNumber) -> Trouble:
    step, command = next_step(held)
    if held.kind == HoldKind.UNSERVED.value:
        what = f"Messages to phone number id {held.phone_number_id} wait: {held.reason}."
    else:
        what = f"{held.business} cannot send: {held.reason}."
    return Trouble(level=BAD, what=what, next=f"Its messages are kept. {step}", command=command)


def _describe_dead(dead: Mapping[str, int]) -> list[Trouble]:
    counts = sorted(((count, business) for business, count in dead.items() if count), reverse=True)
    if not counts:
        return []
    total = sum(count for count, _ in counts)
    names = ", ".join(f"{business} {count}" for count, business in counts[:MOST_OF_A_KIND])
    what = f"{total} message{'s were' if total > 1 else ' was'} given up: {names}."
    return [Trouble(level=WARN, what=what, next="See why, then retry or discard.", page="/console/dead-letters")]


def _describe_problem(problem: Problem) -> Trouble:
    return Trouble(
        level=WARN,
        what=f"{problem.business}: {problem.reason}.",
        next="Mend that in the documents. This says more:",
        command="whatsapp-hub doctor",
    )


def _describe_expiries(expiries: Mapping[str, datetime], now: datetime) -> list[Trouble]:
    soonest = sorted(token_alerts(expiries, now), key=lambda alert: expiries[alert.business or ""])
    return [
        Trouble(
            level=WARN,
            what=f"{alert.business}: {alert.reason}.",
            next="Enter a new token with:",
            command=f"whatsapp-hub business set-token {alert.business}",
        )
        for alert in soonest
    ]


def _bounded(troubles: list[Trouble], level: str, what: str, page: str) -> list[Trouble]:
    rest = len(troubles) - MOST_OF_A_KIND
    if rest <= 0:
        return troubles
    more = Trouble(level=level, what=f"{rest} more {what}.", next="See them all:", page=page)
    return [*troubles[:MOST_OF_A_KIND], more]
