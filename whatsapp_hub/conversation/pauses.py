"""Silencing the assistant in one conversation, and letting it speak again.

What is kept stands in the conversation's own document and is read with its history, so a turn pays nothing for it. How
long a human's answer counts is the business's own setting, looked at when a turn begins.

What webhooks tell (``note``) is written before Meta gets its 200. Every such write says "at least as late as" or
"once", so neither a redelivered copy nor one that overtakes another changes anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import UpdateOne

from whatsapp_hub.cloud_api.marks import Lead, Mark, read_marks
from whatsapp_hub.cloud_api.messages import ConversationId, OtherItem, conversation_id
from whatsapp_hub.conversation.history import Entry, entry_updates, join_updates, write_conversations
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.store import unknown_on_error

_FIELDS: Final = {Lead.OTHERS: "human_at", Lead.HUB: "resumed_at"}


class Pauses:
    """Who leads in which conversation. Every method raises ``StoreUnavailable``; the result is unknown then."""

    def __init__(self, database: Database, *, keep_turns: int, ack_timeout_s: float) -> None:
        """Remember what others say as a history of ``keep_turns`` turns does."""
        self._conversations = database.conversations
        self._keep_turns = keep_turns
        self._writes = GroupCommit(self._write, timeout_s=ack_timeout_s)

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

    async def note(self, items: Sequence[OtherItem], since: float) -> None:
        """Remember, durably, what items tell of conversations. Their time runs from ``since`` of the loop's clock."""
        now = datetime.now(UTC)
        marks = [mark for item in items for mark in read_marks(item, now=int(now.timestamp()))]
        if updates := [update for mark in marks for update in self._updates(mark, now)]:
            await self._writes.submit(updates, since=since)

    def _updates(self, mark: Mark, now: datetime) -> list[UpdateOne]:
        updates = join_updates(mark.phone_number_id, mark.names, now)
        if mark.lead is None:
            return updates
        conversation = conversation_id(mark.phone_number_id, mark.names.now[0])
        # A clock that is ahead must not silence anybody for longer.
        at = min(datetime.fromtimestamp(mark.timestamp, UTC), now)
        change = {"$max": {_FIELDS[mark.lead]: at}, "$set": {"updated_at": now}}
        updates.append(UpdateOne({"_id": conversation}, change, upsert=True))
        if mark.message_id:
            said = Entry(
                conversation=conversation,
                turn_id=f"{mark.phone_number_id}:{mark.message_id}",
                business_id="",
                customer=mark.customer,
                reply=mark.reply,
                timestamp=mark.timestamp,
                arrival=time.time_ns(),
                by_human=True,
            )
            updates += entry_updates(said, now, keep_turns=self._keep_turns)
        return updates

    async def _write(self, units: Sequence[Sequence[UpdateOne]]) -> list[None]:
        await write_conversations(self._conversations, [update for unit in units for update in unit])
        return [None] * len(units)

    async def _update(self, conversation: ConversationId, update: Mapping[str, Any]) -> None:
        with unknown_on_error("pause"):
            await self._conversations.update_one({"_id": conversation}, update, upsert=True)
