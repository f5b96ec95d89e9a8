"""All that the playground has seen, its sums, and the pages that look on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson

from whatsapp_hub.demo.playground.records import Message, Reply
from whatsapp_hub.inbox.document import State

MOST_MESSAGES: Final = 2_000  #: in memory; of those before only the sums are kept
MOST_SHOWN: Final = 300
MOST_BEHIND: Final = 100  #: updates that a page may be behind; then it begins anew
TELL_EVERY_S: Final = 0.05
#: A message that the hub has acknowledged, or says is answered, may be this late in showing up.
GRACE_S: Final = 3.0


class Board:
    """Keeps messages and replies, and tells the pages what has changed."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.messages: dict[str, Message] = {}
        self.replies: dict[str, Reply] = {}
        self.facts: Callable[[], Mapping[str, Any]] = dict  #: the state of hub and switches
        self._by_turn: dict[str, list[Reply]] = {}
        self._past: Counter[str] = Counter()
        self._changed: dict[str, None] = {}  #: in order
        self._changed_replies: dict[str, None] = {}
        self._told: bytes = b""
        self._pages: set[asyncio.Queue[bytes]] = set()

    def add(self, message: Message) -> None:
        """Keep a message that was just written."""
        self.messages[message.key] = message
        self.touch(message)
        if len(self.messages) > MOST_MESSAGES:
            self._forget()

    def add_reply(self, reply: Reply) -> None:
        """Keep a reply that Graph has just taken."""
        self.replies[reply.id] = reply
        self._by_turn.setdefault(reply.turn, []).append(reply)
        self.touch_reply(reply)

    def touch(self, message: Message) -> None:
        """Tell the pages that a message has changed."""
        self._changed[message.key] = None

    def touch_reply(self, reply: Reply) -> None:
        """Tell the pages that a reply has changed."""
        self._changed_replies[reply.id] = None
        self._touch_turn(reply.turn)

    def unsettled(self) -> list[Message]:
        """Return the messages whose documents have to be looked at."""
        return [m for m in self.messages.values() if m.posts and not m.is_settled(self._replies_to(m))]

    def sums(self) -> dict[str, int]:
        """Count what became of the messages."""
        sums = Counter(self._past)
        for message in self.messages.values():
            sums.update(self._judge(message))
        sums["twice"] += self._count_copies()
        return {name: sums[name] for name in ("written", "acknowledged", "answered", "dead", "lost", "twice")}

    @contextmanager
    def look_on(self) -> Iterator[asyncio.Queue[bytes]]:
        """Yield a queue of updates, the first of which tells everything."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_BEHIND)
        queue.put_nowait(self._everything())
        self._pages.add(queue)
        try:
            yield queue
        finally:
            self._pages.discard(queue)

    async def keep_telling(self) -> None:
        """Tell the pages what has changed, until cancelled."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            self.tell_pages()

    def tell_pages(self) -> None:
        """Tell the pages what has changed since the last call."""
        update = self._take_update() if self._pages else b""
        for page in list(self._pages) if update else ():
            if page.full():
                self._pages.discard(page)
                page.get_nowait()
                page.put_nowait(b"")  # the end: it comes back and is told everything
            else:
                page.put_nowait(update)

    def _take_update(self) -> bytes:
        """Return what has changed since the last call, nothing if nothing has."""
        general = orjson.dumps({**self.facts(), "sums": self.sums()})
        if not self._changed and not self._changed_replies and general == self._told:
            return b""
        self._told = general
        changed = [self.messages[key] for key in self._changed if key in self.messages]
        replies = [self.replies[key] for key in self._changed_replies if key in self.replies]
        self._changed.clear()
        self._changed_replies.clear()
        return self._tell(changed, replies)

    def _everything(self) -> bytes:
        messages = list(self.messages.values())
        shown = messages[-MOST_SHOWN:]
        replies = list(self.replies.values())[-MOST_SHOWN:]
        return self._tell(shown, replies, whole=True)

    def _tell(self, messages: Sequence[Message], replies: Sequence[Reply], *, whole: bool = False) -> bytes:
        return orjson.dumps(
            {
                **self.facts(),
                "whole": whole,
                "sums": self.sums(),
                "messages": [m.tell(self._turn_of(m), self._replies_to(m)) for m in messages],
                "replies": [reply.tell() for reply in replies],
            }
        )

    def _turn_of(self, message: Message) -> Mapping[str, Any]:
        turn = self.messages.get(message.turn)
        return turn.document if turn else {}

    def _replies_to(self, message: Message) -> Sequence[Reply]:
        return self._by_turn.get(message.turn, ())

    def _touch_turn(self, turn: str) -> None:
        self._changed.update(dict.fromkeys(m.key for m in self.messages.values() if m.turn == turn))

    def _judge(self, message: Message) -> Iterator[str]:
        """Yield the sums that a message counts in."""
        if message.refused:
            return
        yield "written"
        if message.acked_at is None:
            return
        yield "acknowledged"
        if self._replies_to(message) or message.is_silent:
            yield "answered"
        elif message.state == State.DEAD.value:
            yield "dead"
        elif self._is_lost(message):
            yield "lost"

    def _is_lost(self, message: Message) -> bool:
        """Whether it is not in the database, or called answered there while Graph has never got an answer."""
        if message.looked_at is None or message.acked_at is None or message.looked_at < message.acked_at + GRACE_S:
            return False
        return not message.document or message.state == State.DONE.value

    def _count_copies(self) -> int:
        copies = Counter((reply.turn, reply.part) for reply in self.replies.values())
        return sum(count - 1 for count in copies.values())

    def _forget(self) -> None:
        """Keep only the sums of the older half, as far as it is settled."""
        for message in list(self.messages.values())[: MOST_MESSAGES // 2]:
            if message.is_settled(self._replies_to(message)):
                self._past.update(self._judge(message))
                del self.messages[message.key]
        kept = {message.turn for message in self.messages.values()}
        copies = self._count_copies()
        for reply in list(self.replies.values()):
            if reply.turn not in kept:
                del self.replies[reply.id]
                self._by_turn.pop(reply.turn, None)
        self._past["twice"] += copies - self._count_copies()
