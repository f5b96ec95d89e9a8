"""What the sample businesses say in the playground (pure). Everybody else hears what they said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: How the ids of messages begin that were written in the playground.
WRITTEN_HERE: Final = "wamid.PLAY"

Reply = str | Mapping[str, Any]


def _buttons(text: str, **titles: str) -> Reply:
    buttons = [{"type": "reply", "reply": {"id": name, "title": title}} for name, title in titles.items()]
    return {
        "type": "interactive",
        "interactive": {"type": "button", "body": {"text": text}, "action": {"buttons": buttons}},
    }


_ANSWERS: Final[Mapping[str, Reply]] = {
    "do you still have sourdough today?": _buttons(
        "Yes, four loaves, and still warm. Shall I keep one for you?", keep="Keep one", hours="When do you close?"
    ),
    "keep one": "Done! There is one with your name on it. See you soon.",
    "when do you close?": "At six today. From Tuesday to Sunday we open at seven.",
    "my rear brake squeals. can i bring it in tomorrow?": _buttons(
        "Sure, that is mostly half an hour's work. When would you come by?", morning="Morning", afternoon="Afternoon"
    ),
    "morning": "Morning it is: any time between eight and eleven.",
    "afternoon": "Afternoon it is: any time between two and five.",
    "is friday at half past nine still free?": _buttons(
        "It is. Shall I book it for you?", book="Book it", later="Another time"
    ),
    "book it": "Booked: Friday, half past nine. We will remind you the day before.",
    "another time": "Of course. Just tell me when it suits you.",
}


def answer(messages: Sequence[Mapping[str, Any]]) -> list[Reply]:
    """Answer the messages of a turn, in the form in which endpoints get and answer them."""
    texts = [text for message in messages if (text := str(message.get("text", "")).strip())]
    if not any(str(message.get("id", "")).startswith(WRITTEN_HERE) for message in messages):
        return ["\n".join(texts)] if texts else []
    if len(messages) > 1:
        return ["\n".join([f"All {len(messages)} at once, so one answer will do:", *(f"• {text}" for text in texts)])]
    return [_answer_one(str(messages[0].get("kind")), texts[0] if texts else "")]


def _answer_one(kind: str, text: str) -> Reply:
    if kind == "image":
        return "What a sight! I have seen to it that the others here see it too."
    if kind == "audio":
        return f"I have listened. You said: {text}"
    return _ANSWERS.get(text.casefold()) or f"Noted: {text}"
