"""What a message of ours says, in words, for whoever reads the conversation later (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from whatsapp_hub.cloud_api.reading import read_text


def words_of(part: bytes) -> str:
    """Return what a part of a reply says: a text as it is, everything else with its kind in front."""
    message = orjson.loads(part)
    kind = message["type"]
    match kind:
        case "text":
            return str(message[kind]["body"])
        case "interactive":
            return "\n".join(filter(None, _interactive(message[kind])))
        case "template":
            return "\n".join((f"(template {message[kind]['name']})", *_parameters(message[kind])))
        case "reaction":
            emoji = message[kind]["emoji"]
            return f"(reaction) {emoji}" if emoji else "(reaction removed)"
    return read_text(part)[1]


def _interactive(message: dict[str, Any]) -> Iterator[str]:
    yield message.get("header", {}).get("text", "")
    yield message["body"]["text"]
    action = message["action"]
    for button in action.get("buttons", ()):
        yield f"[{button['reply']['title']}]"
    for section in action.get("sections", ()):
        yield section.get("title", "")
        for row in section["rows"]:
            yield ": ".join(filter(None, (f"[{row['title']}]", row.get("description"))))
    if parameters := action.get("parameters"):
        yield f"[{parameters['display_text']}] {parameters['url']}"
    if action.get("name") == "send_location":
        yield "(asks for the location)"
    yield message.get("footer", {}).get("text", "")


def _parameters(template: dict[str, Any]) -> Iterator[str]:
    """Yield the texts that were put into a template; its own words are known to Meta only."""
    for component in template.get("components", ()):
        parameters = component.get("parameters")
        for parameter in parameters if isinstance(parameters, list) else ():
            if isinstance(parameter, dict) and isinstance(text := parameter.get("text"), str):
                yield text
