"""What is said to Meta, as bytes."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_hub.cloud_api.outgoing import (
    CALLBACK_DATA_LIMIT,
    TEXT_LIMIT,
    CallbackData,
    build_send,
    build_typing,
    callback_data,
    is_bsuid,
    read_callback_data,
    split_text,
    text_part,
)

TEXTS = st.text(st.sampled_from("ab .!?\n\t\u3000。é\u0301\u200d👩🇩🇪👍🏽"), max_size=200)


@given(TEXTS | st.text(max_size=200), st.integers(1, 40))
def test_split_loses_nothing_but_white_space_at_cuts(text: str, limit: int) -> None:
    parts = split_text(text, limit)

    assert "".join("".join(parts).split()) == "".join(text.split())
    rest = text
    for part in parts:
        before, found, rest = rest.partition(part)
        assert found
        assert before.strip() == ""
    assert rest.strip() == ""


@given(TEXTS | st.text(max_size=200), st.integers(1, 40))
def test_no_part_is_too_long_or_blank(text: str, limit: int) -> None:
    assert all(0 < len(part) <= limit and part.strip() for part in split_text(text, limit))


@given(st.text(max_size=60))
def test_text_that_fits_is_left_alone(text: str) -> None:
    assert split_text(text, 60) == ([text] if text.strip() else [])


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 10, []),
        (" \n\t ", 10, []),
        ("one two\n\nthree four", 14, ["one two", "three four"]),
        ("one two three\nfour", 15, ["one two three", "four"]),
        ("One two. Three four", 15, ["One two.", "Three four"]),
        ("こんにちは。元気ですか", 9, ["こんにちは。", "元気ですか"]),
        ("one two three", 9, ["one two", "three"]),
        ("one twothreefour", 12, ["one", "twothreefour"]),
        ("onetwothree", 4, ["onet", "woth", "ree"]),
        ("one two", 3, ["one", "two"]),
        ("one         two", 3, ["one", "two"]),
        ("            one", 3, ["one"]),
        ("a. b\n\nccccccccc", 10, ["a. b", "ccccccccc"]),
    ],
)
def test_split_prefers_the_larger_boundary(text: str, limit: int, parts: list[str]) -> None:
    assert split_text(text, limit) == parts


def test_limit_counts_code_points() -> None:
    assert [len(part) for part in split_text("😀" * (TEXT_LIMIT + 1))] == [TEXT_LIMIT, 1]


@pytest.mark.parametrize("character", ["e\u0301", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪", "☎\ufe0f"])
def test_cut_does_not_fall_within_a_character(character: str) -> None:
    parts = split_text("x" * 8 + character + "y" * 12, 9)

    assert parts[0] == "x" * 8
    assert parts[1].startswith(character)


def test_endless_accents_are_cut_all_the_same() -> None:
    assert [len(part) for part in split_text("e" + "\u0301" * 250, 100)] == [100, 100, 51]


def test_megabytes_are_split_in_no_time() -> None:
    start = time.perf_counter()

    assert len(split_text("x" * 5_000_000)) == 1221
    assert len(split_text("word. " * 800_000)) > 1000
    assert time.perf_counter() - start < 2


def test_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        split_text("text", 0)


def test_part_is_a_message_without_a_recipient() -> None:
    assert orjson.loads(text_part('Grüße "😀"\x00\n')) == {"type": "text", "text": {"body": 'Grüße "😀"\x00\n'}}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("a\ud83db", "a\ufffdb"),
        ("a\ude00b", "a\ufffdb"),  # noqa: PT014 - ruff takes all surrogates for the same
        ("a\ud83d", "a\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
    ],
)
def test_lone_surrogate_is_replaced(body: str, sent: str) -> None:
    assert orjson.loads(text_part(body))["text"]["body"] == sent


@given(st.text(st.characters(), max_size=30))
def test_every_text_becomes_json(body: str) -> None:
    assert len(orjson.loads(text_part(body))["text"]["body"]) <= len(body)


@pytest.mark.parametrize(
    ("customer", "key"),
    [
        ("491701234567", "to"),
        ("+491701234567", "to"),
        ("US.13491208655302741918", "recipient"),
        ("US.ENT.11815799212886844830", "recipient"),
        ("DE.aZ09", "recipient"),
        ("us.134912", "recipient"),
        ("US.1349-1208", "recipient"),
        ("some_group", "recipient"),
        ("٤٩١٧٠", "recipient"),
    ],
)
def test_only_a_phone_number_goes_in_to(customer: str, key: str) -> None:
    body = orjson.loads(build_send(text_part("hi"), customer=customer, callback_data=""))

    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        key: customer,
        "type": "text",
        "text": {"body": "hi"},
    }


def test_send_carries_what_it_answers_and_its_callback_data() -> None:
    body = orjson.loads(build_send(text_part("hi"), customer="49", callback_data="mine", reply_to="wamid.A"))

    assert body["context"] == {"message_id": "wamid.A"}
    assert body["biz_opaque_callback_data"] == "mine"


def test_typing_marks_as_read() -> None:
    assert orjson.loads(build_typing("wamid.A")) == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.A",
        "typing_indicator": {"type": "text"},
    }


@pytest.mark.parametrize(
    ("customer", "answer"),
    [
        ("US.13491208655302741918", True),
        ("US.ENT.11815799212886844830", True),
        ("491701234567", False),
        ("us.1349", False),
        ("US.", False),
        ("USA.1349", False),
        ("US.1349\n", False),
    ],
)
def test_bsuid_is_told_from_a_phone_number(customer: str, *, answer: bool) -> None:
    assert is_bsuid(customer) is answer


@given(st.text(max_size=400), st.text(max_size=400), st.integers(0, 999_999_999), st.integers(0, 999_999_999))
def test_callback_data_comes_back_or_is_empty(customer: str, message_id: str, part: int, attempt: int) -> None:
    data = callback_data(customer, message_id, part, attempt)

    if data:
        assert len(data) <= CALLBACK_DATA_LIMIT
        assert read_callback_data(data) == CallbackData(
            customer=customer, message_id=message_id, part=part, attempt=attempt
        )
    else:
        assert not customer.isascii() or not message_id.isascii() or "|" in customer or len(customer + message_id) > 480


def test_customer_that_looks_like_two_fields_has_no_callback_data() -> None:
    assert callback_data("49|170", "wamid.A", 0, 1) == ""


def test_usual_callback_data_fits() -> None:
    assert callback_data("US.ENT." + "1" * 128, "wamid." + "A" * 200, 3, 5) != ""


@pytest.mark.parametrize(
    "data",
    [
        "",
        "hub1",
        "hub1|1|1|49",
        "hub2|0|1|49|wamid.A",
        "hub1|-1|1|49|w",
        "hub1|x|1|49|w",
        "hub1|²|1|49|w",
        "hub1|0|1|49|w" * 50,
    ],
)
def test_foreign_callback_data_is_passed_over(data: str) -> None:
    assert read_callback_data(data) is None


@given(st.text(max_size=600))
def test_any_callback_data_is_read(data: str) -> None:
    read_callback_data(data)


def test_callback_data_hides_the_customer() -> None:
    assert "491701234567" not in repr(read_callback_data("hub1|0|1|491701234567|wamid.A"))
