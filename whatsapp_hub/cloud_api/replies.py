"""What can be said to a customer, as values (pure). How each becomes messages of WhatsApp: ``cloud_api.parts``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What every reply has."""

    reply_to: str | None = None  #: the id of a message of the customer, which is shown above the reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Said):
    """A text to send. Longer ones than WhatsApp takes are split for you."""

    body: str = field(repr=False)
    preview_url: bool = False  #: show a preview of the first link in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Where a picture, a sound or a file comes from: exactly one of the three."""

    link: str | None = field(default=None, repr=False)  #: https; Meta fetches it
    id: str | None = None  #: of something that was uploaded to Meta for the same number
    data: bytes | None = field(default=None, repr=False)  #: the hub uploads it
    mime_type: str | None = None  #: of ``data``


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Said):
    """A picture, JPEG or PNG."""

    media: Media
    caption: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Said):
    """A film, MP4 or 3GP."""

    media: Media
    caption: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Said):
    """A sound."""

    media: Media
    voice: bool = False  #: shown as a voice note: OGG with Opus only
    words: str = field(default="", repr=False)  #: what is said in it: remembered, and sent if the sound cannot be


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Said):
    """A file."""

    media: Media
    filename: str = field(default="", repr=False)
    caption: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sticker(Said):
    """A sticker, WebP."""

    media: Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Location(Said):
    """A place on the map."""

    latitude: float
    longitude: float
    name: str = field(default="", repr=False)
    address: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts(Said):
    """Cards of people, each in Meta's form: ``{"name": {"formatted_name": ...}, "phones": [...]}``."""

    cards: tuple[Mapping[str, object], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """An emoji on a message of the customer; an empty one takes it back."""

    message_id: str
    emoji: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button to press; its id and title come back as a message."""

    id: str
    title: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buttons(Said):
    """A text with up to three buttons."""

    body: str = field(repr=False)
    buttons: tuple[Button, ...]
    header: str = field(default="", repr=False)
    footer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """One choice of a list; its id and title come back as a message."""

    id: str
    title: str = field(repr=False)
    description: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSection:
    """Some choices of a list under a title."""

    rows: tuple[ListRow, ...]
    title: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceList(Said):
    """A text with a list of choices that opens: up to ten rows in all."""

    body: str = field(repr=False)
    button: str = field(repr=False)  #: what opens the list
    sections: tuple[ListSection, ...]
    header: str = field(default="", repr=False)
    footer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkButton(Said):
    """A text with a button that opens a page."""

    body: str = field(repr=False)
    display_text: str = field(repr=False)
    url: str = field(repr=False)
    header: str = field(default="", repr=False)
    footer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(Said):
    """A template that Meta has approved: the only thing that may be sent over 24 hours after the customer wrote."""

    name: str
    language: str  #: ``en_US``
    components: tuple[Mapping[str, object], ...] = field(default=(), repr=False)  #: in Meta's form


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationRequest(Said):
    """A text with a button that asks the customer where they are."""

    body: str = field(repr=False)


#: What an assistant can answer with, and what can be sent from outside.
Reply = (
    Text
    | Image
    | Video
    | Audio
    | Document
    | Sticker
    | Location
    | Contacts
    | Reaction
    | Buttons
    | ChoiceList
    | LinkButton
    | Template
    | LocationRequest
)
