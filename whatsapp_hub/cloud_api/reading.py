"""What a customer's message says, in words (pure).

Assistants get a text for every kind of message, also for those that Meta has not thought of yet.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Final

from whatsapp_hub.cloud_api.contents import (
    CallPermissionContent,
    ChoiceContent,
    ContactCard,
    ContactsContent,
    Content,
    EditContent,
    FormContent,
    LocationContent,
    MediaContent,
    OrderContent,
    OrderLine,
    OtherContent,
    ProductContent,
    ReactionContent,
    RevokeContent,
    SystemContent,
    TextContent,
    UnsupportedContent,
)
from whatsapp_hub.cloud_api.inbound import UNKNOWN_KIND, read_content
from whatsapp_hub.cloud_api.json_fields import field, object_in, plain, text

__all__ = ["UNKNOWN_KIND", "in_words", "is_unsupported", "read_text", "wants_reply"]

#: Kinds that nobody waits behind. A reaction comments on what was said already; ``system`` is WhatsApp's own notice of
#: a changed number or identity; ``revoke`` takes a message back. ``unsupported`` is not among them: it is how the first
#: message after a click on an ad often comes, so that a new customer waits for an answer.
_NO_REPLY: Final = frozenset({"reaction", "system", "revoke"})


def read_text(item: bytes) -> tuple[str, str]:
    """Return a message's kind (Meta's ``type``) and what it says. Never raises, whatever the item holds."""
    message = object_in(item)
    kind = text(message, "type") or UNKNOWN_KIND
    if kind == "text" and (body := text(field(message, "text"), "body")):  # nearly all of them: no value is made
        return kind, body
    return kind, in_words(kind, read_content(kind, message))


def wants_reply(kind: str) -> bool:
    """Tell whether a message of this kind waits for an answer."""
    return kind not in _NO_REPLY


def is_unsupported(content: Content) -> bool:
    """Tell whether a message says nothing that anybody could answer."""
    return isinstance(content, UnsupportedContent) or (isinstance(content, OtherContent) and not content.words)


def in_words(kind: str, content: Content) -> str:
    """Say a content in words; never empty."""
    if kind == UNKNOWN_KIND and is_unsupported(content):
        return "(a message that could not be read)"
    return _words(content) or f"({kind.replace('_', ' ')} message without readable content)"


@singledispatch
def _words(_content: object) -> str:
    return ""


@_words.register
def _(content: TextContent) -> str:
    return content.body


@_words.register
def _(content: MediaContent) -> str:
    label = "voice message" if content.voice else content.kind
    if content.kind == "document":
        label = _joined(label, content.filename, separator=" ")
    return _labelled(label, content.caption)


@_words.register
def _(content: LocationContent) -> str:
    coordinates = _joined(*(str(one) for one in (content.latitude, content.longitude) if one is not None))
    return _labelled("location", _joined(content.name, content.address, coordinates))


@_words.register
def _(content: ContactsContent) -> str:
    label = "own contact" if content.origin == "contact_request" else "contacts"
    return _labelled(label, _joined(*map(_card, content.cards), separator="; "))


def _card(card: ContactCard) -> str:
    return _joined(card.name, *card.phones)


@_words.register
def _(content: ChoiceContent) -> str:
    return _joined(content.title or content.id, content.description, separator=": ")


@_words.register
def _(content: FormContent) -> str:
    if content.answers is None:
        return _labelled("form", content.body)
    return _labelled("form", "; ".join(f"{plain(key)}: {plain(value)}" for key, value in content.answers.items()))


@_words.register
def _(content: CallPermissionContent) -> str:
    return _labelled("answer to a request to call", content.response)


@_words.register
def _(content: ProductContent) -> str:
    return _labelled("product", _joined(content.title, content.product_id))


@_words.register
def _(content: ReactionContent) -> str:
    return content.emoji or "(reaction removed)"


@_words.register
def _(content: OrderContent) -> str:
    return _labelled("order", _joined("; ".join(map(_line, content.lines)), content.text, separator=". "))


def _line(line: OrderLine) -> str:
    price = _joined(line.price, line.currency, separator=" ")
    return _joined(_joined(line.quantity, line.product_id, separator=" x "), price, separator=" at ")


@_words.register
def _(content: SystemContent) -> str:
    return content.body


@_words.register
def _(content: UnsupportedContent) -> str:
    if content.kind == "interactive":
        return ""
    return _joined("(a message of a kind that WhatsApp does not pass on", content.kind, separator=": ") + ")"


@_words.register
def _(content: EditContent) -> str:
    return _labelled("edited message", in_words(content.kind, content.content) if content.kind else "")


@_words.register
def _(_content: RevokeContent) -> str:
    return "(message deleted)"


@_words.register
def _(content: OtherContent) -> str:
    return content.words


def _labelled(label: str, words: str) -> str:
    return f"({label}) {words}" if words else f"({label})"


def _joined(*words: str, separator: str = ", ") -> str:
    return separator.join(word for word in words if word)
