"""An operator's own assistant that says nothing and remembers what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field

from whatsapp_hub.assistants.base import Answer, CustomerMessage, Turn
from whatsapp_hub.cloud_api.contents import Content, Context, Referral
from whatsapp_hub.errors import MediaUnavailable


@dataclass(frozen=True, kw_only=True)
class Given:
    """One message as an assistant sees it."""

    message: CustomerMessage
    content: Content
    context: Context
    referral: Referral | None
    reply_to: str | None
    group_id: str | None
    data: bytes | str | None  #: what came along, or why it did not

    @property
    def text(self) -> str:
        return self.message.text


@dataclass
class Spy:
    """Asks for everything that it can have."""

    answers: list[Answer] = field(default_factory=list)  #: what it says, one after the other
    turns: list[Turn] = field(default_factory=list)
    given: dict[str, Given] = field(default_factory=dict)  #: by wamid

    async def reply(self, turn: Turn) -> Answer:
        self.turns.append(turn)
        for message in turn.messages:
            self.given[message.id] = Given(
                message=message,
                content=message.content,
                context=message.context,
                referral=message.referral,
                reply_to=message.reply_to,
                group_id=message.group_id,
                data=await _read(message),
            )
        return self.answers.pop(0) if self.answers else None


async def _read(message: CustomerMessage) -> bytes | str | None:
    if message.attachment is None:
        return None
    try:
        return await message.attachment.read()
    except MediaUnavailable as error:
        return str(error)


#: Of the hub that was started last.
SPIES: list[Spy] = []


def make() -> Spy:
    """Make the assistant of a hub: ``ASSISTANTS=spy=tests.spy:make``."""
    SPIES.append(Spy())
    return SPIES[-1]
