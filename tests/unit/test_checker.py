"""The checker, where everything holds and where something does not: one that cannot fail proves nothing."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import pytest
from hypothesis import example as try_first
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.breaks import (
    ANNA,
    BERT,
    BREAKS,
    A,
    B,
    Break,
    add_copy,
    all_of,
    change_part,
    change_row,
    change_sending,
    deliver,
    drop_row,
    drop_sending,
    example,
    key_of,
    log,
    no_echo,
    row_id,
    shift,
    the_sending,
)
from tests.faults.checker import CLAUSES, check
from tests.faults.history import History, Message, Pause, Sending
from tests.faults.order import check_messages_are_answered_in_order
from tests.faults.sightings import Sightings, leader_of
from tests.faults.stories import TOKEN, Arrival, Fate, Plan, TurnPlan, tell

CARL: Final = "491510000003"
LIKE: Final = example().messages[3]
SAID: Final = the_sending(example(), LIKE.label)

turn_plans = st.builds(
    TurnPlan,
    messages=st.integers(1, 4),
    leader=st.integers(0, 3),
    parts=st.integers(1, 3),
    fate=st.sampled_from(Fate),
    arrival=st.sampled_from(Arrival),
    refusals=st.integers(0, 4),
    acked=st.sampled_from([True, True, True, False]),
    refused_sends=st.integers(0, 2),
    resends=st.sampled_from([0, 0, 0, 1, 2]),
)
plans = st.lists(
    st.builds(
        Plan,
        number=st.sampled_from(["101", "102"]),
        customer=st.sampled_from([ANNA, BERT]),
        turns=st.lists(turn_plans, min_size=1, max_size=5),
        backlog=st.booleans(),
    ),
    min_size=1,
    unique_by=lambda plan: (plan.number, plan.customer),
)
histories = plans.map(lambda told: tell(*told, Plan(number="102", customer=CARL, turns=[TurnPlan()] * 2)))


def found(history: History) -> set[str]:
    """Return the ids of the invariants that are hurt."""
    return {violation.partition(" ")[0] for violation in check(history)}


# Where nothing is wrong


@settings(deadline=None)
@given(histories)
def test_nothing_is_found_where_everything_holds(history: History) -> None:
    assert check(history) == []


def test_nothing_is_found_in_nothing() -> None:
    assert check(History(messages=(), sendings=(), rows=())) == []


def test_example_has_what_its_mutations_need() -> None:
    history = example()
    assert check(history) == []
    assert [message.label for message in history.messages] == [*(f"{A}#{n}" for n in range(9)), f"{B}#0", f"{B}#1"]
    assert {row["state"] for row in history.rows} == {"done", "dead"}
    assert {row["outcome"] for row in history.rows} == {"replied", "in_turn", ""}


# What is wrong wherever it happens


@settings(deadline=None, max_examples=50)
@given(histories, st.data())
def test_any_row_that_is_lost_is_found(history: History, data: st.DataObject) -> None:
    acked = [message.key for message in history.messages if message.acked_at is not None]
    lost = data.draw(st.sampled_from(acked))
    rows = [row for row in history.rows if row["_id"] != lost]
    assert {"I1", "I9"} <= found(replace(history, rows=rows))


@settings(deadline=None, max_examples=50)
@given(histories, st.data())
def test_any_part_that_is_lost_is_found(history: History, data: st.DataObject) -> None:
    replied = {row["_id"] for row in history.rows if row["outcome"] == "replied" and "retried" not in row}
    sent = sorted({(one.number, part_of(one)) for one in history.sendings if key_of(one) in replied})
    lost = data.draw(st.sampled_from(sent))
    sendings = [one for one in history.sendings if (one.number, part_of(one)) != lost]
    assert "I2" in found(replace(history, sendings=sendings))


@settings(deadline=None, max_examples=50)
@given(histories, st.data())
def test_any_sending_that_is_doubled_is_found(history: History, data: st.DataObject) -> None:
    accepted = [one for one in history.sendings if one.accepted]
    doubled = data.draw(st.sampled_from(accepted))
    assert "I2" in found(replace(history, sendings=[*history.sendings, doubled]))


@settings(deadline=None, max_examples=50)
@given(histories, st.data())
def test_any_two_answers_that_change_places_are_found(history: History, data: st.DataObject) -> None:
    """Of messages that came in order, from two turns."""
    rows = {row["_id"]: row for row in history.rows}
    answered = [m for m in history.messages if is_plain(rows[m.key]) and is_plain(rows[leader_of(rows[m.key])])]
    pairs = [(a, b) for a in answered for b in answered if came_before(a, b)]
    pairs = [(a, b) for a, b in pairs if leader_of(rows[a.key]) != leader_of(rows[b.key])]
    earlier, later = data.draw(st.sampled_from(pairs))
    turns = {leader_of(rows[earlier.key]): 1, leader_of(rows[later.key]): -1}
    sendings = [shift(one, 10_000 * turns.get(key_of(one), 0)) for one in history.sendings]
    assert "I3" in found(replace(history, sendings=sendings))


def part_of(sending: Sending) -> str:
    """Return what the callback data tells but for the attempt."""
    part, _, rest = sending.callback.removeprefix("hub1|").partition("|")
    return f"{part}|{rest.partition('|')[2]}"


def is_plain(row: Any) -> bool:
    """Whether it was answered, and not by a retry."""
    return row["outcome"] in {"replied", "in_turn"} and row["state"] == "done" and "retried" not in row


def came_before(earlier: Message, later: Message) -> bool:
    same = (earlier.number, earlier.customer) == (later.number, later.customer)
    acked = earlier.acked_at is not None and earlier.acked_at <= later.sent_at
    return same and acked and earlier.timestamp <= later.timestamp


@settings(deadline=None, max_examples=400)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.sampled_from([True, True, False])),
        max_size=9,
    )
)
@try_first([(0, 1, 2, True), (0, 2, 1, True), (5, 0, 3, True), (0, 0, 3, True)])
def test_a_comparison_of_each_with_each_finds_the_same_order(came: list[tuple[int, int, int, bool]]) -> None:
    """Of messages said in the order of this list: sent at, acknowledged after, timestamp, ever acknowledged."""
    messages = [
        replace(
            LIKE,
            wamid=f"wamid.{n}",
            label=f"{A}#{n}",
            sent_at=float(sent_at),
            acked_at=float(sent_at + after_s) if acked else None,
            timestamp=timestamp,
        )
        for n, (sent_at, after_s, timestamp, acked) in enumerate(came)
    ]
    said = replace(SAID, text=" ".join(message.label for message in messages))
    history = History(messages=messages, sendings=[said], rows=())
    wrong = {(one.label, other.label) for one, other in combinations(messages, 2) if came_before(other, one)}
    told = [(words[0], words[-1]) for words in map(str.split, check_messages_are_answered_in_order(Sightings(history)))]
    assert set(told) <= wrong
    assert sorted(early for early, _ in told) == sorted({early for early, _ in wrong})


# What is wrong in one place, and which clause has to find it


def find_clauses(history: History) -> set[tuple[str, str]]:
    """Return the clauses that are hurt."""
    return {(invariant, clause.__name__) for invariant, clause in CLAUSES if any(clause(Sightings(history)))}


@pytest.mark.parametrize(("clause", "name"), [(clause, name) for clause, breaks in BREAKS.items() for name in breaks])
def test_break_is_found_and_told_without_secrets(clause: tuple[str, str], name: str) -> None:
    broken = BREAKS[clause][name](example())
    assert clause in find_clauses(broken)
    report = check(broken)
    assert any(violation.startswith(f"{clause[0]} ") for violation in report)
    assert [secret for secret in (TOKEN, ANNA, BERT) if secret in "".join(report)] == []


def test_every_clause_is_seen_to_fail() -> None:
    assert set(BREAKS) == {(invariant, clause.__name__) for invariant, clause in CLAUSES}


def test_report_says_where_a_secret_stands() -> None:
    told = f"hub-2.log tells a secret of {len(TOKEN)} characters in line 2"
    assert check(log(f"Bearer {TOKEN}")(example())) == [f"I12 {told}"]


# What looks wrong, and is not


def test_copy_of_a_process_that_was_asleep_is_allowed_once() -> None:
    """It wakes up and sends, while another one that took over is at the next turn."""
    taken_over = change_sending(f"{A}#3", callback=f"hub1|0|2|{ANNA}|wamid.{A}.3")
    broken = all_of(add_copy(f"{A}#3", 1, ended_at=900.0), taken_over, change_part(f"{A}#3", 0, attempt=2))
    history = broken(example())
    assert check(replace(history, allowed_copies=1)) == []
    assert find_clauses(history) == {("I2", "check_no_copy_that_a_status_would_have_spared")}


def test_attempt_that_was_given_up_does_not_overlap_the_next() -> None:
    again = all_of(add_copy(f"{A}#3", 2), change_part(f"{A}#3", 0, attempt=2), change_sending(f"{A}#3", ended_at=900.0))
    assert check(no_echo(again(example()))) == []


def test_sending_whose_end_nobody_saw_overlaps_nothing() -> None:
    """Its hub died; a status told the next one that it was accepted."""
    assert check(change_sending(f"{A}#3", ended_at=math.inf)(example())) == []


def test_hang_while_a_process_was_stopped_is_excused() -> None:
    hung = deliver(f"{A}#3", 0, took_s=5.0)(example())
    assert check(replace(hung, pauses=[Pause(began_at=504.0, ended_at=math.inf)])) == []
    others = [Pause(began_at=490.0, ended_at=499.0), Pause(began_at=506.0, ended_at=math.inf)]
    assert found(replace(hung, pauses=others)) == {"I9"}


def test_what_is_open_before_the_rest_is_no_fault() -> None:
    opened = all_of(change_row(f"{A}#8", state="active", outcome=None, owner="n", parts=[]), drop_sending(f"{A}#8"))
    assert check(replace(opened(example()), at_rest=False)) == []


def test_message_that_was_never_acknowledged_may_be_lost_or_answered() -> None:
    history = tell(Plan(number="101", customer=ANNA, turns=[TurnPlan(acked=False, refusals=1), TurnPlan()]))
    lost = all_of(drop_row(f"{A}#0"), drop_sending(f"{A}#0"))
    assert check(history) == check(lost(history)) == []


@pytest.mark.parametrize("first_answer", [all_of(), drop_sending(f"{A}#3")], ids=["failed", "never sent"])
def test_retried_dead_letter_may_be_answered_in_anothers_turn(first_answer: Break) -> None:
    gathered = all_of(
        change_row(f"{A}#3", outcome="in_turn", turn=row_id(f"{A}#8"), retried=True, parts=[]),
        change_row(f"{A}#8", members=[row_id(f"{A}#3")]),
        change_sending(f"{A}#8", text=f"{{}} {A}#3"),
        first_answer,
    )
    assert check(gathered(example())) == []


def test_rest_of_a_retried_dead_letter_may_come_late() -> None:
    late = all_of(change_sending(f"{A}#1", 1, began_at=900.0, ended_at=901.0), change_row(f"{A}#1", retried=True))
    assert check(late(example())) == []


def test_answer_of_an_assistant_that_failed_needs_no_labels() -> None:
    sorry = change_sending(f"{A}#3", text="sorry")(example())
    assert check(replace(sorry, fallback_texts=frozenset({"sorry"}))) == []
    assert found(replace(sorry, fallback_texts=frozenset({"excuse me"}))) == {"I2"}


def test_refused_send_that_names_nothing_is_nobodys_business() -> None:
    nameless = replace(the_sending(example(), f"{A}#3"), callback="", accepted=False)
    assert check(replace(example(), sendings=[*example().sendings, nameless])) == []


def test_message_that_is_said_again_keeps_its_place() -> None:
    history = example()
    again = replace(history.messages[3], sent_at=800.0, acked_at=801.0)
    assert check(replace(history, messages=[*history.messages, again])) == []


def test_label_that_begins_like_another_is_not_it() -> None:
    history = tell(Plan(number="101", customer=ANNA, turns=[TurnPlan(messages=11)]))
    forgets = change_sending(f"{A}#0", text=" ".join(f"{A}#{n}" for n in range(11) if n != 1))
    assert check(forgets(history)) == [f"I2 {A}#1 is done, but nothing that was sent for it says it"]


def test_one_label_on_two_messages_is_refused() -> None:
    history = example()
    twin = replace(history.messages[0], wamid="wamid.twin")
    with pytest.raises(ValueError, match="two messages have one label"):
        check(replace(history, messages=[*history.messages, twin]))


@pytest.mark.timeout(60)
def test_large_history_is_checked_quickly() -> None:
    """20,000 messages in few conversations, where a comparison of each with each would show."""
    turns = [TurnPlan(messages=2, parts=2, refusals=1)] * 2_500
    history = tell(*(Plan(number="101", customer=f"49151000{n:04}", turns=turns, backlog=True) for n in range(4)))
    began_s = time.process_time()
    assert check(history) == []
    assert time.process_time() - began_s < 4.0
