"""Messages that are taken back or changed before they are answered."""

from __future__ import annotations

from typing import Any

import orjson

from whatsapp_hub.assistants.base import CustomerMessage
from whatsapp_hub.cloud_api.reading import read_text
from whatsapp_hub.conversation.corrections import corrected


def message(name: str, kind: str, part: Any) -> CustomerMessage:
    raw = orjson.dumps({"id": name, "type": kind, kind: part})
    return CustomerMessage(id=name, kind=kind, text=read_text(raw)[1], timestamp=1, raw=raw)


def text(name: str) -> CustomerMessage:
    return message(name, "text", {"body": f"text {name}"})


def image(name: str) -> CustomerMessage:
    return message(name, "image", {"id": "1", "caption": name})


def edit(name: str, original: str) -> CustomerMessage:
    return message(
        name, "edit", {"original_message_id": original, "message": {"type": "text", "text": {"body": "new"}}}
    )


def revoke(name: str, original: str) -> CustomerMessage:
    return message(name, "revoke", {"original_message_id": original})


def left(*messages: CustomerMessage) -> list[str]:
    return [one.id for one in corrected(messages)]


def test_what_is_neither_changed_nor_taken_back_stays() -> None:
    assert left(text("1"), image("2"), text("3")) == ["1", "2", "3"]


def test_message_that_was_taken_back_is_gone_and_so_is_the_word_of_it() -> None:
    assert left(text("1"), text("2"), revoke("3", "1")) == ["2"]
    assert left(image("1"), revoke("2", "1")) == []


def test_what_was_answered_earlier_is_told_as_taken_back() -> None:
    assert left(text("1"), revoke("2", "0")) == ["1", "2"]


def test_text_that_was_changed_is_what_it_is_now() -> None:
    assert left(text("1"), text("2"), edit("3", "1")) == ["2", "3"]
    assert left(text("1"), edit("2", "1"), edit("3", "1")) == ["3"]
    assert left(edit("2", "0"), text("3")) == ["2", "3"]


def test_picture_whose_caption_was_changed_stays() -> None:
    assert left(image("1"), edit("2", "1")) == ["1", "2"]


def test_what_was_changed_and_then_taken_back_is_gone() -> None:
    assert left(text("1"), edit("2", "1"), revoke("3", "1")) == []
    assert left(image("1"), edit("2", "1"), revoke("3", "1"), text("4")) == ["4"]


def test_corrections_that_cannot_be_read_change_nothing() -> None:
    assert left(text("1"), message("2", "revoke", 5), message("3", "edit", None), revoke("4", "")) == [
        "1",
        "2",
        "3",
        "4",
    ]
