"""Silencing the assistant in one conversation, and letting it speak again.

What is kept stands in the conversation's own document and is read with its history, so a turn pays nothing for it. How
long a human's answer counts is the business's own setting, looked at when a turn begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from whatsapp_hub.cloud_api.messages import ConversationId
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error


class Pauses:
    """Pauses as somebody asks for them. Every method raises ``StoreUnavailable``; the result is unknown then."""

    def __init__(self, database: Database) -> None:
        """Keep pauses in this database."""
        self._conversations = database.conversations

    async def pause(self, conversation: ConversationId, until: datetime) -> None:
        """Keep the assistant silent in this conversation until then; the last call counts, also for less.

        A customer who is known under several names is silenced under all of them. ``until`` carries a time zone.
        """
        now = datetime.now(UTC)
        await self._update(conversation, {"$set": {"paused_until": until, "paused_at": now, "updated_at": now}})

    async def resume(self, conversation: ConversationId) -> None:
        """End every pause of this conversation, whoever began it."""
        now = datetime.now(UTC)
        await self._update(conversation, {"$max": {"resumed_at": now}, "$set": {"updated_at": now}})

    async def _update(self, conversation: ConversationId, update: Mapping[str, Any]) -> None:
        with unknown_on_error("pause"):
            await self._conversations.update_one({"_id": conversation}, update, upsert=True)
