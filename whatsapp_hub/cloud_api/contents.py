"""What customers send, as values (pure). How each is read: ``cloud_api.inbound``; in words: ``cloud_api.reading``.

Anything that Meta leaves out is empty here: a text ``""``, a number None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TextContent:
    """Something that was written."""

    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaContent:
    """A picture, a film, a sound, a file or a sticker. What is in it has to be fetched by its id."""

    kind: str  #: ``image``, ``video``, ``audio``, ``document`` or ``sticker``
    id: str  #: lives 7 days, for the number that it came to
    mime_type: str = ""
    sha256: str = ""
    caption: str = field(default="", repr=False)
    filename: str = field(default="", repr=False)  #: of a document
    voice: bool = False  #: of a sound: recorded in the chat, OGG with Opus
    animated: bool = False  #: of a sticker
    url: str = field(default="", repr=False)  #: a link of Meta's that needs the token; may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationContent:
    """A place on the map."""

    latitude: float | None = field(repr=False)
    longitude: float | None = field(repr=False)
    name: str = field(default="", repr=False)
    address: str = field(default="", repr=False)
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactCard:
    """One person."""

    name: str = field(default="", repr=False)
    phones: tuple[str, ...] = field(default=(), repr=False)
    vcard: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactsContent:
    """Cards of people."""

    cards: tuple[ContactCard, ...] = field(repr=False)
    origin: str = ""  #: ``contact_request``: the customer's own number, asked for by the business; ``other``


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceContent:
    """A button or a row of a list that was pressed."""

    source: str  #: ``button``, ``list`` or ``template``: where it stood
    id: str  #: as the business named it; of a template's button its payload
    title: str = field(default="", repr=False)
    description: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormContent:
    """A form (Meta: flow) that was filled in."""

    name: str
    body: str = field(default="", repr=False)
    answers: Mapping[str, object] | None = field(default=None, repr=False)  #: None: they cannot be read
    flow_token: str = ""  #: may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPermissionContent:
    """The answer to "may we call you?"."""

    response: str  #: ``accept`` or ``reject``
    source: str = ""
    expires_at: int | None = None  #: unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductContent:
    """A product of the catalogue that was chosen."""

    catalog_id: str
    product_id: str
    title: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionContent:
    """An emoji on a message; an empty one takes it back."""

    message_id: str
    emoji: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """Some of one product. Numbers are as Meta writes them."""

    product_id: str
    quantity: str = ""
    price: str = ""
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderContent:
    """A basket of the catalogue that was sent off."""

    catalog_id: str
    lines: tuple[OrderLine, ...] = field(repr=False)
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemContent:
    """WhatsApp's own notice: the customer has another number, user id or device."""

    type: str  #: ``user_changed_number``, ``user_changed_user_id``, ``customer_identity_changed``, ...
    body: str = field(default="", repr=False)
    wa_id: str = field(default="", repr=False)  #: the new number
    user_id: str = field(default="", repr=False)  #: the new user id
    parent_user_id: str = field(default="", repr=False)
    previous_user_id: str = field(default="", repr=False)
    previous_parent_user_id: str = field(default="", repr=False)
    identity_hash: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedContent:
    """Something that WhatsApp does not pass on."""

    kind: str = ""  #: what it was, where Meta says so
    code: int | None = None  #: 131051, or 131000 for one that broke on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeContent:
    """A message was taken back."""

    original_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherContent:
    """A kind that we do not know, or one that came without its content."""

    words: str = field(default="", repr=False)  #: what looks like words in it


#: What an edit can bring.
Editable = (
    TextContent
    | MediaContent
    | LocationContent
    | ContactsContent
    | ChoiceContent
    | FormContent
    | CallPermissionContent
    | ProductContent
    | ReactionContent
    | OrderContent
    | SystemContent
    | UnsupportedContent
    | RevokeContent
    | OtherContent
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditContent:
    """A message was changed."""

    original_message_id: str
    kind: str  #: of the new content
    content: Editable = field(repr=False)


Content = Editable | EditContent


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """The ad or post through which the customer came."""

    source_url: str = field(default="", repr=False)
    source_id: str = ""
    source_type: str = ""  #: ``ad`` or ``post``
    headline: str = field(default="", repr=False)
    body: str = field(default="", repr=False)
    media_type: str = ""
    media_url: str = field(default="", repr=False)
    click_id: str = field(default="", repr=False)  #: ``ctwa_clid``


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a message refers to."""

    message_id: str = ""  #: the message that it answers; none for one that was forwarded
    sender: str = field(default="", repr=False)  #: who wrote that one: a user id or a phone number
    forwarded: bool = False
    frequently_forwarded: bool = False
    catalog_id: str = ""
    product_id: str = ""  #: the product that it asks about


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Everything of one message but its sender and its time."""

    kind: str  #: Meta's ``type``
    content: Content = field(repr=False)
    context: Context = Context()
    referral: Referral | None = None
    group_id: str = ""
