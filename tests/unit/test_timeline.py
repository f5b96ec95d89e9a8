"""What is known of a dead letter, in order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from whatsapp_hub.commands.timeline import build_timeline


def at(second: int) -> datetime:
    return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)


def stamp(second: int) -> int:
    return int(at(second).timestamp())


def letter(**values: Any) -> dict[str, Any]:
    return {
        "attempts": 1,
        "place": stamp(1),
        "arrival": stamp(2) * 10**9,
        "reason": "131026 undeliverable",
        "dead_at": at(30),
    } | values


def test_events_come_in_order_with_those_without_a_time_first() -> None:
    assert build_timeline(letter(deliveries=2)) == [
        (None, "asked for an answer 1 time"),
        (None, "delivered by Meta 2 more times, and taken once"),
        (at(1), "written, by Meta's clock"),
        (at(2), "received"),
        (at(30), "given up: 131026 undeliverable"),
    ]


def test_message_of_the_business_itself_says_so() -> None:
    origin = {"business": "1", "key": "00aa11bb22cc", "digest": "d"}
    part = {"state": "waiting", "attempt": 0}
    assert build_timeline(letter(deliveries=1, origin=origin, parts=[part])) == [
        (None, "sent by the business itself, with its API key 00aa11bb22cc"),
        (None, "asked for 1 more time under the same Idempotency-Key, and taken once"),
        (None, "part 1 of the message was not sent"),
        (at(2), "received"),
        (at(30), "given up: 131026 undeliverable"),
    ]


def test_parts_say_how_far_they_came() -> None:
    parts = [
        {"state": "sent", "attempt": 2, "times": {"sent": stamp(4), "failed": stamp(5)}, "error": 131026},
        {"state": "sending", "attempt": 1},
        {"state": "waiting", "attempt": 0},
    ]
    words = [what for _, what in build_timeline(letter(parts=parts))]
    assert "part 1 of the reply was sent, in 2 attempts" in words
    assert "part 2 of the reply may have been sent, in 1 attempt" in words
    assert "part 3 of the reply was not sent" in words
    assert words[-3:] == [
        "part 1 of the reply: Meta says sent",
        "part 1 of the reply: Meta says failed (error 131026)",
        "given up: 131026 undeliverable",
    ]


def test_retried_letter_shows_the_retry_instead_of_the_arrival_it_replaced() -> None:
    events = build_timeline(letter(retried=True, place=stamp(20)))
    assert (at(20), "put back by an operator") in events
    assert not any(what == "received" for _, what in events)


def test_time_beyond_all_calendars_is_no_reason_to_fail() -> None:
    assert build_timeline(letter(place=10**18))[1] == (None, "written, by Meta's clock")
