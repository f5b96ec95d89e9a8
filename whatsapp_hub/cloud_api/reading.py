"""What a customer's message says, in words (pure).

Assistants get a text for every kind of message, also for those that Meta has not thought of yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.errors import PayloadInvalid

Json = Any  # anything may stand anywhere

UNKNOWN_KIND: Final = "unknown"

#: Kinds that nobody waits behind. A reaction comments on what was said already; ``system`` is WhatsApp's own notice of
#: a changed number or identity; ``revoke`` takes a message back. ``unsupported`` is not among them: it is how the first
#: message after a click on an ad often comes, so that a new customer waits for an answer.
_NO_REPLY: Final = frozenset({"reaction", "system", "revoke"})


def read_text(item: bytes) -> tuple[str, str]:
    """Return a message's kind (Meta's ``type``) and what it says. Never raises, whatever the item holds."""
    message = _read_object(item)
    kind = _text(message, "type")
    if not kind:
        return UNKNOWN_KIND, "(a message that could not be read)"
    return json_text.clean(kind), json_text.clean(_words(kind, message))


def wants_reply(kind: str) -> bool:
    """Tell whether a message of this kind waits for an answer."""
    return kind not in _NO_REPLY


def _words(kind: str, message: Json) -> str:
    words = _READERS.get(kind, _read_other)(_field(message, kind))
    return words or f"({kind.replace('_', ' ')} message without readable content)"


def _read_text(part: Json) -> str:
    return _text(part, "body")


def _read_button(part: Json) -> str:
    return _text(part, "text") or _text(part, "payload")


def _read_reaction(part: Json) -> str:
    # A reaction is taken back with an empty emoji, or none.
    return _text(part, "emoji") or "(reaction removed)"


def _read_audio(part: Json) -> str:
    return _labelled("voice message" if _field(part, "voice") is True else "audio", _text(part, "caption"))


def _read_document(part: Json) -> str:
    return _labelled(_joined("document", _text(part, "filename"), separator=" "), _text(part, "caption"))


def _media(name: str) -> Callable[[Json], str]:
    return lambda part: _labelled(name, _text(part, "caption"))


def _read_location(part: Json) -> str:
    coordinates = _joined(_number(part, "latitude"), _number(part, "longitude"))
    return _labelled("location", _joined(_text(part, "name"), _text(part, "address"), coordinates))


def _read_contacts(cards: Json) -> str:
    return _labelled("contacts", _joined(*(_read_card(card) for card in _elements(cards)), separator="; "))


def _read_card(card: Json) -> str:
    name = _field(card, "name")
    full_name = _text(name, "formatted_name") or _joined(
        _text(name, "first_name"), _text(name, "last_name"), separator=" "
    )
    return _joined(full_name, *(_text(phone, "phone") for phone in _elements(_field(card, "phones"))))


def _read_interactive(part: Json) -> str:
    for kind in ("button_reply", "list_reply"):
        reply = _field(part, kind)
        if title := _text(reply, "title") or _text(reply, "id"):
            return _joined(title, _text(reply, "description"), separator=": ")
    if form := _field(part, "nfm_reply"):
        return _read_form(form)
    if answer := _text(_field(part, "call_permission_reply"), "response"):
        return _labelled("answer to a request to call", answer)
    return ""


def _read_form(form: Json) -> str:
    """Read the answers of a flow: JSON in a string, as Meta sends it."""
    answers = _read_object(_text(form, "response_json").encode(errors="replace"))
    if answers is None:
        return _labelled("form", _text(form, "body"))
    told = (f"{key}: {_plain(value)}" for key, value in answers.items() if key != "flow_token")
    return _labelled("form", "; ".join(told))


def _read_order(part: Json) -> str:
    lines = [_read_product(product) for product in _elements(_field(part, "product_items"))]
    return _labelled("order", _joined("; ".join(lines), _text(part, "text"), separator=". "))


def _read_product(product: Json) -> str:
    price = _joined(_number(product, "item_price"), _text(product, "currency"), separator=" ")
    amount = _joined(_number(product, "quantity"), _text(product, "product_retailer_id"), separator=" x ")
    return _joined(amount, price, separator=" at ")


def _read_edit(part: Json) -> str:
    message = _field(part, "message")
    kind = _text(message, "type")
    # One level only: an edit of an edit does not exist.
    return _labelled("edited message", _words(kind, message) if kind and kind != "edit" else "")


def _read_other(part: Json) -> str:
    return _text(part, "body") or _text(part, "text") or _text(part, "caption")


_READERS: Final[dict[str, Callable[[Json], str]]] = {
    "text": _read_text,
    "image": _media("image"),
    "video": _media("video"),
    "sticker": _media("sticker"),
    "audio": _read_audio,
    "document": _read_document,
    "location": _read_location,
    "contacts": _read_contacts,
    "interactive": _read_interactive,
    "button": _read_button,
    "reaction": _read_reaction,
    "order": _read_order,
    "edit": _read_edit,
    "revoke": lambda _: "(message deleted)",
    "unsupported": lambda _: "(a message of a kind that WhatsApp does not pass on)",
}


def _labelled(label: str, words: str) -> str:
    return f"({label}) {words}" if words else f"({label})"


def _joined(*words: str, separator: str = ", ") -> str:
    return separator.join(word for word in words if word)


def _read_object(text: bytes) -> dict[str, Any] | None:
    try:
        return json_text.read_object(text)
    except PayloadInvalid:
        return None


def _field(part: Json, key: str) -> Json:
    """Return what stands under a key, whatever it stands in; None where there is nothing to be had."""
    return part.get(key) if isinstance(part, dict) else None


def _elements(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _text(part: Json, key: str) -> str:
    value = _field(part, key)
    return value if isinstance(value, str) else ""


def _number(part: Json, key: str) -> str:
    value = _field(part, key)
    return str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json_text.write(value).decode()
