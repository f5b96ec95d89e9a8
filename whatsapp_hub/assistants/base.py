"""What an assistant is: it gets a turn of a conversation and returns what to say.

An assistant of your own is any object with ``async def reply(self, turn)``, and a factory that makes it, named in
``ASSISTANTS`` (``docs/assistants.md`` has an example). The factory is called once, without arguments, when the server
starts. What it returns may be an asynchronous context manager, which is then entered at the start and left at the end:
the place for a client session. What a turn brings and what may be returned stands below and does not change between
minor versions; the replies stand in ``cloud_api.replies``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from whatsapp_hub.cloud_api.contents import Content, Context, MediaContent, Referral
from whatsapp_hub.cloud_api.inbound import read_details
from whatsapp_hub.cloud_api.replies import Reply, Text
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.tenants.business import AssistantChoice

__all__ = [
    "Answer",
    "Assistant",
    "Attachment",
    "CustomerMessage",
    "OwnAssistant",
    "PastTurn",
    "Reply",
    "Text",
    "Turn",
    "read_answer",
]


class Attachment(Protocol):
    """What a customer sent along: a picture, a film, a sound, a file or a sticker. It lasts as long as its turn."""

    @property
    def media(self) -> MediaContent:
        """What Meta says of it."""
        ...

    async def read(self) -> bytes:
        """Return what is in it; fetched when it is asked for first, once in a turn.

        Raises:
            MediaUnavailable: it is too large, is gone, or Meta does not hand it out; asking again changes nothing.

        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerMessage:
    """One message of the customer, in a form that an assistant can use."""

    id: str
    kind: str  #: Meta's ``type``: ``text``, ``image``, ...
    text: str = field(repr=False)  #: what was said or, for other kinds, what came in words
    timestamp: int  #: unix seconds
    raw: bytes = field(repr=False)  #: the message as Meta sent it, JSON
    attachment: Attachment | None = field(default=None, repr=False)
    #: Whether ``text`` is what was said in a sound.
    heard: bool = False

    # Nothing of this is read before somebody asks: most messages are texts.

    @property
    def content(self) -> Content:
        """The message as a value, by its kind (``cloud_api.contents``)."""
        return read_details(self.raw).content

    @property
    def context(self) -> Context:
        """What the message refers to: another message, a product, or that it was forwarded."""
        return read_details(self.raw).context

    @property
    def reply_to(self) -> str | None:
        """The id of the message that this one answers."""
        return self.context.message_id or None

    @property
    def referral(self) -> Referral | None:
        """The ad or post through which the customer came."""
        return read_details(self.raw).referral

    @property
    def group_id(self) -> str | None:
        """The group in which it was written."""
        return read_details(self.raw).group_id or None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTurn:
    """One earlier turn of the same conversation."""

    customer: str = field(repr=False)  #: empty where only the business wrote
    reply: str = field(repr=False)  #: empty where nobody has answered, or not yet
    timestamp: int = 0  #: unix seconds, of the customer's message; 0 where it is not known
    by_human: bool = False  #: the reply is of a human at the phone, or of another agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Everything an assistant may know about one turn, and nothing of any other business or customer."""

    id: str  #: the same if the turn has to be asked for again
    business_id: str
    business_name: str
    sub_domain: str
    phone_number_id: str
    customer: str = field(repr=False)  #: a phone number or a BSUID
    customer_name: str = field(repr=False)
    messages: tuple[CustomerMessage, ...]  #: what came since the last turn, oldest first, at least one
    history: tuple[PastTurn, ...]  #: oldest first
    choice: AssistantChoice | None = None  #: what the business's document says about its assistant


class Assistant(Protocol):
    """Writes replies. May be called for many turns at once."""

    async def reply(self, turn: Turn) -> Sequence[Reply]:
        """Return what to send, in order; nothing to stay silent.

        Raises:
            AssistantFailed: no answer; the turn is tried again later, and after five times becomes a dead letter.

        """
        ...


#: What an operator's own assistant may return: one or several replies, or plain texts; None to stay silent.
Answer = str | Reply | Sequence[str | Reply] | None


class OwnAssistant(Protocol):
    """An operator's own assistant: the same, with more freedom in what it returns."""

    async def reply(self, turn: Turn) -> Answer:
        """Return what to send. Whatever it raises is taken as ``AssistantFailed``."""
        ...


def read_answer(answer: Answer) -> tuple[Reply, ...]:
    """Bring what an operator's assistant returned into one form, without texts that say nothing.

    Raises:
        AssistantFailed: it is something else than an answer.

    """
    if answer is None:
        return ()
    if isinstance(answer, str | Reply):
        answer = (answer,)
    if not isinstance(answer, list | tuple):
        raise AssistantFailed(f"the assistant returned {type(answer).__name__}, not a reply or a text")
    read = map(_read_reply, answer)
    return tuple(reply for reply in read if not isinstance(reply, Text) or reply.body.strip())


def _read_reply(reply: object) -> Reply:
    if isinstance(reply, str):
        return Text(body=reply)
    if isinstance(reply, Text) and not isinstance(reply.body, str):
        raise AssistantFailed("the assistant returned a text whose body is none")
    if isinstance(reply, Reply):
        return reply
    raise AssistantFailed(f"the assistant returned {type(reply).__name__} among its replies")
