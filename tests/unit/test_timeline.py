"""What is known of a message, in order, and how long each step took."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from whatsapp_hub.inbox.timeline import Clock, Kind, build_timeline, say_duration

SECOND_NS = 10**9


def at(second: float) -> datetime:
    return datetime.fromtimestamp(stamp(0) + second, UTC)


def stamp(second: int) -> int:
    return int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()) + second


def ns(second: float) -> int:
    return stamp(0) * SECOND_NS + round(second * 1e3) * 10**6


def letter(**values: Any) -> dict[str, Any]:
    return {
        "state": "dead",
        "attempts": 1,
        "place": stamp(1),
        "arrival": ns(2),
        "reason": "131026 undeliverable",
        "dead_at": at(30),
    } | values


def answered(**values: Any) -> dict[str, Any]:
    part = {"state": "sent", "attempt": 1, "posted": [ns(3.5), ns(3.75)], "times": {"sent": stamp(3)}}
    return {
        "state": "done",
        "outcome": "replied",
        "attempts": 1,
        "place": stamp(1),
        "arrival": ns(2),
        "times": {"stored": ns(2.25), "begun": ns(2.5), "asked": ns(3), "answered": ns(3.25)},
        "parts": [part],
        "done_at": at(3.8),
    } | values


def told(document: dict[str, Any], turn: dict[str, Any] | None = None) -> list[tuple[datetime | None, str]]:
    timeline = build_timeline(document, turn)
    return [*((None, fact) for fact in timeline.facts), *((step.at, step.words) for step in timeline.steps)]


def test_events_come_in_order_with_those_without_a_time_first() -> None:
    assert told(letter(deliveries=2)) == [
        (None, "asked for an answer 1 time"),
        (None, "delivered by Meta 2 more times, and taken once"),
        (at(1), "written"),
        (at(2), "received"),
        (at(30), "given up: 131026 undeliverable"),
    ]


def test_answered_message_tells_each_step_and_how_long_it_took() -> None:
    timeline = build_timeline(answered())
    assert [(step.kind, step.since_s) for step in timeline.steps] == [
        (Kind.WRITTEN, None),
        (Kind.RECEIVED, 1.0),
        (Kind.STORED, 0.25),
        (Kind.BEGUN, 0.25),
        (Kind.ASKED, 0.5),
        (Kind.ANSWERED, 0.25),
        (Kind.POSTED, 0.25),
        (Kind.ACCEPTED, 0.25),
        (Kind.SENT, 0.0),
    ]
    assert timeline.reply_s == 1.75
    assert [step.kind for step in timeline.steps if step.clock is Clock.META] == [Kind.WRITTEN, Kind.SENT]
    assert [step.kind for step in timeline.steps if step.is_rough] == [Kind.RECEIVED, Kind.SENT], "next to Meta's times"


def test_delivery_stays_behind_the_send_however_wrong_the_clocks_are() -> None:
    part = {"state": "sent", "attempt": 1, "posted": [ns(40), ns(41)], "times": {"read": stamp(9), "sent": stamp(7)}}
    kinds = [step.kind for step in build_timeline(answered(parts=[part])).steps]
    assert kinds[-4:] == [Kind.POSTED, Kind.ACCEPTED, Kind.SENT, Kind.READ]


def test_message_answered_in_another_ones_turn_shows_that_turn() -> None:
    own = letter(state="done", outcome="in_turn", dead_at=None, attempts=0, done_at=at(3.4))
    kinds = [step.kind for step in build_timeline(own, answered()).steps]
    assert kinds == ["written", "received", "begun", "asked", "answered", "taken", "posted", "accepted", "sent"]


def test_message_of_the_business_itself_says_so() -> None:
    origin = {"business": "1", "key": "00aa11bb22cc", "digest": "d"}
    part = {"state": "waiting", "attempt": 0}
    assert told(letter(deliveries=1, origin=origin, parts=[part])) == [
        (None, "sent by the business itself, with its API key 00aa11bb22cc"),
        (None, "asked for 1 more time under the same Idempotency-Key, and taken once"),
        (None, "message was not sent"),
        (at(2), "received"),
        (at(30), "given up: 131026 undeliverable"),
    ]


def test_parts_say_how_far_they_came() -> None:
    parts = [
        {"state": "sent", "attempt": 2, "times": {"sent": stamp(4), "failed": stamp(5)}, "error": 131026},
        {"state": "sending", "attempt": 1},
        {"state": "waiting", "attempt": 0},
        {"state": "waiting", "attempt": 0, "dropped": True},
    ]
    words = [what for _, what in told(letter(parts=parts))]
    assert "part 1 of the reply was sent, in 2 attempts" in words
    assert "part 2 of the reply may have been sent, in 1 attempt" in words
    assert "part 3 of the reply was not sent" in words
    assert "part 4 of the reply was left out" in words
    assert words[-3:] == [
        "part 1 of the reply: Meta says sent",
        "part 1 of the reply: Meta says failed (error 131026)",
        "given up: 131026 undeliverable",
    ]


def test_retried_letter_keeps_what_was_before() -> None:
    deaths = [{"at": at(10), "reason": "failed 5 times"}]
    first = {"place": stamp(1), "arrival": ns(2)}
    retried = letter(retried=True, place=stamp(20), arrival=ns(20.5), first=first, deaths=deaths)
    assert told(retried)[1:] == [
        (at(1), "written"),
        (at(2), "received"),
        (at(10), "given up: failed 5 times"),
        (at(20.5), "put back by an operator"),
        (at(30), "given up: 131026 undeliverable"),
    ]


def test_letter_retried_before_that_was_kept_does_not_pretend_to_know() -> None:
    assert not any(what == "received" for _, what in told(letter(retried=True)))


def test_time_beyond_all_calendars_is_no_reason_to_fail() -> None:
    assert told(letter(place=10**18))[1] == (None, "written")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1.26, "1.3 s"),
        (12.6, "13 s"),
        (61, "1 min 1 s"),
        (3 * 3600 + 62, "3 h 1 min"),
        (2 * 86400 + 3600, "2 d 1 h"),
    ],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert say_duration(seconds) == words


def test_durations_known_to_a_second_do_not_pretend_to_more() -> None:
    assert [say_duration(s, whole_seconds=True) for s in (0.0, 1.4)] == ["under 1 s", "1 s"]
