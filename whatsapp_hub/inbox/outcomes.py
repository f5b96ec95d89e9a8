"""What turns read and write: the same group commit as the journal's, but nobody at Meta waits for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from whatsapp_hub.inbox.document import InboxRow, Stage, State
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.store import FencedWrite, InboxStore

FLIGHTS: Final = 2
MOST_GATHERED: Final = 50  # messages answered in one turn


class Outcomes:
    """The lanes of the turns. Every method raises ``StoreUnavailable`` where nobody knows what happened."""

    def __init__(self, store: InboxStore, *, batch_interval_s: float) -> None:
        """Set up the lanes; their batches are ``batch_interval_s`` apart, since fewer and larger ones cost less."""
        self._store = store
        self._stamps = map(f"{secrets.token_hex(6)}.{{}}".format, count(1))  # no two alike in all processes
        self._writes = GroupCommit(store.write_fenced, flights=FLIGHTS, interval_s=batch_interval_s)
        self._members = GroupCommit(store.finish_members, interval_s=batch_interval_s)
        self._queued = GroupCommit(self._find_queued, flights=FLIGHTS, interval_s=batch_interval_s)

    async def write(
        self,
        row: InboxRow,
        values: Mapping[str, Any],
        *,
        leaves: State = State.ACTIVE,
        unset: Sequence[str] = (),
        increase: Mapping[str, int] | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> bool:
        """Update a document as long as its owner, epoch and state are the row's; False where they are not."""
        return await self._writes.submit(
            FencedWrite(
                row=row,
                values=values,
                stamp=next(self._stamps),
                leaves=leaves,
                unset=unset,
                increase=increase or {},
                also=also or {},
            )
        )

    async def promote(self, row: InboxRow, owner: str) -> bool:
        """Make a queued message the active one of its conversation, and ours; False where somebody was faster."""
        stage = Stage.BACKOFF if row.is_suspect and row.stage is Stage.NEW else row.stage
        values = {"state": State.ACTIVE.value, "stage": stage.value, "owner": owner}
        if not await self.write(row, values, leaves=State.QUEUED, increase={"epoch": 1, "attempts": 1}):
            return False
        row.state, row.stage, row.owner = State.ACTIVE, stage, owner
        row.epoch += 1
        row.attempts += 1
        return True

    async def finish_members(self, row: InboxRow) -> None:
        """Mark the messages that a turn answers along with its own."""
        if row.members:
            now = datetime.now(UTC)
            await asyncio.gather(*(self._members.submit((m, row.conversation, row.id, now)) for m in row.members))

    def queued(self, conversation: str) -> Awaitable[list[InboxRow]]:
        """Return the first queued messages of a conversation, in order: enough to fill a turn and to see that."""
        return self._queued.submit(conversation)

    async def rows(self, ids: Sequence[str]) -> dict[str, InboxRow]:
        """Return the documents with these ids as they stand."""
        return await self._store.find_rows(ids)

    async def flush(self) -> None:
        """Wait until everything handed in has been written."""
        for lane in (self._writes, self._members, self._queued):
            await lane.flush()

    async def _find_queued(self, conversations: Sequence[str]) -> list[list[InboxRow]]:
        queued = await self._store.find_queued(conversations, MOST_GATHERED + 1)
        return [queued[conversation] for conversation in conversations]
