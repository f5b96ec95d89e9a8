"""Turns that could start: fair between businesses, paced for each (pure; the caller brings the time)."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from whatsapp_hub.conversation.pacing import Pacer

Item = TypeVar("Item")


class ReadyQueue(Generic[Item]):
    """One queue for each key; the keys take turns, so that a long queue delays nobody else's."""

    def __init__(self, pacer: Pacer) -> None:
        """Hold back a key that is over its pace."""
        self._pacer = pacer
        self._queues: dict[str, deque[Item]] = {}
        self._round: deque[str] = deque()  # keys whose turn comes
        self._paced: list[tuple[float, str]] = []  # keys that wait for their pace, by when

    def push(self, key: str, item: Item) -> None:
        """Add an item behind those of its key."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            self._round.append(key)
        queue.append(item)

    def pop(self, now: float, may_go: Callable[[str], bool] = lambda _: True) -> Item | None:
        """Take the next item of the key whose turn it is; None when there is none yet whose key may go."""
        while self._paced and self._paced[0][0] <= now:
            self._round.append(heapq.heappop(self._paced)[1])
        for _ in range(len(self._round)):
            key = self._round.popleft()
            if not may_go(key):
                self._round.append(key)
                continue
            wait_s = self._pacer.take(key, now)
            if wait_s > 0:
                heapq.heappush(self._paced, (now + wait_s, key))
                continue
            queue = self._queues[key]
            item = queue.popleft()
            if queue:
                self._round.append(key)
            else:
                del self._queues[key]
            return item
        return None

    @property
    def next_due(self) -> float | None:
        """When the first key that is held back may go on."""
        return self._paced[0][0] if self._paced else None

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))
