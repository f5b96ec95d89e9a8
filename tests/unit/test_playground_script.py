"""What the sample businesses say: an echo to whoever posts by hand, a little more in the playground."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from whatsapp_hub.assistants.endpoint_wire import read_replies
from whatsapp_hub.demo.playground.script import WRITTEN_HERE, answer
from whatsapp_hub.demo.samples import SAMPLES


def written(text: str, *, message_id: str = f"{WRITTEN_HERE}1", kind: str = "text") -> dict[str, Any]:
    return {"id": message_id, "kind": kind, "text": text}


def test_what_was_posted_by_hand_is_echoed() -> None:
    assert answer([written("one", message_id="wamid.DEMO1"), written("two", message_id="wamid.DEMO2")]) == ["one\ntwo"]
    assert answer([written(" ", message_id="wamid.DEMO1")]) == []


def test_several_at_once_are_answered_in_one() -> None:
    (reply,) = answer([written("one"), written("two")])
    assert reply == "All 2 at once, so one answer will do:\n• one\n• two"


@pytest.mark.parametrize("question", [sample.question for sample in SAMPLES])
def test_each_button_of_the_samples_leads_to_an_answer(question: str) -> None:
    (reply,) = answer([written(question)])
    assert not isinstance(reply, str)
    for button in reply["interactive"]["action"]["buttons"]:
        title = button["reply"]["title"]
        assert answer([written(title, kind="interactive")]) != [f"Noted: {title}"]


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_every_answer_can_be_sent(kind: str) -> None:
    for text in ("", "hello", *(sample.question for sample in SAMPLES)):
        assert read_replies(orjson.dumps({"replies": answer([written(text, kind=kind)])}))
