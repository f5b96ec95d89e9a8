"""A customer's message as a value (pure). Never raises, whatever the item holds.

The keys are those of Meta's webhook reference (field ``messages``); what is said to be always there may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from whatsapp_hub.cloud_api.contents import (
    CallPermissionContent,
    ChoiceContent,
    ContactCard,
    ContactsContent,
    Content,
    Context,
    Details,
    Editable,
    EditContent,
    FormContent,
    LocationContent,
    MediaContent,
    OrderContent,
    OrderLine,
    OtherContent,
    ProductContent,
    ReactionContent,
    Referral,
    RevokeContent,
    SystemContent,
    TextContent,
    UnsupportedContent,
)
from whatsapp_hub.cloud_api.json_fields import (
    Json,
    degrees,
    elements,
    field,
    flag,
    number,
    object_in,
    text,
    whole,
)

UNKNOWN_KIND: Final = "unknown"
MEDIA_KINDS: Final = frozenset({"image", "video", "audio", "document", "sticker"})

Reader = Callable[[Json, Json], Editable]  # of the part that has the kind's name, and of the message around it


def read_details(item: bytes) -> Details:
    """Return everything that a message says."""
    message = object_in(item)
    kind = text(message, "type") or UNKNOWN_KIND
    referral = field(message, "referral")
    return Details(
        kind=kind,
        content=read_content(kind, message),
        context=_read_context(field(message, "context")),
        referral=_read_referral(referral) if isinstance(referral, dict) else None,
        group_id=text(message, "group_id"),
    )


def is_known(kind: str) -> bool:
    """Tell whether this is one of the kinds that Meta's reference had when this was written."""
    return kind in _READERS or kind == "edit"


def read_content(kind: str, message: Json) -> Content:
    """Return the content of a message that has been read as JSON."""
    if kind == "edit":
        # Only for coexistence numbers; Meta: webhooks/reference/messages/edit, 2026-07-20.
        part = field(message, "edit")
        new = field(part, "message")
        new_kind = text(new, "type")
        if new_kind == "edit":  # an edit of an edit does not exist: one level only
            new_kind = ""
        content = _read_simple(new_kind, new) if new_kind else OtherContent()
        return EditContent(original_message_id=text(part, "original_message_id"), kind=new_kind, content=content)
    return _read_simple(kind, message)


def _read_simple(kind: str, message: Json) -> Editable:
    return _READERS.get(kind, _read_other)(field(message, kind), message)


def _read_text(part: Json, _message: Json) -> TextContent:
    return TextContent(body=text(part, "body"))


def _media(kind: str) -> Reader:
    def read(part: Json, _message: Json) -> MediaContent:
        return MediaContent(
            kind=kind,
            id=text(part, "id"),
            mime_type=text(part, "mime_type"),
            sha256=text(part, "sha256"),
            caption=text(part, "caption"),
            filename=text(part, "filename"),
            voice=flag(part, "voice"),
            animated=flag(part, "animated"),
            url=text(part, "url"),
        )

    return read


def _read_location(part: Json, _message: Json) -> LocationContent:
    return LocationContent(
        latitude=degrees(part, "latitude"),
        longitude=degrees(part, "longitude"),
        name=text(part, "name"),
        address=text(part, "address"),
        url=text(part, "url"),
    )


def _read_contacts(part: Json, message: Json) -> ContactsContent:
    cards = elements(part)
    # Copies of Meta's page put ``origin`` in either place.
    origins = (text(place, "origin") for place in (message, *cards))
    return ContactsContent(
        cards=tuple(map(_read_card, cards)), origin=next((origin for origin in origins if origin), "")
    )


def _read_card(card: Json) -> ContactCard:
    name = field(card, "name")  # may be missing
    parts = (text(name, "first_name"), text(name, "last_name"))
    return ContactCard(
        name=text(name, "formatted_name") or " ".join(part for part in parts if part),
        phones=tuple(phone for each in elements(field(card, "phones")) if (phone := text(each, "phone"))),
        vcard=text(card, "vcard"),
    )


def _read_interactive(part: Json, message: Json) -> Editable:
    for key, source in (("button_reply", "button"), ("list_reply", "list")):
        reply = field(part, key)
        if text(reply, "id") or text(reply, "title"):
            return ChoiceContent(
                source=source,
                id=text(reply, "id"),
                title=text(reply, "title"),
                description=text(reply, "description"),
            )
    if form := field(part, "nfm_reply"):
        return _read_form(form)
    if response := text(answer := field(part, "call_permission_reply"), "response"):
        return CallPermissionContent(
            response=response,
            source=text(answer, "response_source"),
            expires_at=whole(answer, "expiration_timestamp"),
        )
    if not isinstance(part, dict):
        # It broke on its way (131000); the value's ``errors`` are kept as an event beside it.
        return UnsupportedContent(kind="interactive", code=_error_code(message))
    return _find_product(part) or OtherContent()


