"""How a business stands, in words for the operator (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from whatsapp_hub.http.console.held import HeldNumber
from whatsapp_hub.http.console.troubles import next_step
from whatsapp_hub.telemetry.alerts import TOKEN_EXPIRES_SOON
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.table import Contest, Problem

SERVING: Final = "serving"
HELD: Final = "held"
FAULTY: Final = "faulty"
CONTESTED: Final = "contested"
OFF: Final = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of businesses besides their documents."""

    held: Sequence[HeldNumber]
    contests: Sequence[Contest]
    problems: Sequence[Problem]
    expiries: Mapping[str, datetime]

    def in_need(self, now: datetime) -> frozenset[str]:
        """Return the subdomains of those that somebody has to look at."""
        return frozenset(
            (
                *(held.business for held in self.held),
                *(name for contest in self.contests for name in contest.sub_domains),
                *(problem.business for problem in self.problems),
                *(name for name, at in self.expiries.items() if at - now <= TOKEN_EXPIRES_SOON),
            )
        )


def describe(business: Business, known: Circumstances) -> dict[str, Any]:
    """Return what a page may show of a business: nothing of its secrets but whether they can be used."""
    state, why, step, command = _find_state(business, known)
    return {
        "business": business.sub_domain,
        "name": business.name,
        "phone_number_ids": business.phone_number_ids,
        "switched_on": business.enabled,
        "state": state,
        "why": why,
        "next": step,
        "command": command,
        "token_expires_at": _write_time(business.token_expires_at),
        "assistant": business.assistant.kind if business.assistant else None,
    }


def _find_state(business: Business, known: Circumstances) -> tuple[str, str | None, str | None, str | None]:
    """Return the state, why it is that, what to do next, and the command for it."""
    if not business.enabled:
        return OFF, None, None, None
    if held := _find_held(business, known.held):
        return HELD, held.reason, *next_step(held)
    if contest := _find_lost(business, known.contests):
        names = ", ".join(contest.sub_domains)
        why = f"phone number id {contest.phone_number_id} is claimed by {names}"
        return CONTESTED, why, "Switch all but one of them off, or take the number out of their documents.", None
    reasons = [business.fault, *(one.reason for one in known.problems if one.business == business.sub_domain)]
    if fault := next(filter(None, reasons), None):
        return FAULTY, fault, "Mend its document:", f"whatsapp-hub business show {business.sub_domain}"
    return SERVING, None, None, None


def _find_held(business: Business, held: Sequence[HeldNumber]) -> HeldNumber | None:
    numbers: Collection[str] = business.phone_number_ids
    return next((one for one in held if one.phone_number_id in numbers and one.business in _names(business)), None)


def _names(business: Business) -> tuple[str, ...]:
    return (business.sub_domain, "other")  # a number that several claim is held in nobody's name


def _find_lost(business: Business, contests: Sequence[Contest]) -> Contest | None:
    numbers: Collection[str] = business.phone_number_ids
    lost = (one for one in contests if one.phone_number_id in numbers and one.kept_by != business.sub_domain)
    return next(lost, None)


def _write_time(when: datetime | None) -> str | None:
    return None if when is None else f"{when:%Y-%m-%dT%H:%M:%SZ}"
