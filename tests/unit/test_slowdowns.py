"""Who may send when: paces, pauses, and the way back."""

from __future__ import annotations

from collections import Counter

import pytest

from whatsapp_hub.cloud_api.errors import Scope
from whatsapp_hub.conversation.slowdowns import BACK_AFTER_S, PRUNE_AT, Sending, Slowdowns

ALICE = Sending(number="101", account="a")
ALICES_SECOND = Sending(number="102", account="a")
BOB = Sending(number="201", account="b")
NOW = 1000.0


def moments(slowdowns: Slowdowns, sending: Sending, count: int, now: float = NOW) -> list[float]:
    slots = [slowdowns.reserve(sending, now) for _ in range(count)]
    return [now if slot is None else slot.moment for slot in slots]


def in_any_second(times: list[float]) -> int:
    return max(sum(start <= time < start + 1.0 for time in times) for start in times)


def test_at_most_80_are_sent_in_any_second_and_a_burst_goes_at_once() -> None:
    times = moments(Slowdowns(amount=80, per_s=1.0), ALICE, 400)

    assert times[:80] == [NOW] * 80
    assert in_any_second(times) == 80
    assert max(times) == NOW + 4.0


def test_business_may_say_how_many() -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0)

    times = moments(slowdowns, Sending(number="101", account="a", most=20), 100)

    assert in_any_second(times) == 20
    assert moments(slowdowns, BOB, 80) == [NOW] * 80


def test_pace_goes_on_from_what_was_sent_before() -> None:
    slowdowns = Slowdowns(amount=10, per_s=1.0)
    moments(slowdowns, ALICE, 10, NOW)

    assert moments(slowdowns, ALICE, 2, NOW + 0.5) == [NOW + 1.0, NOW + 1.0]
    assert moments(slowdowns, ALICE, 1, NOW + 5.0) == [NOW + 5.0]


@pytest.mark.parametrize(
    ("scope", "paused"),
    [
        (Scope.PAIR, []),
        (Scope.NUMBER, [ALICE]),
        (Scope.ACCOUNT, [ALICE, ALICES_SECOND]),
        (Scope.APP, [ALICE, ALICES_SECOND, BOB]),
    ],
)
def test_limit_pauses_what_it_concerns_and_nobody_else(scope: Scope, paused: list[Sending]) -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0)

    slowdowns.slow(ALICE, scope, NOW)

    for sending in (ALICE, ALICES_SECOND, BOB):
        is_paused = sending in paused
        assert slowdowns.is_slowed(sending, NOW) is is_paused
        (moment,) = moments(slowdowns, sending, 1)
        assert (moment >= NOW + 1.0) is is_paused


def test_what_waited_comes_back_a_few_at_a_time() -> None:
    slowdowns = Slowdowns(amount=10_000, per_s=1.0)
    slowdowns.slow(ALICE, Scope.NUMBER, NOW)

    by_second = Counter(int(time - NOW) for time in moments(slowdowns, ALICE, 1_000))

    assert by_second[0] == 0
    assert 4 <= by_second[1] <= 7
    assert all(0.9 * by_second[second] <= by_second[second + 2] <= 2.6 * by_second[second] for second in range(1, 9))
    assert max(by_second) < BACK_AFTER_S


def test_pause_doubles_when_the_limit_is_met_again_and_is_forgotten_after_a_while() -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0, pause_s=1.0, max_pause_s=60.0)
    now, pauses = NOW, []
    for _ in range(9):
        assert slowdowns.slow(ALICE, Scope.NUMBER, now) == "number:101"
        slot = slowdowns.reserve(ALICE, now)
        assert slot is not None
        pauses.append(slot.moment - now)
        now = slot.moment
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    later = now + BACK_AFTER_S + 60.0
    assert slowdowns.slowed(later) == []
    slowdowns.slow(ALICE, Scope.NUMBER, later)
    assert moments(slowdowns, ALICE, 1, later) == [later + 1.0]


def test_answers_of_what_was_on_its_way_do_not_prolong_the_pause() -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0)
    slowdowns.slow(ALICE, Scope.NUMBER, NOW)

    assert [slowdowns.slow(ALICE, Scope.NUMBER, NOW + 0.1) for _ in range(200)] == [None] * 200

    assert moments(slowdowns, ALICE, 1, NOW + 0.2) == [NOW + 1.0]


def test_graphs_own_wait_is_kept() -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0, max_pause_s=10.0)
    slowdowns.slow(ALICE, Scope.APP, NOW)
    slowdowns.slow(ALICE, Scope.APP, NOW + 0.1, wait_s=60.0)

    assert moments(slowdowns, BOB, 1, NOW + 0.2) == [NOW + 60.1]


def test_slot_is_void_when_a_pause_begins_after_it_was_given() -> None:
    slowdowns = Slowdowns(amount=1, per_s=1.0)
    slowdowns.reserve(ALICE, NOW)
    slowdowns.reserve(BOB, NOW)
    slot, bobs = slowdowns.reserve(ALICE, NOW), slowdowns.reserve(BOB, NOW)
    assert slot is not None
    assert bobs is not None
    assert slowdowns.is_good(ALICE, slot)

    slowdowns.slow(ALICE, Scope.ACCOUNT, NOW + 0.5)

    assert not slowdowns.is_good(ALICE, slot)
    assert slowdowns.is_good(BOB, bobs)
    again = slowdowns.reserve(ALICE, NOW + 0.5)
    assert again is not None
    assert again.moment >= NOW + 1.5
    assert slowdowns.is_good(ALICE, again)


def test_numbers_that_rest_are_forgotten() -> None:
    slowdowns = Slowdowns(amount=80, per_s=1.0)
    for number in range(5 * PRUNE_AT):
        slowdowns.reserve(Sending(number=str(number), account="a"), NOW + number)

    assert len(slowdowns) <= PRUNE_AT + 1
