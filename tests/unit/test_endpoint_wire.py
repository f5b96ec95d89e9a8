"""What a business's own endpoint is told and may answer."""

from __future__ import annotations

import orjson
import pytest

from whatsapp_hub.assistants.base import CustomerMessage, PastTurn, Text, Turn
from whatsapp_hub.assistants.endpoint_wire import MAX_REPLIES, build_turn, read_replies
from whatsapp_hub.errors import AssistantFailed


def make_turn(**changes: object) -> Turn:
    values: dict[str, object] = {
        "id": "106:wamid.1",
        "business_id": "64a1",
        "business_name": "Acme",
        "sub_domain": "acme",
        "phone_number_id": "106",
        "customer": "US.13491208655302741918",
        "customer_name": "Ada",
        "messages": (
            CustomerMessage(
                id="wamid.1",
                kind="image",
                text="(image) Look!",
                timestamp=1749416383,
                raw=b'{"id":"wamid.1","type":"image","image":{"id":"media-7","caption":"Look!"}}',
            ),
        ),
        "history": (
            PastTurn(customer="Hello", reply="Hi.", timestamp=1749416000),
            PastTurn(customer="", reply="By hand.", timestamp=1749416100, by_human=True),
            PastTurn(customer="Old", reply="Older."),
        ),
    }
    return Turn(**values | changes)  # type: ignore[arg-type]


def test_a_turn_says_all_that_an_assistant_may_know() -> None:
    assert orjson.loads(build_turn(make_turn(), turn_id="106:wamid_1")) == {
        "version": 1,
        "type": "turn",
        "id": "106:wamid_1",
        "business": {"id": "64a1", "name": "Acme", "subDomain": "acme"},
        "phoneNumberId": "106",
        "customer": {"id": "US.13491208655302741918", "name": "Ada"},
        "messages": [
            {
                "id": "wamid.1",
                "kind": "image",
                "text": "(image) Look!",
                "timestamp": 1749416383,
                "raw": {"id": "wamid.1", "type": "image", "image": {"id": "media-7", "caption": "Look!"}},
            }
        ],
        "history": [
            {"customer": "Hello", "reply": "Hi.", "timestamp": 1749416000, "byHuman": False},
            {"customer": "", "reply": "By hand.", "timestamp": 1749416100, "byHuman": True},
            {"customer": "Old", "reply": "Older.", "timestamp": None, "byHuman": False},
        ],
    }


def test_what_utf_8_cannot_hold_stops_no_turn() -> None:
    message = CustomerMessage(id="w", kind="text", text="lone \ud800", timestamp=1, raw=b'{"lone":"\\ud800"}')
    body = build_turn(make_turn(messages=(message,), customer_name="\udfff"), turn_id="1")
    assert b'"lone ?"' in body
    assert b'"raw":{"lone":"\\ud800"}' in body


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b'{"replies":[]}', []),
        (b'{"replies":["One","Two"]}', ["One", "Two"]),
        (b'{"replies":["One"," ",""],"more":{"of":"tomorrow"}}', ["One"]),
        (b'{"replies":[{"type":"text","text":{"body":"One"}}]}', ["One"]),
    ],
)
def test_an_answer_is_read(body: bytes, texts: list[str]) -> None:
    assert read_replies(body) == tuple(Text(body=text) for text in texts)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"<html>secret", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'"secret"', 'is not {"replies": [...]}'),
        (b"null", 'is not {"replies": [...]}'),
        (b"{}", 'is not {"replies": [...]}'),
        (b'{"replies":"secret"}', 'is not {"replies": [...]}'),
        (b'{"replies":null}', 'is not {"replies": [...]}'),
        (b'{"replies":{"0":"secret"}}', 'is not {"replies": [...]}'),
        (b'{"replies":["fine",7]}', "reply 2 of the endpoint's answer cannot be sent"),
        (b'{"replies":[null]}', "reply 1 of the endpoint's answer cannot be sent"),
        (b'{"replies":[["secret"]]}', "reply 1 of the endpoint's answer cannot be sent"),
        (b'{"replies":[{"type":"secret"}]}', "reply 1 of the endpoint's answer cannot be sent"),
        (b'{"replies":[{"type":"text","text":"secret"}]}', "reply 1 of the endpoint's answer cannot be sent"),
        (orjson.dumps({"replies": ["x"] * (MAX_REPLIES + 1)}), "more than 10 replies"),
        (orjson.dumps({"replies": ["x" * 40_000] * 2}), "more than 65,536 characters"),
    ],
)
def test_what_is_no_answer_is_told_without_quoting_it(body: bytes, words: str) -> None:
    with pytest.raises(AssistantFailed) as caught:
        read_replies(body)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
