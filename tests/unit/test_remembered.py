"""What is known of a conversation, put together from the documents of all names of its customer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from whatsapp_hub.assistants.base import PastTurn
from whatsapp_hub.cloud_api.messages import conversation_id
from whatsapp_hub.conversation.remembered import MAX_NAMES, Remembered, reachable, remember

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A = conversation_id("101", "a")


def document(*turns: tuple[str, int], **values: Any) -> dict[str, Any]:
    return {"turns": [{"id": said, "customer": said, "reply": "", "at": at} for said, at in turns], **values}


def said(found: Remembered) -> list[str]:
    return [turn.customer for turn in found.turns]


def test_nothing_is_known_of_a_stranger() -> None:
    found = remember(A, (), {}, keep_turns=20)
    assert found == Remembered()
    assert not found.is_silenced(NOW, HOUR)


def test_turns_of_all_names_come_in_the_order_of_time_the_last_ones() -> None:
    documents = {
        "101:a": document(("3", 3), ("1", 1), aliases=["b"]),
        "101:b": document(("2", 2), ("4", 4)),
        "101:c": document(("9", 9)),
        "102:b": document(("8", 8)),
    }
    assert said(remember(A, (), documents, keep_turns=20)) == ["1", "2", "3", "4"]
    assert said(remember(A, ("c",), documents, keep_turns=3)) == ["3", "4", "9"]
    assert said(remember(A, (), documents, keep_turns=0)) == []


def test_turns_of_an_older_version_come_first_in_their_order() -> None:
    old = {"turns": [{"id": "x", "customer": "x", "reply": "y"}, {"id": "z", "customer": "z", "reply": "."}]}
    documents = {"101:a": {"turns": [*old["turns"], *document(("new", 5))["turns"]]}}
    found = remember(A, (), documents, keep_turns=20)
    assert found.turns[0] == PastTurn(customer="x", reply="y")
    assert said(found) == ["x", "z", "new"]


def test_names_that_lead_in_circles_or_to_ever_more_end() -> None:
    documents: dict[str, dict[str, Any]] = {f"101:{n}": {"aliases": [str(n + 1), str(n)]} for n in range(50)}
    found = reachable(conversation_id("101", "0"), (), documents)
    assert found == [f"101:{n}" for n in range(MAX_NAMES)]


@pytest.mark.parametrize(
    ("there", "back", "is_joined"),
    [(["b"], ["a"], True), (["b"], [], False), ([], ["a"], False), ([], [], False)],
)
def test_names_are_joined_once_both_documents_say_so(there: list[str], back: list[str], is_joined: bool) -> None:
    documents: dict[str, dict[str, Any]] = {"101:a": {"aliases": there}, "101:b": {"aliases": back}}
    assert remember(A, ("b",), documents, keep_turns=20).is_joined is is_joined


@pytest.mark.parametrize(
    ("values", "is_silent"),
    [
        ({}, False),
        ({"human_at": NOW - timedelta(minutes=59)}, True),
        ({"human_at": NOW - timedelta(minutes=61)}, False),
        ({"human_at": NOW - timedelta(minutes=5), "resumed_at": NOW - timedelta(minutes=4)}, False),
        ({"human_at": NOW - timedelta(minutes=5), "resumed_at": NOW - timedelta(minutes=6)}, True),
        ({"paused_until": NOW + HOUR, "paused_at": NOW - HOUR}, True),
        ({"paused_until": NOW, "paused_at": NOW - HOUR}, False),
        ({"paused_until": NOW + HOUR, "paused_at": NOW - 2 * HOUR, "resumed_at": NOW - HOUR}, False),
    ],
)
@pytest.mark.parametrize("name", ["a", "b"])
def test_who_leads_is_of_the_person_whatever_name_it_was_told_for(
    values: dict[str, Any], is_silent: bool, name: str
) -> None:
    documents: dict[str, dict[str, Any]] = {"101:a": {"aliases": ["b"]}, "101:b": {"aliases": ["a"]}}
    documents[f"101:{name}"] |= values
    assert remember(A, (), documents, keep_turns=20).is_silenced(NOW, HOUR) is is_silent
