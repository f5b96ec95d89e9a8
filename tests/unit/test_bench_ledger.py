from __future__ import annotations

import pytest

from bench.ledger import Ledger


def book(*customers: int) -> Ledger:
    ledger = Ledger(customers)
    for serial in range(len(customers)):
        ledger.due_at[serial] = ledger.sent_at[serial] = 10.0 + serial
        ledger.ack(serial, 200, 10.1 + serial)
    return ledger


def test_acknowledged_and_not_answered_is_lost() -> None:
    ledger = book(0, 1, 2)
    ledger.answer([0], 12.0, 0.0)
    assert (ledger.count_lost(), ledger.acked, ledger.answered) == (2, 3, 1)


def test_refused_is_not_lost() -> None:
    ledger = Ledger([0])
    ledger.ack(0, 503, 1.0)
    assert (ledger.count_lost(), dict(ledger.statuses)) == (0, {503: 1})


def test_second_answer_is_a_duplicate() -> None:
    ledger = book(0)
    ledger.answer([0], 12.0, 0.0)
    ledger.answer([0], 13.0, 0.0)
    assert (ledger.duplicated, ledger.answered, ledger.answered_at[0]) == (1, 1, 12.0)


def test_answer_before_that_of_an_earlier_message_is_out_of_order() -> None:
    ledger = book(0, 1, 0, 1)
    ledger.answer([2], 20.0, 0.0)
    ledger.answer([0], 21.0, 0.0)
    ledger.answer([1, 3], 22.0, 0.0)
    assert ledger.count_out_of_order() == 1
    assert ledger.count_gathered() == 1


def test_order_is_not_promised_to_messages_that_were_under_way_together() -> None:
    ledger = book(0, 0)
    ledger.acked_at[0] = 11.5
    ledger.answer([1], 20.0, 0.0)
    ledger.answer([0], 21.0, 0.0)
    assert ledger.count_out_of_order() == 0


def test_added_time_is_what_model_graph_and_the_turn_before_do_not_explain() -> None:
    ledger = book(0, 0)  # due at 10 and 11
    ledger.answer([0], 12.0, 1.5)
    ledger.answer([1], 14.0, 1.75)
    assert ledger.added_s(range(2)) == pytest.approx([0.5, 0.25])
    assert ledger.added_s(range(1, 2)) == pytest.approx([0.25])


def test_times_count_from_when_a_message_was_due() -> None:
    ledger = book(0)
    ledger.sent_at[0] = 10.05
    ledger.answer([0], 12.0, 0.0)
    assert ledger.acks_s(range(1)) == pytest.approx([0.1])
    assert ledger.replies_s(range(1)) == pytest.approx([2.0])
    assert ledger.late_s(range(1)) == pytest.approx([0.05])


def test_answer_to_what_was_refused_is_none_to_what_was_acknowledged() -> None:
    ledger = Ledger([0, 1, 2])
    ledger.ack(0, 503, 1.0)
    ledger.answer([0], 2.0, 0.0)  # it was stored all the same
    ledger.ack(1, 200, 3.0)
    assert (ledger.acked, ledger.answered, ledger.waiting) == (1, 1, 1)
    ledger.answer([1, 2], 4.0, 0.0)
    ledger.ack(2, 200, 5.0)  # the answer overtook the acknowledgement
    assert ledger.waiting == 0
