"""OpenAI's ``/chat/completions`` as bytes and values (pure).

Many servers speak it, each a little differently, so what is sent is the least that all of them understand.
https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from whatsapp_hub.assistants.base import CustomerMessage, Turn
from whatsapp_hub.assistants.vision import Picture
from whatsapp_hub.errors import AssistantFailed

MAX_ANSWER_CHARACTERS: Final = 65_536  #: sixteen messages of WhatsApp's length; a model that writes more runs wild
MAX_TOKENS: Final = 100_000_000  #: a server that claims to have used more is not believed


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered."""

    text: str = field(repr=False)
    input_tokens: int
    output_tokens: int


def build_request(
    turn: Turn, *, model: str, instructions: str, temperature: float | None, pictures: Sequence[Picture] = ()
) -> bytes:
    """Write the request's body: the instructions, the conversation so far, and what the customer says now."""
    payload: dict[str, object] = {"model": model, "messages": list(_build_messages(turn, instructions, pictures))}
    if temperature is not None:
        payload["temperature"] = temperature
    try:
        return orjson.dumps(payload)
    except TypeError:  # a lone surrogate, which customers' devices do send; it becomes a question mark
        return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")


def _build_messages(turn: Turn, instructions: str, pictures: Sequence[Picture]) -> Iterator[dict[str, object]]:
    if instructions.strip():
        yield {"role": "system", "content": instructions}
    for past in turn.history:
        if past.customer:
            yield {"role": "user", "content": past.customer}
        if past.reply:
            yield {"role": "assistant", "content": past.reply}
    yield {"role": "user", "content": _build_parts(turn, pictures) if pictures else _say(turn.messages)}


def _build_parts(turn: Turn, pictures: Sequence[Picture]) -> list[dict[str, object]]:
    """Put each picture behind the words of its message.

    https://platform.openai.com/docs/guides/images-vision
    """
    urls = {picture.message_id: picture.url for picture in pictures}
    parts: list[dict[str, object]] = []
    said: list[CustomerMessage] = []
    for message in turn.messages:
        said.append(message)
        if url := urls.get(message.id):
            parts += [{"type": "text", "text": _say(said)}, {"type": "image_url", "image_url": {"url": url}}]
            said = []
    return [*parts, {"type": "text", "text": _say(said)}] if said else parts


def _say(messages: Sequence[CustomerMessage]) -> str:
    return "\n".join(message.text or f"({message.kind})" for message in messages)


def read_completion(body: bytes) -> Completion:
    """Read the answer out of a successful response.

    Raises:
        AssistantFailed: there is none in it.

    """
    payload = _load(body)
    match payload:
        case {"choices": [{"message": {"content": content}}, *_]}:
            text = _read_content(content).strip()
        case _:
            raise AssistantFailed("the response is not a chat completion")
    if not text:
        raise AssistantFailed("the answer is empty")
    usage = payload.get("usage")
    return Completion(
        text=text[:MAX_ANSWER_CHARACTERS],
        input_tokens=_read_count(usage, "prompt_tokens"),
        output_tokens=_read_count(usage, "completion_tokens"),
    )


def read_error_code(body: bytes) -> str:
    """Return the name that the server gives an error, or ``""``; never its free text, which may quote the customer."""
    match _load(body):
        case {"error": {"code": str(code)}} | {"error": {"type": str(code)}} if re.fullmatch(r"[A-Za-z_]{1,40}", code):
            return code
    return ""


def retry_delay_s(attempt: int, *, asked_s: float | None, base_s: float, rng: Random) -> float:
    """Return how long to wait after the ``attempt``-th failure (from 1), not less than the server asked for."""
    backoff_s = base_s * 2.0 ** (attempt - 1) * rng.uniform(0.5, 1.0)
    return backoff_s if asked_s is None else asked_s + backoff_s


def read_retry_after(header: str | None) -> float | None:
    """Return the seconds that ``Retry-After`` asks for. Its other form, a date, is left to our own backoff."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _load(body: bytes) -> Any:  # whatever JSON there is
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _read_content(content: object) -> str:
    """Some servers answer with a list of parts instead of a text."""
    match content:
        case str():
            return content
        case [*parts]:
            return "".join(
                part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
    return ""


def _read_count(usage: object, name: str) -> int:
    match usage:
        case dict() if type(count := usage.get(name)) is int and 0 <= count <= MAX_TOKENS:
            return count
    return 0
