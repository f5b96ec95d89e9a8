"""What Meta checks of a message that is sent, for the stand-in (pure).

It shares nothing with what builds messages, neither numbers nor code, so that a slip on one side is seen by the other.
Numbers are those of Meta's pages under ``business-messaging/whatsapp/messages``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from whatsapp_hub.demo.refused import Refused

Json = Any
_BAD: Final = 131009  # "Parameter value is not valid"
_MISSING: Final = 131008
_WRONG: Final = 100
_NAME_PARTS: Final = frozenset({"first_name", "last_name", "middle_name", "suffix", "prefix"})


def check_content(body: Json) -> None:
    """Check what a message says. Raises ``Refused``."""
    kind = body.get("type", "text")
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise Refused(_WRONG, "Param type must be one of the message types")
    if kind not in body:
        raise Refused(_WRONG, "The parameter of the message's type is required.")
    if "context" in body:
        quoted = body["context"]
        _need(isinstance(quoted, dict) and _is_text(quoted.get("message_id"), 1, 512), "context['message_id']")
    check(body[kind])


def media_id_of(body: Json) -> str | None:
    """Return the id of the media that a message shows, if it shows any by id."""
    media = body.get(body.get("type"))
    found = media.get("id") if isinstance(media, dict) and body.get("type") in _MEDIA else None
    return found if isinstance(found, str) else None


def _check_text(text: Json) -> None:
    if not (isinstance(text, dict) and _is_text(text.get("body"), 1, 4096)):
        raise Refused(_WRONG, "Param text['body'] must be from 1 to 4096 characters long.")
    _only(text, "text", "body", "preview_url")
    _need(isinstance(text.get("preview_url", False), bool), "text['preview_url']")


def _media(*also: str) -> Callable[[Json], None]:
    def check(media: Json) -> None:
        _only(media, "media", "id", "link", *also)
        if ("id" in media) == ("link" in media):
            raise Refused(_MISSING, "Exactly one of id and link is required.")
        if "id" in media:
            _need(_is_text(media["id"], 1, 512), "id")
        else:
            _need(_is_link(media["link"]), "link")
        if "caption" in media:
            _need(_is_text(media["caption"], 1, 1024), "caption")
        if "filename" in media:
            _need(_is_text(media["filename"], 1, 4096), "filename")
        _need(isinstance(media.get("voice", False), bool), "voice")

    return check


def _check_location(place: Json) -> None:
    _only(place, "location", "latitude", "longitude", "name", "address")
    for key, most in (("latitude", 90), ("longitude", 180)):
        value = place.get(key)
        _need(isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most, key)
    for key in ("name", "address"):
        _need(key not in place or _is_text(place[key], 1, 1 << 20), key)


def _check_contacts(cards: Json) -> None:
    _need(isinstance(cards, list) and 1 <= len(cards) <= 257, "contacts")
    for card in cards:
        name = card.get("name") if isinstance(card, dict) else None
        whole = isinstance(name, dict) and {key for key, text in name.items() if _is_text(text, 1, 1 << 20)}
        _need(whole and "formatted_name" in whole and whole & _NAME_PARTS, "contacts['name']")


def _check_reaction(reaction: Json) -> None:
    _only(reaction, "reaction", "message_id", "emoji")
    _need(_is_text(reaction.get("message_id"), 1, 512), "reaction['message_id']")
    emoji = reaction.get("emoji", "")
    plain = isinstance(emoji, str) and any(char.isalpha() or char.isspace() for char in emoji)
    _need(isinstance(emoji, str) and not plain, "reaction['emoji']")


def _check_template(template: Json) -> None:
    _only(template, "template", "name", "language", "components")
    _need(_is_text(template.get("name"), 1, 512), "template['name']")
    language = template.get("language")
    _need(isinstance(language, dict) and _is_text(language.get("code"), 1, 35), "template['language']")
    components = template.get("components", [])
    _need(isinstance(components, list) and all(isinstance(one, dict) for one in components), "template['components']")


def _check_interactive(message: Json) -> None:
    _only(message, "interactive", "type", "header", "body", "footer", "action")
    kind, action = message.get("type"), message.get("action")
    check, longest = _ACTIONS.get(kind, (None, 0)) if isinstance(kind, str) else (None, 0)
    if check is None or not isinstance(action, dict):
        raise Refused(_BAD, "interactive['type'] or interactive['action'] is not valid")
    _need(_holds_text(message.get("body"), longest), "interactive['body']")
    _need("footer" not in message or _holds_text(message["footer"], 60), "interactive['footer']")
    if "header" in message:
        header = message["header"]
        shown = isinstance(header, dict) and header.get("type") == "text" and _is_text(header.get("text"), 1, 60)
        _need(shown, "interactive['header']")
    _need(kind != "location_request_message" or not message.keys() & {"header", "footer"}, "interactive['header']")
    check(action)


def _check_buttons(action: Json) -> None:
    buttons = action.get("buttons")
    _need(isinstance(buttons, list) and 1 <= len(buttons) <= 3, "buttons")
    for button in buttons:
        _need(isinstance(button, dict) and button.get("type") == "reply", "buttons['type']")
        reply: Json = button.get("reply")
        _need(isinstance(reply, dict) and reply.keys() == {"id", "title"}, "buttons['reply']")
        _need(_is_id(reply["id"], 256) and _is_text(reply["title"], 1, 20), "buttons['reply']")
    for key in ("id", "title"):
        _need(len({button["reply"][key] for button in buttons}) == len(buttons), f"buttons['reply']['{key}']")


def _check_list(action: Json) -> None:
    _need(_is_text(action.get("button"), 1, 20), "button")
    sections = action.get("sections")
    _need(isinstance(sections, list) and 1 <= len(sections) <= 10, "sections")
    rows: list[Json] = []
    for section in sections:
        _need(isinstance(section, dict) and isinstance(section.get("rows"), list) and section["rows"], "rows")
        titled = _is_text(section.get("title"), 1, 24)
        _need(titled or (len(sections) == 1 and "title" not in section), "sections['title']")
        rows += section["rows"]
    _need(len(rows) <= 10, "rows")
    for row in rows:
        _only(row, "rows", "id", "title", "description")
        _need(_is_id(row.get("id"), 200) and _is_text(row.get("title"), 1, 24), "rows")
        _need("description" not in row or _is_text(row["description"], 1, 72), "rows['description']")
    _need(len({row["id"] for row in rows}) == len(rows), "rows['id']")


def _check_link(action: Json) -> None:
    parameters: Json = action.get("parameters")
    _need(action.get("name") == "cta_url" and isinstance(parameters, dict), "parameters")
    _need(parameters.keys() == {"display_text", "url"}, "parameters")
    _need(_is_text(parameters["display_text"], 1, 20), "display_text")
    _need(_is_link(parameters["url"]), "url")


def _check_location_request(action: Json) -> None:
    _need(action == {"name": "send_location"}, "action")


_MEDIA: Final[dict[str, Callable[[Json], None]]] = {
    "image": _media("caption"),
    "video": _media("caption"),
    "document": _media("caption", "filename"),
    "audio": _media("voice"),
    "sticker": _media(),
}
_CHECKS: Final[dict[str, Callable[[Json], None]]] = {
    **_MEDIA,
    "text": _check_text,
    "location": _check_location,
    "contacts": _check_contacts,
    "reaction": _check_reaction,
    "template": _check_template,
    "interactive": _check_interactive,
}
_ACTIONS: Final[dict[str, tuple[Callable[[Json], None], int]]] = {
    "button": (_check_buttons, 1024),
    "list": (_check_list, 4096),
    "cta_url": (_check_link, 1024),
    "location_request_message": (_check_location_request, 1024),
}


def _need(holds: object, param: str) -> None:
    if not holds:
        raise Refused(_BAD, f"Parameter value is not valid: {param}")


def _only(value: Json, name: str, *known: str) -> None:
    if not isinstance(value, dict):
        raise Refused(_WRONG, f"Param {name} must be a JSON object.")
    if unexpected := value.keys() - {*known}:
        raise Refused(_WRONG, f"Unexpected key {min(unexpected)!r} on param {name!r}.")


def _holds_text(value: Json, longest: int) -> bool:
    return isinstance(value, dict) and value.keys() == {"text"} and _is_text(value["text"], 1, longest)


def _is_text(value: Json, shortest: int, longest: int) -> bool:
    return isinstance(value, str) and shortest <= len(value) <= longest and bool(value.strip())


def _is_id(value: Json, longest: int) -> bool:
    return _is_text(value, 1, longest) and value == value.strip()


def _is_link(value: Json) -> bool:
    if not isinstance(value, str) or any(char.isspace() for char in value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.netloc)
