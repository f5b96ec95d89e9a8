from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from whatsapp_hub.assistants.base import CustomerMessage, PastTurn, Turn
from whatsapp_hub.assistants.chat_wire import (
    MAX_ANSWER_CHARACTERS,
    build_request,
    read_completion,
    read_error_code,
    read_retry_after,
    retry_delay_s,
)
from whatsapp_hub.errors import AssistantFailed


def make_turn(*texts: str, kind: str = "text", history: tuple[PastTurn, ...] = ()) -> Turn:
    return Turn(
        id="106:wamid.1",
        business_id="64a1",
        business_name="Acme",
        sub_domain="acme",
        phone_number_id="106",
        customer="4915112345678",
        customer_name="Ada",
        messages=tuple(
            CustomerMessage(id=f"wamid.{place}", kind=kind, text=text, timestamp=1, raw=b"{}")
            for place, text in enumerate(texts)
        ),
        history=history,
    )


def build(turn: Turn, *, instructions: str = "Be brief.", temperature: float | None = None) -> dict[str, Any]:
    body = build_request(turn, model="m-1", instructions=instructions, temperature=temperature)
    built: dict[str, Any] = orjson.loads(body)
    return built


def answer(content: object, **more: object) -> bytes:
    return orjson.dumps({"choices": [{"message": {"role": "assistant", "content": content}}], **more})


def test_request_is_instructions_then_history_then_what_was_said() -> None:
    turn = make_turn("And on", "Sundays?", history=(PastTurn(customer="When are you open?", reply="Nine to five."),))
    assert build(turn) == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "When are you open?"},
            {"role": "assistant", "content": "Nine to five."},
            {"role": "user", "content": "And on\nSundays?"},
        ],
    }


def test_request_names_neither_the_customer_nor_the_number() -> None:
    body = build_request(make_turn("Hi"), model="m", instructions="x", temperature=None)
    assert not [word for word in (b"4915112345678", b"Ada", b"wamid", b"64a1") if word in body]


def test_temperature_is_sent_where_it_is_set() -> None:
    assert build(make_turn("Hi"), temperature=0.0)["temperature"] == 0.0


def test_no_instructions_are_no_message() -> None:
    assert build(make_turn("Hi"), instructions=" ")["messages"] == [{"role": "user", "content": "Hi"}]


def test_silent_turns_of_the_past_leave_no_empty_message() -> None:
    turn = make_turn("Hi", history=(PastTurn(customer="Hello?", reply=""),))
    assert [message["role"] for message in build(turn)["messages"]] == ["system", "user", "user"]


def test_a_message_without_words_is_named_by_its_kind() -> None:
    assert build(make_turn("", kind="image"))["messages"][-1]["content"] == "(image)"


def test_a_lone_surrogate_costs_one_character_only() -> None:
    assert build(make_turn("ok \ud83d ü"))["messages"][-1]["content"] == "ok ? ü"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("  Hello \n", "Hello"),
        ([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}, {"type": "image"}, 7], "Hello"),
        ("x" * (MAX_ANSWER_CHARACTERS + 1), "x" * MAX_ANSWER_CHARACTERS),
    ],
)
def test_answer_is_read(content: object, text: str) -> None:
    assert read_completion(answer(content)).text == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": "  "}}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
        b'{"choices": [{"text": "old kind"}]}',
        b'{"choices": [{"message": {"content": "cut o',
        b"[" * 10_000,
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(AssistantFailed):
        read_completion(body)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}, (12, 3)),
        ({"prompt_tokens": -1, "completion_tokens": "3"}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": 1.5}, (0, 0)),
        ({"prompt_tokens": 10**12}, (0, 0)),
        (None, (0, 0)),
        ([], (0, 0)),
    ],
)
def test_tokens_are_read_where_they_make_sense(usage: object, counts: tuple[int, int]) -> None:
    completion = read_completion(answer("Hi", usage=usage))
    assert (completion.input_tokens, completion.output_tokens) == counts


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "context_length_exceeded", "message": "..."}}', "context_length_exceeded"),
        (b'{"error": {"code": null, "type": "invalid_request_error"}}', "invalid_request_error"),
        (b'{"error": {"code": "he said: call 4915112345678"}}', ""),
        (b'{"error": "no"}', ""),
        (b"nope", ""),
    ],
)
def test_an_error_is_named_by_its_code_and_never_quoted(body: bytes, code: str) -> None:
    assert read_error_code(body) == code


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), (None, None), ("", None), ("-1", None), ("nan", None), ("inf", None), ("Fri, 31", None)],
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert read_retry_after(header) == seconds


def test_backoff_grows_and_is_spread() -> None:
    rng = Random(1)
    delays = [retry_delay_s(attempt, asked_s=None, base_s=0.5, rng=rng) for attempt in (1, 2, 3) for _ in range(50)]
    assert all(0.25 <= delay <= 0.5 for delay in delays[:50])
    assert all(1.0 <= delay <= 2.0 for delay in delays[100:])
    assert len(set(delays)) == 150


def test_the_server_is_not_asked_earlier_than_it_wants() -> None:
    assert retry_delay_s(1, asked_s=7, base_s=0.5, rng=Random(1)) > 7
