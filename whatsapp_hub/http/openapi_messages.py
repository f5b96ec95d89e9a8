"""Every kind of message that can be sent, as JSON schemas with examples (pure).

They are Meta's own forms (``cloud_api.reply_reading``): a key that is not known, or of another type, is refused. The
limits of values are Meta's (``cloud_api.limits``), and what does not keep to them is said in another way where there is
one: a long text in parts, a list of too many rows as lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

_VISIBLE: Final = r"^[!-~]+$"
#: Something can be seen of it: a message of white space is none.
_WORDS: Final = r"\S"


def _text(description: str, **limits: Any) -> Schema:
    return {"type": "string", "description": description, **limits}


def _words(description: str) -> Schema:
    return _text(description, pattern=_WORDS, minLength=1)


def _object(required: tuple[str, ...], **properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _media(description: str, **more: Any) -> Schema:
    """Describe where a file comes from: data cannot be sent along in JSON."""
    link = _text("where Meta fetches it from", format="uri", pattern=r"^https://[a-z0-9-]+\.[a-z]{2,}/[!-~]*$")
    media_id = _text("the id that Meta gave it when it was uploaded for the same number", pattern=r"^[0-9]{1,32}$")
    choices = [_object(("link",), link=link, **more), _object(("id",), id=media_id, **more)]
    return {"description": description, "oneOf": choices}


_CAPTION: Final = _text("at most 1024 characters; a longer one follows as a text")
_BODY: Final = _object(("text",), text=_words("what stands above"))
_AROUND: Final = {
    "header": _object(("type", "text"), type={"const": "text"}, text=_text("at most 60 characters are shown")),
    "footer": _object(("text",), text=_text("at most 60 characters are shown")),
}
_ID: Final = _text("comes back when it is chosen", pattern=r"^[0-9A-Za-z._:-]{1,200}$")
_ROW: Final = _object(("id", "title"), id=_ID, title=_words("at most 24 characters"), description=_text("at most 72"))
_BUTTON: Final = _object(
    ("reply",),
    type={"const": "reply"},
    reply=_object(("id", "title"), id=_ID, title=_words("at most 20 characters")),
)
_NAME_PARTS: Final = ("formatted_name", "first_name", "last_name", "middle_name", "prefix", "suffix")
_CARD: Final[Schema] = {
    "type": "object",
    "description": "in Meta's form, passed on; phones, emails and the rest stand beside the name",
    "properties": {
        "name": {
            "type": "object",
            "properties": {name: _words("a part of the name, or all of it") for name in _NAME_PARTS},
            "anyOf": [{"required": [name]} for name in _NAME_PARTS],
        }
    },
    "required": ["name"],
}
#: Meta's own examples have numbers as texts too.
_LATITUDE: Final = {"anyOf": [{"type": "number", "minimum": -90, "maximum": 90}, _text("", pattern=r"^-?[0-9]{1,2}$")]}
_LONGITUDE: Final = {
    "anyOf": [{"type": "number", "minimum": -180, "maximum": 180}, _text("", pattern=r"^-?1?[0-7]?[0-9]$")]
}


def _interactive(kind: str, action: Schema, **around: Schema) -> Schema:
    return _object(("type", "body", "action"), type={"const": kind}, body=_BODY, action=action, **around)


_BUTTONS: Final = _interactive(
    "button",
    _object(("buttons",), buttons={"type": "array", "minItems": 1, "maxItems": 3, "items": _BUTTON}),
    **_AROUND,
)
_LIST: Final = _interactive(
    "list",
    _object(
        ("button", "sections"),
        button=_words("what opens the list, at most 20 characters"),
        sections={
            "type": "array",
            "minItems": 1,
            "maxItems": 10,
            "items": _object(
                ("rows",),
                title=_text("at most 24 characters; needed where there are several sections"),
                rows={"type": "array", "minItems": 1, "maxItems": 10, "items": _ROW},
            ),
        },
    ),
    **_AROUND,
)
_LINK: Final = _interactive(
    "cta_url",
    _object(
        ("name", "parameters"),
        name={"const": "cta_url"},
        parameters=_object(
            ("display_text", "url"),
            display_text=_text("at most 20 characters"),
            url=_text("what opens; what cannot be opened is said as text"),
        ),
    ),
    **_AROUND,
)
_LOCATION_REQUEST: Final = _interactive("location_request_message", _object(("name",), name={"const": "send_location"}))

#: By the name of its schema: Meta's ``type``, what stands under the key of the same name, and an example of that.
KINDS: Final[dict[str, tuple[str, Schema, Any]]] = {
    "Text": (
        "text",
        _object(("body",), body=_words("split where it is too long for WhatsApp"), preview_url={"type": "boolean"}),
        {"body": "Your order is ready."},
    ),
    "Image": (
        "image",
        _media("JPEG or PNG, at most 5 MB", caption=_CAPTION),
        {"link": "https://shop.example/bread.jpg", "caption": "Fresh today"},
    ),
    "Video": ("video", _media("MP4 or 3GP, at most 16 MB", caption=_CAPTION), {"id": "1234567890"}),
    "Audio": (
        "audio",
        _media("AAC, AMR, MP3, M4A or OGG with Opus, at most 16 MB", voice={"type": "boolean"}),
        {"link": "https://shop.example/hello.ogg", "voice": True},
    ),
    "Document": (
        "document",
        _media("any file, at most 100 MB", caption=_CAPTION, filename=_text("its name for the customer")),
        {"link": "https://shop.example/bill.pdf", "filename": "bill.pdf", "caption": "Your bill"},
    ),
    "Sticker": ("sticker", _media("WebP, 512 by 512 pixels"), {"id": "1234567891"}),
    "Location": (
        "location",
        _object(
            ("latitude", "longitude"),
            latitude=_LATITUDE,
            longitude=_LONGITUDE,
            name=_text("what it is called"),
            address=_text("where it is"),
        ),
        {"latitude": 52.52, "longitude": 13.405, "name": "The Bakery", "address": "Main Street 1"},
    ),
    "Contacts": (
        "contacts",
        {"type": "array", "minItems": 1, "maxItems": 257, "items": _CARD},
        [
            {
                "name": {"formatted_name": "Ada Baker", "first_name": "Ada"},
                "phones": [{"phone": "+4930123456"}],
            }
        ],
    ),
    "Reaction": (
        "reaction",
        _object(
            ("message_id",),
            message_id=_text("of a message of the customer", pattern=_VISIBLE, maxLength=256),
            emoji={"description": "one emoji; none, or an empty text, takes it back", "enum": ["👍", "❤️", "🎉", ""]},
        ),
        {"message_id": "wamid.HBgNNDkxNzAwMDAwMDAwMRUCABIYFjNFQjA=", "emoji": "👍"},
    ),
    "Buttons": (
        "interactive",
        _BUTTONS,
        {
            "type": "button",
            "body": {"text": "Shall we keep it for you?"},
            "action": {
                "buttons": [
                    {"type": "reply", "reply": {"id": "yes", "title": "Yes"}},
                    {"type": "reply", "reply": {"id": "no", "title": "No"}},
                ]
            },
        },
    ),
    "List": (
        "interactive",
        _LIST,
        {
            "type": "list",
            "body": {"text": "When do you come?"},
            "action": {
                "button": "Choose",
                "sections": [{"rows": [{"id": "am", "title": "Morning"}, {"id": "pm", "title": "Afternoon"}]}],
            },
        },
    ),
    "LinkButton": (
        "interactive",
        _LINK,
        {
            "type": "cta_url",
            "body": {"text": "All about your order"},
            "action": {
                "name": "cta_url",
                "parameters": {"display_text": "Open", "url": "https://shop.example/orders/7"},
            },
        },
    ),
    "LocationRequest": (
        "interactive",
        _LOCATION_REQUEST,
        {
            "type": "location_request_message",
            "body": {"text": "Where shall we bring it?"},
            "action": {"name": "send_location"},
        },
    ),
    "Template": (
        "template",
        _object(
            ("name", "language"),
            name=_text("as Meta approved it", pattern=r"^[a-z0-9_]{1,512}$"),
            language=_object(
                ("code",),
                code=_text("such as en_US", pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$"),
                policy={"const": "deterministic"},
            ),
            components={"type": "array", "items": {"type": "object"}, "description": "in Meta's form, passed on"},
        ),
        {
            "name": "order_ready",
            "language": {"code": "en_US"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "7"}]}],
        },
    ),
}


def examples() -> Iterator[tuple[str, Schema]]:
    """Return an example of each kind, by its name, in Meta's form."""
    for name, (kind, _, content) in KINDS.items():
        yield name, {"type": kind, kind: content}
