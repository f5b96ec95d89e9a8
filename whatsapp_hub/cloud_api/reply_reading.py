"""Replies in Meta's own form: the JSON of a send without its recipient (pure).

It comes from outside, so a key that is not known is refused: it would be a mistake that nobody sees, or a wish that is
not fulfilled. The cards of contacts and the components of templates are passed on as they are. ``messaging_product``
and ``recipient_type`` may stand there, since whole bodies are copied from Meta's pages; who gets it is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from whatsapp_hub.cloud_api.replies import (
    Audio,
    Button,
    Buttons,
    ChoiceList,
    Contacts,
    Document,
    Image,
    LinkButton,
    ListRow,
    ListSection,
    Location,
    LocationRequest,
    Media,
    Reaction,
    Reply,
    Sticker,
    Template,
    Text,
    Video,
)
from whatsapp_hub.errors import ReplyInvalid

Object = Mapping[str, Any]

_SOURCES: Final = ("link", "id")
_CAPTIONED: Final[dict[str, type[Image | Video]]] = {"image": Image, "video": Video}


def read_reply(value: object) -> Reply:
    """Read a reply in Meta's own form, without recipient: ``{"type": "text", "text": {"body": "hello"}}``.

    Raises:
        ReplyInvalid: with what is wrong, in words that do not quote the customer's or the assistant's.

    """
    if not isinstance(value, Mapping):
        raise ReplyInvalid("it is no object")
    if "to" in value or "recipient" in value:
        raise ReplyInvalid("to and recipient are not chosen here: it goes to whom it is for")
    kind = value.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ReplyInvalid(f"type is none of {', '.join(_READERS)}")
    _check(value, "the message", "type", str(kind), "context", "messaging_product", "recipient_type")
    if value.get("messaging_product", "whatsapp") != "whatsapp":
        raise ReplyInvalid("messaging_product is not whatsapp")
    if value.get("recipient_type", "individual") != "individual":
        raise ReplyInvalid("recipient_type is not individual")
    quoted = _reply_to(value)
    return reader(value, {"reply_to": quoted} if quoted else {})


def _reply_to(value: Object) -> str | None:
    if "context" not in value:
        return None
    return _text(_object(value, "context", "context", "message_id"), "message_id", "context")


def _read_text(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "text", "text", "body", "preview_url")
    return Text(body=_text(part, "body", "text"), preview_url=_flag(part, "preview_url", "text"), **also)


def _read_captioned(kind: str) -> Callable[[Object, dict[str, Any]], Reply]:
    def read(value: Object, also: dict[str, Any]) -> Reply:
        part = _object(value, kind, kind, *_SOURCES, "caption")
        return _CAPTIONED[kind](media=_media(part, kind), caption=_text(part, "caption", kind, default=""), **also)

    return read


def _read_document(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "document", "document", *_SOURCES, "filename", "caption")
    return Document(
        media=_media(part, "document"),
        filename=_text(part, "filename", "document", default=""),
        caption=_text(part, "caption", "document", default=""),
        **also,
    )


def _read_audio(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "audio", "audio", *_SOURCES, "voice")
    return Audio(media=_media(part, "audio"), voice=_flag(part, "voice", "audio"), **also)


def _read_sticker(value: Object, also: dict[str, Any]) -> Reply:
    return Sticker(media=_media(_object(value, "sticker", "sticker", *_SOURCES), "sticker"), **also)


def _read_location(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "location", "location", "latitude", "longitude", "name", "address")
    return Location(
        latitude=_number(part, "latitude", "location"),
        longitude=_number(part, "longitude", "location"),
        name=_text(part, "name", "location", default=""),
        address=_text(part, "address", "location", default=""),
        **also,
    )


def _read_contacts(value: Object, also: dict[str, Any]) -> Reply:
    return Contacts(cards=_objects(value, "contacts", "the message"), **also)


def _read_reaction(value: Object, also: dict[str, Any]) -> Reply:
    if also:
        raise ReplyInvalid("a reaction has no context")
    part = _object(value, "reaction", "reaction", "message_id", "emoji")
    emoji = _text(part, "emoji", "reaction", default="")
    return Reaction(message_id=_text(part, "message_id", "reaction"), emoji=emoji)


def _read_template(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "template", "template", "name", "language", "components")
    language = _object(part, "language", "template.language", "code", "policy")
    return Template(
        name=_text(part, "name", "template"),
        language=_text(language, "code", "template.language"),
        components=_objects(part, "components", "template") if "components" in part else (),
        **also,
    )


def _read_interactive(value: Object, also: dict[str, Any]) -> Reply:
    part = _object(value, "interactive", "interactive", "type", "header", "body", "footer", "action")
    kind = part.get("type")
    reader = _INTERACTIVE.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ReplyInvalid(f"interactive.type is none of {', '.join(_INTERACTIVE)}")
    words = {"body": _text(_object(part, "body", "interactive.body", "text"), "text", "interactive.body")}
    if "header" in part:
        header = _object(part, "header", "interactive.header", "type", "text")
        if header.get("type") != "text":
            raise ReplyInvalid("interactive.header is of another type than text")
        words["header"] = _text(header, "text", "interactive.header")
    if "footer" in part:
        words["footer"] = _text(_object(part, "footer", "interactive.footer", "text"), "text", "interactive.footer")
    return reader(part, words | also)


def _read_buttons(part: Object, words: dict[str, Any]) -> Reply:
    action = _object(part, "action", "interactive.action", "buttons")
    buttons = _objects(action, "buttons", "interactive.action")
    return Buttons(buttons=tuple(map(_button, buttons)), **words)


def _button(button: Object) -> Button:
    _check(button, "a button", "type", "reply")
    if button.get("type", "reply") != "reply":
        raise ReplyInvalid("a button is of another type than reply")
    reply = _object(button, "reply", "a button's reply", "id", "title")
    return Button(id=_text(reply, "id", "a button's reply"), title=_text(reply, "title", "a button's reply"))


def _read_list(part: Object, words: dict[str, Any]) -> Reply:
    action = _object(part, "action", "interactive.action", "button", "sections")
    sections = _objects(action, "sections", "interactive.action")
    opener = _text(action, "button", "interactive.action")
    return ChoiceList(button=opener, sections=tuple(map(_section, sections)), **words)


def _section(section: Object) -> ListSection:
    _check(section, "a section", "title", "rows")
    rows = tuple(map(_row, _objects(section, "rows", "a section")))
    return ListSection(rows=rows, title=_text(section, "title", "a section", default=""))


def _row(row: Object) -> ListRow:
    _check(row, "a row", "id", "title", "description")
    return ListRow(
        id=_text(row, "id", "a row"),
        title=_text(row, "title", "a row"),
        description=_text(row, "description", "a row", default=""),
    )


def _read_link(part: Object, words: dict[str, Any]) -> Reply:
    action = _object(part, "action", "interactive.action", "name", "parameters")
    _check_name(action, "cta_url")
    where = "interactive.action.parameters"
    parameters = _object(action, "parameters", where, "display_text", "url")
    return LinkButton(
        display_text=_text(parameters, "display_text", where), url=_text(parameters, "url", where), **words
    )


def _read_location_request(part: Object, words: dict[str, Any]) -> Reply:
    if words.keys() & {"header", "footer"}:
        raise ReplyInvalid("a request for a location has neither header nor footer")
    _check_name(_object(part, "action", "interactive.action", "name"), "send_location")
    return LocationRequest(**words)


_READERS: Final[dict[str, Callable[[Object, dict[str, Any]], Reply]]] = {
    "text": _read_text,
    "image": _read_captioned("image"),
    "video": _read_captioned("video"),
    "audio": _read_audio,
    "document": _read_document,
    "sticker": _read_sticker,
    "location": _read_location,
    "contacts": _read_contacts,
    "reaction": _read_reaction,
    "interactive": _read_interactive,
    "template": _read_template,
}
_INTERACTIVE: Final[dict[str, Callable[[Object, dict[str, Any]], Reply]]] = {
    "button": _read_buttons,
    "list": _read_list,
    "cta_url": _read_link,
    "location_request_message": _read_location_request,
}


def _check(value: Object, where: str, *known: str) -> None:
    if value.keys() - {*known}:
        raise ReplyInvalid(f"{where} has a key that is not known; known are {', '.join(known)}")


def _check_name(action: Object, name: str) -> None:
    if action.get("name") != name:
        raise ReplyInvalid(f"interactive.action.name is not {name}")


def _object(value: Object, key: str, where: str, *known: str) -> Object:
    found = value.get(key)
    if not isinstance(found, Mapping):
        raise ReplyInvalid(f"{where} is no object")
    _check(found, where, *known)
    return found


def _objects(value: Object, key: str, where: str) -> tuple[Object, ...]:
    found = value.get(key)
    if not (isinstance(found, list | tuple) and all(isinstance(item, Mapping) for item in found)):
        raise ReplyInvalid(f"{where} has no list of objects as its {key}")
    return tuple(found)


def _text(value: Object, key: str, where: str, *, default: str | None = None) -> str:
    found = value.get(key, default)
    if not isinstance(found, str):
        raise ReplyInvalid(f"{where} has no text as its {key}")
    return found


def _number(value: Object, key: str, where: str) -> float:
    """Read a number; Meta's own examples have it as a text too."""
    found = value.get(key)
    try:
        if isinstance(found, int | float | str) and not isinstance(found, bool):
            return float(found)
    except (ValueError, OverflowError):
        pass
    raise ReplyInvalid(f"{where} has no number as its {key}")


def _flag(value: Object, key: str, where: str) -> bool:
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise ReplyInvalid(f"{where} has neither true nor false as its {key}")
    return found


def _media(part: Object, kind: str) -> Media:
    given = [key for key in _SOURCES if key in part]
    if len(given) != 1:
        raise ReplyInvalid(f"{kind} has to have exactly one of link and id")
    source = _text(part, given[0], kind)
    return Media(link=source) if given == ["link"] else Media(id=source)
