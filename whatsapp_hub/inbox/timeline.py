"""What happened to a message, step by step, as its inbox document tells it (pure).

======================  ===================  ==================================================================
Stored as               Clock                Means
======================  ===================  ==================================================================
``place``               Meta's, seconds      the customer wrote it
``arrival``             the hub's, ns        its webhook had been read; nothing was stored yet
``times.stored``        the hub's, ns        the database had confirmed it: Meta gets its 200
``times.begun``         the hub's, ns        its turn began; of several attempts, the last one
``times.asked``         the hub's, ns        the assistant was asked, likewise
``times.answered``      the hub's, ns        the assistant's answer was there: it is decided
``parts.N.posted``      the hub's, ns        the last send of a part began, and Graph accepted it
``parts.N.times``       Meta's, seconds      Meta said ``sent``, ``delivered``, ``read`` or ``failed`` of a part
``done_at``             the hub's, ms        ended
``dead_at``, ``deaths`` the hub's, ms        given up; by the database's clock where a late status said so
``first``               as the above         ``place`` and ``arrival``, before a retry gave it a new place
======================  ===================  ==================================================================

Each rides a write that is made anyway, so a process that dies takes those with it that it had not written yet, and what
waited behind another message knows only when it was received and when it was taken into a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from whatsapp_hub.inbox.document import Outcome, PartState, State

#: What has to be left out of a document that is read for its times: what customers write, and who they are.
WITHOUT_WORDS: Final = {
    "item": 0,
    "profile_name": 0,
    "conversation": 0,
    "parts.body": 0,
    "parts.words": 0,
    "said": 0,
}
#: A time stands for all that comes before the next one: Meta tells whole seconds, the database keeps milliseconds.
_LATEST_IN_SECOND: Final = timedelta(seconds=1, microseconds=-1)
_LATEST_IN_MS: Final = timedelta(microseconds=999)


class Clock(StrEnum):
    """Whose clock a time is of."""

    HUB = "hub"
    META = "meta"  #: in whole seconds
    DATABASE = "database"


class Kind(StrEnum):
    """What a step is; the statuses are named as Meta names them."""

    WRITTEN = "written"
    RECEIVED = "received"
    STORED = "stored"
    BEGUN = "begun"
    ASKED = "asked"
    ANSWERED = "answered"
    POSTED = "posted"  #: a send has begun
    ACCEPTED = "accepted"  #: by Graph
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"
    TAKEN = "taken"  #: into another message's turn
    DONE = "done"
    DEAD = "dead"
    RETRIED = "retried"


_KEPT_IN_MS: Final = {Kind.DONE, Kind.DEAD, Kind.TAKEN}

_OF_A_TURN: Final = {
    "stored": (Kind.STORED, "stored, and confirmed to Meta"),
    "begun": (Kind.BEGUN, "its turn began"),
    "asked": (Kind.ASKED, "assistant asked"),
    "answered": (Kind.ANSWERED, "assistant answered"),
}

_SEND: Final = {Kind.POSTED: "sending began", Kind.ACCEPTED: "accepted by WhatsApp"}
_STATUSES: Final = {kind.value for kind in (Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.PLAYED, Kind.FAILED)}

_MINUTE_S: Final = 60.0
_TENTHS_BELOW_S: Final = 10.0
_UNITS: Final = ((86_400.0, "d", 3600.0, "h"), (3600.0, "h", _MINUTE_S, "min"), (_MINUTE_S, "min", 1.0, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened to a message."""

    kind: Kind
    words: str
    at: datetime | None  #: None where Meta told a time that no calendar has
    clock: Clock = Clock.HUB
    part: int | None = None  #: counts from 0
    since_s: float | None = None  #: seconds since the step before
    is_rough: bool = False  #: that is right to a second only, since Meta tells whole ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is known of a message: what has no time, and what happened, in order."""

    facts: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def reply_s(self) -> float | None:
        """Seconds from the arrival until Graph had accepted the last part so far; None where none was."""
        received = [step.at for step in self.steps if step.kind is Kind.RECEIVED and step.at]
        accepted = [step.at for step in self.steps if step.kind is Kind.ACCEPTED and step.at]
        return (max(accepted) - min(received)).total_seconds() if received and accepted else None


