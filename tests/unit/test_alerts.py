"""When an alert is due: the decision alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from whatsapp_hub.telemetry.alerts import (
    HOUR_S,
    INTERVAL_S,
    MOST_BUSINESSES,
    OTHER,
    Alert,
    AlertBook,
    AlertKind,
    held_alerts,
    token_alerts,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
each_kind = pytest.mark.parametrize("kind", AlertKind)


def lasting(kind: AlertKind, business: str | None = "b101", reason: str = "why") -> Alert:
    return Alert(kind=kind, business=business, reason=reason)


def note_letters(book: AlertBook, *minutes: int, business: str = "b101") -> None:
    for minute in minutes:
        book.note_dead_letter(business, f"reason {minute}", NOW + timedelta(minutes=minute))


@each_kind
def test_what_lasts_is_told_again_when_its_interval_is_over(kind: AlertKind) -> None:
    book, alert = AlertBook(), lasting(kind)
    times = [now for now in range(0, 60 * 3600, 600) if book.take(float(now), [alert]) == alert]
    assert times == [now for now in range(0, 60 * 3600, 600) if now % INTERVAL_S[kind] == 0]


@each_kind
def test_no_interval_is_under_an_hour(kind: AlertKind) -> None:
    assert INTERVAL_S[kind] >= HOUR_S


def test_each_business_and_each_kind_has_an_hour_of_its_own() -> None:
    book = AlertBook()
    alerts = [
        lasting(AlertKind.BUSINESS_HELD),
        lasting(AlertKind.BUSINESS_HELD, "b102"),
        lasting(AlertKind.DEAD_LETTER),
    ]
    told = [book.take(1.0, alerts) for _ in range(4)]
    assert told == [*alerts, None]


def test_what_is_over_before_it_was_due_is_not_told() -> None:
    book = AlertBook()
    assert book.take(0.0, [lasting(AlertKind.BUSINESS_HELD)]) is not None
    assert book.take(10.0, [lasting(AlertKind.BUSINESS_HELD)]) is None
    assert book.take(HOUR_S, []) is None


def test_letters_that_died_in_the_quiet_hour_are_one_alert_after_it() -> None:
    book = AlertBook()
    note_letters(book, 0)
    first = book.take(0.0, [])
    note_letters(book, 5, 3, 9)
    assert first is not None
    assert book.take(HOUR_S - 1, []) is None
    second = book.take(HOUR_S, [])
    assert second is not None
    assert (first.count, second.count, second.reason) == (1, 3, "reason 9")
    assert book.take(3 * HOUR_S, []) is None


def test_database_comes_first_and_tokens_last() -> None:
    book = AlertBook()
    alerts = [lasting(kind) for kind in reversed(AlertKind)]
    told = [alert.kind for _ in alerts if (alert := book.take(0.0, alerts))]
    assert told == [
        AlertKind.DATABASE_DOWN,
        AlertKind.BUSINESS_HELD,
        AlertKind.DEAD_LETTER,
        AlertKind.TOKEN_EXPIRES,
    ]


def test_what_was_put_back_is_taken_again_with_what_happened_meanwhile() -> None:
    book = AlertBook()
    note_letters(book, 0, 1)
    taken = book.take(0.0, [])
    assert taken is not None
    note_letters(book, 2)
    book.put_back(taken, 30.0)
    assert book.take(29.0, []) is None
    again = book.take(30.0, [])
    assert again is not None
    assert (again.count, again.reason) == (3, "reason 2")


@pytest.mark.parametrize(("told_minute", "is_told_again"), [(0, True), (1, False), (2, False)])
def test_what_another_process_told_is_not_told_again(told_minute: int, is_told_again: bool) -> None:
    book = AlertBook()
    note_letters(book, 1)
    taken = book.take(0.0, [])
    assert taken is not None
    book.put_back(taken, 300.0, told_at=NOW + timedelta(minutes=told_minute))
    assert (book.take(300.0, []) is not None) == is_told_again


def test_what_is_kept_is_bounded() -> None:
    book = AlertBook()
    for number in range(MOST_BUSINESSES + 50):
        note_letters(book, 0, business=f"b{number}")
    taken = []
    while alert := book.take(0.0, []):
        taken.append(alert)
    assert len(taken) == MOST_BUSINESSES + 1
    assert [alert.count for alert in taken if alert.business == OTHER] == [50]


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (timedelta(days=7, minutes=1), None),
        (timedelta(days=7), "the access token expires in 7 days, on 2026-03-08"),
        (timedelta(hours=47), "the access token expires in 47 hours, on 2026-03-03"),
        (timedelta(0), "the access token expired on 2026-03-01"),
        (timedelta(days=-3), "the access token expired on 2026-02-26"),
    ],
)
def test_token_is_told_of_from_seven_days_ahead(left: timedelta, reason: str | None) -> None:
    assert [alert.reason for alert in token_alerts({"b101": NOW + left}, NOW)] == ([reason] if reason else [])


def test_held_numbers_of_a_business_are_one_alert() -> None:
    alerts = held_alerts([("b101", "why"), ("b102", "else"), ("b101", "why")])
    assert [(alert.business, alert.count) for alert in alerts] == [("b101", 2), ("b102", 1)]
