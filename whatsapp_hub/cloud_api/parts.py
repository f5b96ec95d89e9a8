"""Replies as the messages of WhatsApp that they become (pure)."""

from __future__ import annotations

from whatsapp_hub.cloud_api.outgoing import split_text, text_part
from whatsapp_hub.cloud_api.replies import Reply, Text
from whatsapp_hub.errors import ReplyInvalid


def build_parts(reply: Reply) -> list[bytes]:
    """Return the bodies of the messages that a reply becomes, without their recipient; none if it says nothing.

    Media that has to be uploaded must have its id by now.

    Raises:
        ReplyInvalid: WhatsApp takes nothing like it.

    """
    match reply:
        case Text():
            return [text_part(part) for part in split_text(reply.body)]
        case _:
            raise ReplyInvalid(f"{type(reply).__name__} cannot be sent yet")


def read_reply(value: object) -> Reply:
    """Read a reply in Meta's own form, without recipient: ``{"type": "text", "text": {"body": "hello"}}``.

    Raises:
        ReplyInvalid: with what is wrong, in words that do not quote the customer's or the assistant's.

    """
    match value:
        case {"type": "text", "text": {"body": str(body)}}:
            return Text(body=body)
        case _:
            raise ReplyInvalid("it is no message")
