"""Messages that customers take back or change while they wait for an answer (pure).

Meta offers both for coexistence numbers only: an edit within 15 minutes, a revoke within two days (Meta:
webhooks/reference/messages/edit, 2026-07-20, and .../revoke, 2026-05-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from whatsapp_hub.assistants.base import CustomerMessage
from whatsapp_hub.cloud_api.contents import EditContent, RevokeContent

_CORRECTIONS: Final = frozenset({"edit", "revoke"})


def corrected(messages: Sequence[CustomerMessage]) -> tuple[CustomerMessage, ...]:
    """Return what is left of a turn's messages.

    A message that was taken back before it was answered is gone, and so are its edits and the word of that. A text
    that was changed is gone too: its last edit says what it is now. What else was changed stays beside its edit, which
    may not bring its file again. What concerns messages that were answered earlier stays as it is.
    """
    if all(message.kind not in _CORRECTIONS for message in messages):
        return tuple(messages)
    kinds = {message.id: message.kind for message in messages}
    originals = {message.id: _original(message) for message in messages if message.kind in _CORRECTIONS}
    revoked = {original for identity, original in originals.items() if kinds[identity] == "revoke"} & kinds.keys()
    last_edits = {original: identity for identity, original in originals.items() if kinds[identity] == "edit"}

    def is_gone(message: CustomerMessage) -> bool:
        original = originals.get(message.id)
        if original is None:
            return message.id in revoked or (message.kind == "text" and message.id in last_edits)
        return original in revoked or (message.kind == "edit" and last_edits[original] != message.id)

    return tuple(message for message in messages if not is_gone(message))


def _original(message: CustomerMessage) -> str:
    content = message.content
    return content.original_message_id if isinstance(content, EditContent | RevokeContent) else ""
