from __future__ import annotations

import pytest

from whatsapp_hub.assistants.base import CustomerMessage, Text, Turn, read_answer
from whatsapp_hub.assistants.echo import Echo, Silence
from whatsapp_hub.errors import AssistantFailed


def make_turn(*texts: str) -> Turn:
    return Turn(
        id="106:wamid.1",
        business_id="64a1",
        business_name="Acme",
        sub_domain="acme",
        phone_number_id="106",
        customer="4915112345678",
        customer_name="Ada",
        messages=tuple(CustomerMessage(id="wamid.1", kind="text", text=text, timestamp=1, raw=b"{}") for text in texts),
        history=(),
    )


async def test_echo_says_what_was_said_in_one_answer() -> None:
    assert await Echo().reply(make_turn("One", "", "Two")) == (Text(body="One\nTwo"),)


async def test_echo_has_nothing_to_say_to_nothing() -> None:
    assert await Echo().reply(make_turn("", " ")) == ()


async def test_silence_says_nothing() -> None:
    assert await Silence().reply(make_turn("Hi")) == ()


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("Hi", ["Hi"]),
        (Text(body="Hi"), ["Hi"]),
        (["One", Text(body="Two"), " "], ["One", "Two"]),
        (("One",), ["One"]),
    ],
)
def test_an_operators_answer_is_brought_into_one_form(answer: object, texts: list[str]) -> None:
    assert read_answer(answer) == tuple(Text(body=text) for text in texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [7, b"Hi", {"text": "Hi"}, ["Hi", 7], [None], Text(body=7)])  # type: ignore[arg-type]
def test_what_is_no_answer_is_refused(answer: object) -> None:
    with pytest.raises(AssistantFailed):
        read_answer(answer)  # type: ignore[arg-type]


def test_nothing_personal_shows_when_a_turn_is_printed() -> None:
    shown = repr(make_turn("My secret")) + repr(Text(body="My secret"))
    assert not [word for word in ("secret", "4915112345678", "Ada") if word in shown]
