"""The two assistants that need nothing: one says what was said, the other says nothing."""

from __future__ import annotations

from whatsapp_hub.assistants.base import Text, Turn


class Echo:
    """Answers with what the customer said; several messages become one answer, a line each."""

    async def reply(self, turn: Turn) -> tuple[Text, ...]:
        """Return what was said."""
        said = "\n".join(message.text for message in turn.messages if message.text.strip())
        return (Text(body=said),) if said else ()


class Silence:
    """Stores and answers nobody: for a run in the shadow of another system, or a business that only listens."""

    async def reply(self, turn: Turn) -> tuple[Text, ...]:
        """Return nothing."""
        del turn
        return ()