def _read_form(form: Json) -> FormContent:
    """Read the answers of a flow: JSON in a string, as Meta sends it."""
    answers = object_in(text(form, "response_json").encode())
    return FormContent(
        name=text(form, "name"),
        body=text(form, "body"),
        answers=None if answers is None else {key: value for key, value in answers.items() if key != "flow_token"},
        flow_token=text(answers, "flow_token"),
    )


def _find_product(part: dict[str, Json]) -> ProductContent | None:
    """Find a product that was chosen. Meta announced it (changelog of 2026-08-03); its shape was not seen yet."""
    for place in (part, *part.values()):
        if product := text(place, "product_retailer_id"):
            title = text(place, "title") or text(place, "name")
            return ProductContent(catalog_id=text(place, "catalog_id"), product_id=product, title=title)
    return None


def _read_button(part: Json, _message: Json) -> ChoiceContent:
    return ChoiceContent(source="template", id=text(part, "payload"), title=text(part, "text"))


def _read_reaction(part: Json, _message: Json) -> ReactionContent:
    # A reaction is taken back with an empty emoji, or none.
    return ReactionContent(message_id=text(part, "message_id"), emoji=text(part, "emoji"))


def _read_order(part: Json, _message: Json) -> OrderContent:
    lines = [
        OrderLine(
            product_id=text(product, "product_retailer_id"),
            quantity=number(product, "quantity"),
            price=number(product, "item_price"),
            currency=text(product, "currency"),
        )
        for product in elements(field(part, "product_items"))
    ]
    return OrderContent(catalog_id=text(part, "catalog_id"), lines=tuple(lines), text=text(part, "text"))


def _read_system(part: Json, message: Json) -> SystemContent:
    return SystemContent(
        type=text(part, "type"),
        body=text(part, "body"),
        wa_id=text(part, "wa_id"),
        user_id=text(part, "user_id"),
        parent_user_id=text(part, "parent_user_id"),
        previous_user_id=text(part, "previous_user_id"),
        previous_parent_user_id=text(part, "previous_parent_user_id"),
        identity_hash=text(field(message, "identity") or field(part, "identity"), "hash"),
    )


def _read_unsupported(part: Json, message: Json) -> UnsupportedContent:
    return UnsupportedContent(kind=text(part, "type"), code=_error_code(message))


def _read_revoke(part: Json, _message: Json) -> RevokeContent:
    return RevokeContent(original_message_id=text(part, "original_message_id"))


def _read_other(part: Json, _message: Json) -> OtherContent:
    return OtherContent(words=text(part, "body") or text(part, "text") or text(part, "caption"))


_READERS: Final[dict[str, Reader]] = {
    "text": _read_text,
    **{kind: _media(kind) for kind in sorted(MEDIA_KINDS)},
    "location": _read_location,
    "contacts": _read_contacts,
    "interactive": _read_interactive,
    "button": _read_button,
    "reaction": _read_reaction,
    "order": _read_order,
    "system": _read_system,
    "unsupported": _read_unsupported,
    "revoke": _read_revoke,
}


def _error_code(message: Json) -> int | None:
    errors = elements(field(message, "errors"))
    return whole(errors[0], "code") if errors else None


def _read_context(part: Json) -> Context:
    product = field(part, "referred_product")
    return Context(
        message_id=text(part, "id"),
        sender=text(part, "from_user_id") or text(part, "from"),
        forwarded=flag(part, "forwarded") or flag(part, "frequently_forwarded"),
        frequently_forwarded=flag(part, "frequently_forwarded"),
        catalog_id=text(product, "catalog_id"),
        product_id=text(product, "product_retailer_id"),
    )


def _read_referral(part: Json) -> Referral:
    media = (text(part, key) for key in ("image_url", "video_url", "thumbnail_url"))
    return Referral(
        source_url=text(part, "source_url"),
        source_id=text(part, "source_id"),
        source_type=text(part, "source_type"),
        headline=text(part, "headline"),
        body=text(part, "body"),
        media_type=text(part, "media_type"),
        media_url=next((url for url in media if url), ""),
        click_id=text(part, "ctwa_clid"),
    )
