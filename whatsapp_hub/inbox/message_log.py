"""Messages and conversations as an operator looks at them. Only reads, each bounded; nothing here is on a hot path.

There is no index for any of this: what is done is found by the ids that its conversation's history tells, what waits by
the indexes that turns need anyway. So what needed no answer is found by its id only, and of what is older than the
inbox keeps it the words alone are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.document import State
from whatsapp_hub.inbox.indexes import DEAD, ONE_ACTIVE
from whatsapp_hub.inbox.store import unknown_on_error

TIMEOUT_S: Final = 3.0
MOST_CONVERSATIONS: Final = 50
MOST_MESSAGES: Final = 200
MOST_WAITING: Final = 20

# Each read says what it is for, to whoever looks at what the database is busy with.
LATEST: Final = "console: latest conversations"
WAITING: Final = "console: what waits"
MESSAGE: Final = "console: a message"
ANSWER: Final = "console: a message by its answer"
HISTORY: Final = "console: a history"
ACTIVE: Final = "console: active messages"
TURNS: Final = "console: messages of a conversation"
OPEN: Final = "console: open messages of a conversation"
GIVEN_UP: Final = "console: dead letters of a conversation"
#: In a sharded database these are asked of every shard; the others name the conversations that they are about.
EVERYWHERE: Final = frozenset({LATEST, WAITING, MESSAGE, ANSWER})

_OF_A_ROW: Final = {"parts.body": 0, "parts.words": 0, "said": 0, "profile_name": 0}
_OF_A_HISTORY: Final = {"turns.customer": 0, "turns.reply": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What is stored of a conversation."""

    history: Mapping[str, Any] | None  #: of ``conversations``, without words
    rows: Sequence[Mapping[str, Any]]  #: of ``inbox``, without the words of answers; the oldest first

    @property
    def is_known(self) -> bool:
        """Whether there is any such conversation."""
        return self.history is not None or bool(self.rows)


class MessageLog:
    """Reads ``inbox`` and ``conversations``. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._inbox = database.inbox
        self._conversations = database.conversations

    async def latest(
        self, numbers: Sequence[str] | None, *, before: datetime | None, most: int = MOST_CONVERSATIONS
    ) -> list[dict[str, Any]]:
        """Return the histories that were added to last, of all numbers or of these, the newest first."""
        query: dict[str, Any] = {"updated_at": {"$lt": before} if before else {"$exists": True}}
        if numbers is not None:
            query |= of_numbers("_id", numbers)
        with unknown_on_error("list conversations", TIMEOUT_S):
            found = self._conversations.find(query, _OF_A_HISTORY).sort("updated_at", -1).limit(most).comment(LATEST)
            return await found.to_list(None)

    async def waiting(self, numbers: Sequence[str] | None, most: int = MOST_WAITING) -> list[dict[str, Any]]:
        """Return the active messages that have waited longest, of all numbers or of these."""
        query: dict[str, Any] = {"state": State.ACTIVE.value}
        query |= {"conversation": {"$gte": ""}} if numbers is None else of_numbers("conversation", numbers)
        with unknown_on_error("list what waits", TIMEOUT_S):
            found = self._inbox.find(query, _OF_A_ROW).hint(ONE_ACTIVE).sort("place", 1).limit(most).comment(WAITING)
            return await found.to_list(None)

    async def active(self, conversations: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the active message of each conversation that has one."""
        query = {"conversation": {"$in": list(conversations)}, "state": State.ACTIVE.value}
        with unknown_on_error("read active messages", TIMEOUT_S):
            return {row["conversation"]: row async for row in self._inbox.find(query, _OF_A_ROW).comment(ACTIVE)}

    async def histories(self, conversations: Sequence[str], *, words: bool = False) -> list[dict[str, Any]]:
        """Return those of these conversations' histories that there are."""
        query, fields = {"_id": {"$in": list(conversations)}}, None if words else _OF_A_HISTORY
        with unknown_on_error("read histories", TIMEOUT_S):
            return await self._conversations.find(query, fields).comment(HISTORY).to_list(None)

    async def conversation(self, conversation: str) -> Conversation:
        """Return what there is of a conversation, at most ``MOST_MESSAGES`` of it."""
        history = next(iter(await self.histories([conversation])), None)
        turns = [turn["id"] for turn in history.get("turns", ())] if history else []
        rows = await self.rows(conversation, turns)
        members = [member for row in rows for member in row.get("members", ())][-MOST_MESSAGES:]
        found = [*rows, *await self.rows(conversation, members), *await self._unanswered(conversation)]
        ordered = sorted({row["_id"]: row for row in found}.values(), key=lambda row: (row["place"], row["arrival"]))
        return Conversation(history=history, rows=ordered[-MOST_MESSAGES:])

    async def rows(self, conversation: str, ids: Sequence[str], *, words: bool = False) -> list[dict[str, Any]]:
        """Return those of these messages that there are; ``words``: with what was said."""
        if not ids:
            return []
        query, fields = {"_id": {"$in": list(ids)}, "conversation": conversation}, None if words else _OF_A_ROW
        with unknown_on_error("read messages", TIMEOUT_S):
            return await self._inbox.find(query, fields).limit(MOST_MESSAGES).comment(TURNS).to_list(None)

    async def find(self, ids: Sequence[str], *, words: bool = False) -> list[dict[str, Any]]:
        """Return those of these messages that there are, whatever conversation they are of."""
        with unknown_on_error("read a message", TIMEOUT_S):
            found = self._inbox.find({"_id": {"$in": list(ids)}}, None if words else _OF_A_ROW).comment(MESSAGE)
            return await found.limit(MOST_MESSAGES).to_list(None)

    async def find_by_answer(self, wamid: str, numbers: Sequence[str]) -> list[dict[str, Any]]:
        """Return the messages whose answer got this id of Meta's. Reads all that these numbers have: slow."""
        query = of_numbers("_id", numbers) | {"parts.wamid": wamid}
        with unknown_on_error("find a message by its answer", TIMEOUT_S):
            return await self._inbox.find(query, _OF_A_ROW).limit(2).comment(ANSWER).to_list(None)

    async def _unanswered(self, conversation: str) -> list[dict[str, Any]]:
        """Return what waits in a conversation, and what was given up of it."""
        with unknown_on_error("read open messages", TIMEOUT_S):
            rows: list[dict[str, Any]] = []
            for state in (State.ACTIVE, State.QUEUED):
                query: dict[str, Any] = {"conversation": conversation, "state": state.value}
                found = self._inbox.find(query, _OF_A_ROW).sort([("place", 1), ("arrival", 1)])
                rows += await found.limit(MOST_MESSAGES).comment(OPEN).to_list(None)
            query = {"conversation": conversation, "state": State.DEAD.value, "dead_at": {"$exists": True}}
            dead = self._inbox.find(query, _OF_A_ROW).hint(DEAD).limit(MOST_MESSAGES).comment(GIVEN_UP)
            return rows + await dead.to_list(None)


def of_numbers(field: str, numbers: Iterable[str]) -> dict[str, Any]:
    """Return the condition on what begins with one of these numbers; ``;`` comes after ``:``."""
    ranges = [{field: {"$gte": f"{number}:", "$lt": f"{number};"}} for number in numbers]
    return {"$or": ranges} if ranges else {field: {"$in": []}}