def build_timeline(document: Mapping[str, Any], turn: Mapping[str, Any] | None = None) -> Timeline:
    """Put what a document tells into order; ``turn`` is the document whose turn answered this message too."""
    steps = [*_arrivals(document), *_work(document), *_parts(document), *_ends(document)]
    if turn is not None:
        steps += [*(step for step in _work(turn) if step.kind is not Kind.STORED), *_parts(turn)]
    return Timeline(facts=tuple(_facts(document)), steps=_in_order(steps))


def _in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Sort by time, those without one first, and tell how long each took."""
    accepted = {step.part: step.at for step in steps if step.kind is Kind.ACCEPTED and step.at}
    beginning = datetime.min.replace(tzinfo=UTC)

    def key(step: Step) -> datetime:
        if step.at is None:
            return beginning
        if step.clock is not Clock.META or step.kind is Kind.WRITTEN:
            return step.at + _LATEST_IN_MS if step.kind in _KEPT_IN_MS else step.at
        # No clock is so wrong that a message is delivered before it was sent; what failed may be of an earlier send.
        earliest = step.at if step.kind is Kind.FAILED else accepted.get(step.part, step.at)
        return max(step.at + _LATEST_IN_SECOND, earliest)

    ordered: list[Step] = []
    before: Step | None = None
    order = list(Kind)
    for step in sorted(steps, key=lambda step: (key(step), order.index(step.kind))):
        ordered.append(step if before is None else _measured(step, before))
        before = step if step.at is not None else before
    return tuple(ordered)


def _measured(step: Step, before: Step) -> Step:
    """Tell how long a step took since the one before."""
    if step.at is None or before.at is None:
        return step
    since_s = max(0.0, (step.at - before.at).total_seconds())
    return replace(step, since_s=since_s, is_rough=Clock.META in {step.clock, before.clock})


def _arrivals(document: Mapping[str, Any]) -> Iterator[Step]:
    first = document.get("first") or ({} if document.get("retried") else document)
    if first:
        if "origin" not in document:
            yield Step(kind=Kind.WRITTEN, words="written", at=from_seconds(first["place"]), clock=Clock.META)
        yield Step(kind=Kind.RECEIVED, words="received", at=from_ns(first["arrival"]))
    for death in document.get("deaths", ()):
        yield _death(death["at"], death["reason"])
    if document.get("retried"):
        yield Step(kind=Kind.RETRIED, words="put back by an operator", at=from_ns(document["arrival"]))


def _work(document: Mapping[str, Any]) -> Iterator[Step]:
    times = document.get("times", {})
    for name, (kind, words) in _OF_A_TURN.items():
        if name in times:
            stored_by_us = name == "stored" and "origin" in document
            yield Step(kind=kind, words="stored" if stored_by_us else words, at=from_ns(times[name]))


def _ends(document: Mapping[str, Any]) -> Iterator[Step]:
    if document.get("dead_at") is not None:
        clock = Clock.DATABASE if document.get("late") else Clock.HUB
        yield _death(document["dead_at"], document.get("reason"), clock)
    if document["state"] != State.DONE.value or document.get("done_at") is None:
        return
    outcome = document.get("outcome")
    if outcome == Outcome.IN_TURN.value:
        yield Step(kind=Kind.TAKEN, words="answered together with another message", at=document["done_at"])
    elif outcome == Outcome.DISCARDED.value:
        yield Step(kind=Kind.DONE, words="put away by an operator: it gets no answer", at=document["done_at"])
    elif outcome == Outcome.NO_REPLY.value:
        yield Step(kind=Kind.DONE, words="finished: nothing had to be said", at=document["done_at"])
    elif not any(len(part.get("posted", ())) == len(_SEND) for part in document.get("parts", ())):
        yield Step(kind=Kind.DONE, words="finished: all of it is sent", at=document["done_at"])


def _death(at: datetime, reason: str | None, clock: Clock = Clock.HUB) -> Step:
    return Step(kind=Kind.DEAD, words=f"given up: {reason or 'no reason is known'}", at=at, clock=clock)


def _parts(document: Mapping[str, Any]) -> Iterator[Step]:
    for index, part in enumerate(document.get("parts", ())):
        name = _part_name(document, index)
        posted = part.get("posted", ())
        for (kind, words), ns in zip(_SEND.items(), posted, strict=False):
            yield Step(kind=kind, words=f"{name}: {words}", at=from_ns(ns), part=index)
        for status, seconds in part.get("times", {}).items():
            if status in _STATUSES:
                error = f" (error {part['error']})" if status == Kind.FAILED.value and part.get("error") else ""
                words = f"{name}: Meta says {status}{error}"
                yield Step(kind=Kind(status), words=words, at=from_seconds(seconds), clock=Clock.META, part=index)


def _part_name(document: Mapping[str, Any], index: int) -> str:
    whole = "message" if "origin" in document else "reply"
    return whole if len(document["parts"]) == 1 else f"part {index + 1} of the {whole}"


def _facts(document: Mapping[str, Any]) -> Iterator[str]:
    attempts, deliveries = document["attempts"], document.get("deliveries", 0)
    origin = document.get("origin")
    if origin:
        yield f"sent by the business itself, with its API key {origin['key']}"
    elif attempts > 1 or document["state"] != State.DONE.value:  # one is what everybody expects of an answered message
        yield f"asked for an answer {_times(attempts)}"
    if deliveries:
        more = f"{deliveries} more time{'s' * (deliveries != 1)}"
        yield (
            f"asked for {more} under the same Idempotency-Key, and taken once"
            if origin
            else f"delivered by Meta {more}, and taken once"
        )
    for index, part in enumerate(document.get("parts", ())):
        is_plain = part["state"] == PartState.SENT.value and part["attempt"] <= 1
        if not is_plain or len(part.get("posted", ())) < len(_SEND):
            yield _how_far(_part_name(document, index), part)


def _how_far(name: str, part: Mapping[str, Any]) -> str:
    words = {
        PartState.WAITING.value: "was not sent",
        PartState.SENDING.value: "may have been sent",
        PartState.SENT.value: "was sent",
    }
    attempt = part["attempt"]
    words_of_drop = "was left out" if part.get("dropped") else words.get(part["state"], part["state"])
    return f"{name} {words_of_drop}{f', in {attempt} attempt' if attempt else ''}{'s' * (attempt > 1)}"


def _times(count: int) -> str:
    return f"{count} time{'s' * (count != 1)}"


def say_duration(seconds: float, *, whole_seconds: bool = False) -> str:
    """Say how long something took, short enough for a table; ``whole_seconds``: it is not known better."""
    if seconds < 1:
        return "under 1 s" if whole_seconds else f"{seconds * 1e3:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s" if whole_seconds or seconds >= _TENTHS_BELOW_S else f"{seconds:.1f} s"
    for size_s, unit, smaller_s, smaller in _UNITS:
        if seconds >= size_s:
            return f"{seconds // size_s:.0f} {unit} {seconds % size_s // smaller_s:.0f} {smaller}"
    raise AssertionError


def from_seconds(seconds: float) -> datetime | None:
    """Return a unix time as a moment; None where no calendar has it, whatever a payload said."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def from_ns(nanoseconds: int) -> datetime | None:
    """Return a unix time in nanoseconds as a moment; None where no calendar has it."""
    return from_seconds(nanoseconds / 1e9)
