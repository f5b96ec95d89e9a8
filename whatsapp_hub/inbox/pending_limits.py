"""How many messages of a business may wait, as its document says (``assistant.maxPending``).

Nothing is refused at the webhook. Every few seconds each process counts what waits, of those businesses alone that have
a limit, and gives up the newest of what is beyond, as far as it is its own or nobody's and nothing was said yet.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import UpdateOne

from whatsapp_hub.cloud_api.messages import ConversationId
from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import NOBODY, SPILLED, Stage, State
from whatsapp_hub.inbox.indexes import ONE_ACTIVE, QUEUED
from whatsapp_hub.inbox.store import unknown_on_error

logger = logging.getLogger("inbox")

EVERY_S: Final = 5.0
MAX_TIME_MS: Final = 2_000
MOST_AT_ONCE: Final = 1_000
_INDEXES: Final = {State.ACTIVE: ONE_ACTIVE, State.QUEUED: QUEUED}
_UNDECIDED: Final = [Stage.NEW.value, Stage.HELD.value, Stage.BACKOFF.value]
_SEEN: Final = ("_id", "conversation", "state", "stage", "owner", "epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLimit:
    """What one business's document says."""

    sub_domain: str
    phone_number_ids: tuple[str, ...]
    most: int


class PendingLimits:
    """Keeps the limits, as one of the processes that share the inbox."""

    def __init__(
        self,
        database: Database,
        *,
        limits: Callable[[], Sequence[PendingLimit]],
        own_id: Callable[[], str],
        drop: Callable[[ConversationId, str], None],
    ) -> None:
        """Keep what ``limits`` tells; ``drop`` is called with each message of ours that was active and is no more."""
        self._inbox = database.inbox
        self._limits = limits
        self._own_id = own_id
        self._drop = drop

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look every few seconds until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for limit in self._limits():
                try:
                    await self.keep(limit)
                except StoreUnavailable:
                    break  # told by the store; the next look finds the same

    async def keep(self, limit: PendingLimit) -> int:
        """Give up what is beyond; return how much that was. Raises ``StoreUnavailable``."""
        with unknown_on_error("count what waits"):
            waiting = sum([await self._count(number, state) for number in limit.phone_number_ids for state in _INDEXES])
        beyond = min(waiting - limit.most, MOST_AT_ONCE)
        if beyond <= 0:
            return 0
        newest: list[Mapping[str, Any]] = []
        with unknown_on_error("find what is beyond"):
            for number in limit.phone_number_ids:
                for state in _INDEXES:
                    newest += await self._find_newest(number, state, beyond)
        newest = sorted(newest, key=lambda one: one["arrival"], reverse=True)[:beyond]
        count = await self._give_up([one for one in newest if self._is_ours(one)], limit)
        if count:
            extra = {"business": limit.sub_domain, "count": count, "waiting": waiting}
            logger.error("dead letters, too many messages wait", extra=extra)
        return count

    async def _count(self, number: str, state: State) -> int:
        query = {"conversation": _of(number), "state": state.value}
        count: int = await self._inbox.count_documents(query, hint=_INDEXES[state], maxTimeMS=MAX_TIME_MS)
        return count

    async def _find_newest(self, number: str, state: State, most: int) -> list[dict[str, Any]]:
        query = {
            "conversation": _of(number),
            "state": state.value,
            "stage": {"$in": _UNDECIDED},
            "parts.0": {"$exists": False},
        }
        found = self._inbox.find(query, dict.fromkeys((*_SEEN, "arrival"), 1)).hint(_INDEXES[state])
        return await found.sort("arrival", -1).limit(most).max_time_ms(MAX_TIME_MS).to_list(None)

    def _is_ours(self, document: Mapping[str, Any]) -> bool:
        owner: str = document["owner"]
        return owner in {NOBODY, self._own_id()} or owner.startswith(SPILLED)

    async def _give_up(self, documents: Sequence[Mapping[str, Any]], limit: PendingLimit) -> int:
        """Make dead letters of them, as they were seen: what was decided meanwhile is answered."""
        if not documents:
            return 0
        stamp = secrets.token_hex(12)
        values = {
            "state": State.DEAD.value,
            "reason": f"more than {limit.most} messages of the business were waiting (assistant.maxPending)",
            "stamp": stamp,
        }
        update = {"$set": values, "$currentDate": {"dead_at": True}, "$unset": {"owner": ""}, "$inc": {"epoch": 1}}
        writes = [
            UpdateOne({**{name: one[name] for name in _SEEN}, "parts.0": {"$exists": False}}, update)
            for one in documents
        ]
        ids = [one["_id"] for one in documents]
        with unknown_on_error("give up what is beyond"):
            await self._inbox.bulk_write(writes, ordered=False)
            found = await self._inbox.find({"_id": {"$in": ids}, "stamp": stamp}, {"conversation": 1}).to_list(None)
        for document in found:
            self._drop(document["conversation"], document["_id"])
        return len(found)


def _of(number: str) -> dict[str, str]:
    return {"$gte": f"{number}:", "$lt": f"{number};"}  # ";" comes right after ":"
