"""What a node keeps in memory: a few words for each conversation that has something under way here, and no more.

It is bounded, and shared between phone numbers: what finds no room stays on the shelf, in the database alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from whatsapp_hub.cloud_api.messages import ConversationId, phone_number_id_of
from whatsapp_hub.inbox.document import InboxRow


@dataclass(slots=True, eq=False)
class Conversation:
    """What this node knows of a conversation that has something under way here."""

    id: ConversationId
    active: InboxRow | None = None  #: holds the lock, or is being written to
    arriving: int = 0  #: messages being written
    waiting: bool = False  #: queued messages of ours may be there
    looking: bool = False  #: somebody looks for the next to promote
    tries: int = 0  #: looks in a row that did not get the lock
    tried_since: float = 0.0  #: monotonic seconds; when the first of them was
    timer: asyncio.TimerHandle | None = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to remember."""
        return not (self.active or self.arriving or self.waiting or self.looking)


class Memory:
    """The conversations that this node knows."""

    def __init__(self, *, most: int) -> None:
        """Have room for ``most`` conversations, and for a few of each number whatever the others have."""
        self._most = most
        self._few = max(1, most // 2_000)
        self._conversations: dict[ConversationId, Conversation] = {}
        self._of_number: Counter[str] = Counter()

    def get(self, conversation_id: ConversationId) -> Conversation | None:
        """Return a conversation if it is known."""
        return self._conversations.get(conversation_id)

    def open(self, conversation_id: ConversationId) -> Conversation:
        """Return a conversation, from now on a known one."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            conversation = self._conversations[conversation_id] = Conversation(conversation_id)
            self._of_number[phone_number_id_of(conversation_id)] += 1
        return conversation

    def knows(self, conversation: Conversation) -> bool:
        """Whether it is the known one, and not one from before everything was dropped."""
        return self._conversations.get(conversation.id) is conversation

    def forget(self, conversation: Conversation) -> None:
        """Forget a conversation if nothing of it is left to remember."""
        if conversation.at_rest and self.knows(conversation):
            del self._conversations[conversation.id]
            number = phone_number_id_of(conversation.id)
            self._of_number[number] -= 1
            if not self._of_number[number]:
                del self._of_number[number]

    def drop_all(self) -> Iterable[Conversation]:
        """Forget everything, and return what there was."""
        dropped, self._conversations = self._conversations, {}
        self._of_number.clear()
        return dropped.values()

    def room(self, phone_number_id: str) -> int:
        """Return how many more conversations of a number fit in.

        A number may have as many as are free: one alone gets half of the room, two a third each. So nobody's backlog
        keeps the others out, and a few get in even where many numbers have one.
        """
        has = self._of_number[phone_number_id]
        return max(0, self._few - has, self._most - len(self._conversations) - has)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._conversations.values())

    def __len__(self) -> int:
        return len(self._conversations)
