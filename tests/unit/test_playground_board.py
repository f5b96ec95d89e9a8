"""The playground's sums: it is their purpose to tell when the hub does not do what it promises."""

from __future__ import annotations

from typing import Any

import orjson

from whatsapp_hub.demo.playground import board as boards
from whatsapp_hub.demo.playground.board import GRACE_S, MOST_MESSAGES, Board
from whatsapp_hub.demo.playground.records import Message, Reply


def message(key: str, **changes: Any) -> Message:
    values: dict[str, Any] = {
        "chat": "bakery",
        "business": "bakery",
        "kind": "text",
        "text": "x",
        "at": 100.0,
        "posts": 1,
    }
    return Message(key=key, **{**values, **changes})


def reply(name: str, turn: str, part: int = 0) -> Reply:
    statuses = {"sent": 101.0, "delivered": 102.0, "read": 103.0}
    return Reply(id=name, turn=turn, part=part, chat="bakery", text="y", buttons=(), at=101.0, statuses=statuses)


def sums(board: Board) -> dict[str, int]:
    return {name: count for name, count in board.sums().items() if count}


def test_message_counts_as_far_as_it_has_come() -> None:
    board = Board()
    one = message("1")
    board.add(one)
    assert sums(board) == {"written": 1}
    one.acked_at = 100.1
    assert sums(board) == {"written": 1, "acknowledged": 1}
    board.add_reply(reply("a", "1"))
    assert sums(board) == {"written": 1, "acknowledged": 1, "answered": 1}


def test_message_that_was_answered_with_another_one_is_answered() -> None:
    board = Board()
    board.add(message("1", acked_at=100.1))
    board.add(message("2", acked_at=100.1, document={"state": "done", "outcome": "in_turn", "turn": "1"}))
    board.add_reply(reply("a", "1"))
    assert sums(board) == {"written": 2, "acknowledged": 2, "answered": 2}


def test_second_send_of_one_part_is_a_second_answer_and_another_part_is_none() -> None:
    board = Board()
    board.add(message("1", acked_at=100.1))
    board.add_reply(reply("a", "1"))
    board.add_reply(reply("b", "1", part=1))
    assert board.sums()["twice"] == 0
    board.add_reply(reply("c", "1"))
    assert board.sums()["twice"] == 1


def test_acknowledged_message_that_is_not_in_the_database_is_lost() -> None:
    board = Board()
    one = message("1", acked_at=100.0, looked_at=100.0 + GRACE_S / 2)
    board.add(one)
    assert board.sums()["lost"] == 0
    one.looked_at = 100.0 + GRACE_S
    assert board.sums()["lost"] == 1


def test_message_that_is_called_answered_and_never_reached_graph_is_lost() -> None:
    board = Board()
    late = 100.0 + GRACE_S
    board.add(message("1", acked_at=100.0, looked_at=late, document={"state": "done", "outcome": "replied"}))
    board.add(message("2", acked_at=100.0, looked_at=late, document={"state": "active", "stage": "backoff"}))
    assert board.sums()["lost"] == 1
    assert len(board.unsettled()) == 2  # looked at until it is mended


def test_forged_message_is_none() -> None:
    board = Board()
    board.add(message("1", refused=True))
    assert sums(board) == {}


def test_dead_letter_is_looked_at_until_it_is_answered() -> None:
    board = Board()
    one = message("1", acked_at=100.1, document={"state": "dead", "reason": "131026 undeliverable"})
    board.add(one)
    assert board.unsettled() == [one]
    assert sums(board) == {"written": 1, "acknowledged": 1, "dead": 1}
    one.document = {"state": "done", "outcome": "replied"}
    board.add_reply(reply("a", "1"))
    assert board.unsettled() == []
    assert sums(board) == {"written": 1, "acknowledged": 1, "answered": 1}


def test_sums_stay_when_old_messages_are_forgotten() -> None:
    board = Board()
    for number in range(MOST_MESSAGES + 10):
        key = str(number)
        board.add(message(key, acked_at=100.1, document={"state": "done", "outcome": "replied"}))
        board.add_reply(reply(f"a{key}", key))
    board.add_reply(reply("again", "0"))
    count = MOST_MESSAGES + 10
    assert len(board.messages) < count
    assert board.sums() == {
        "written": count,
        "acknowledged": count,
        "answered": count,
        "dead": 0,
        "lost": 0,
        "twice": 0,
    }


async def test_page_that_falls_behind_is_sent_away_to_begin_anew() -> None:
    board = Board()
    with board.look_on() as updates:
        assert orjson.loads(updates.get_nowait())["whole"] is True
        for _ in range(boards.MOST_BEHIND):
            updates.put_nowait(b"x")
        board.add(message("1"))
        board.tell_pages()
        assert [updates.get_nowait() for _ in range(boards.MOST_BEHIND)][-1] == b""
