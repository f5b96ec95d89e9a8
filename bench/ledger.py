"""The driver's books: what was sent when, what became of it, and what that says (pure: the caller brings the time)."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

NEVER: Final = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTurn:
    """One reply that the stand-in for Graph accepted."""

    serials: tuple[int, ...]
    accepted_at: float
    waited_s: float  #: how much of the time the model and Graph took


class Ledger:
    """One entry for each message, by its serial number."""

    def __init__(self, customers: Sequence[int]) -> None:
        """Open the books for messages of these customers."""
        size = len(customers)
        self.customers = customers
        self.due_at = array("d", bytes(8 * size))
        self.sent_at = array("d", bytes(8 * size))
        self.acked_at = array("d", bytes(8 * size))
        self.answered_at = array("d", bytes(8 * size))
        self.place = array("Q", bytes(8 * size))  # in the order of the answers
        self.statuses: Counter[int] = Counter()
        self.turns: list[SentTurn] = []
        self.settled = 0  # webhooks that have their answer, whichever
        self.acked = 0
        self.answered = 0
        self.waiting = 0  # acknowledged and not yet answered; what was refused may be answered all the same
        self.duplicated = 0
        self._places = 0

    def ack(self, serial: int, status: int, now: float) -> None:
        """Note the answer to a webhook."""
        self.statuses[status] += 1
        self.settled += 1
        if status == 200:
            self.acked_at[serial] = now
            self.acked += 1
            self.waiting += self.answered_at[serial] == NEVER

    def answer(self, serials: Sequence[int], now: float, waited_s: float) -> None:
        """Note a reply and the messages that it answers."""
        self.turns.append(SentTurn(serials=tuple(serials), accepted_at=now, waited_s=waited_s))
        for serial in serials:
            self._places += 1
            if self.answered_at[serial] != NEVER:
                self.duplicated += 1
                continue
            self.answered += 1
            self.waiting -= self.acked_at[serial] != NEVER
            self.answered_at[serial] = now
            self.place[serial] = self._places

    def count_lost(self, first: int = 0) -> int:
        """Count the messages from the first one on that were acknowledged and not answered."""
        pairs = zip(self.acked_at[first:], self.answered_at[first:], strict=True)
        return sum(acked != NEVER == answered for acked, answered in pairs)

    def count_gathered(self) -> int:
        """Count the messages that were answered in the turn of another one."""
        return sum(len(turn.serials) - 1 for turn in self.turns)

    def count_out_of_order(self) -> int:
        """Count the messages answered after the customer's next one, which was sent when they were acknowledged."""
        wrong = 0
        last: dict[int, int] = {}
        for serial, customer in enumerate(self.customers):
            earlier = last.get(customer)
            if earlier is not None and NEVER < self.acked_at[earlier] < self.sent_at[serial]:
                wrong += 0 < self.place[serial] < self.place[earlier]
            last[customer] = serial
        return wrong

    def acks_s(self, window: range) -> list[float]:
        """Return how long each acknowledgement took, from when the message was due."""
        return [self.acked_at[n] - self.due_at[n] for n in window if self.acked_at[n] != NEVER]

    def replies_s(self, window: range) -> list[float]:
        """Return how long each reply took, from when the message was due."""
        return [self.answered_at[n] - self.due_at[n] for n in window if self.answered_at[n] != NEVER]

    def late_s(self, window: range) -> list[float]:
        """Return how late each message was sent."""
        return [self.sent_at[n] - self.due_at[n] for n in window if self.sent_at[n] != NEVER]

    def added_s(self, window: range) -> list[float]:
        """Return what the subject added to each turn: what neither the turn before, the model nor Graph took."""
        return [seconds for turn, seconds in self._added() if turn.serials[0] in window]

    def _added(self) -> Iterator[tuple[SentTurn, float]]:
        free_at: dict[int, float] = defaultdict(float)
        for turn in self.turns:
            if not turn.serials:
                continue
            customer = self.customers[turn.serials[0]]
            could_start_at = max(self.due_at[min(turn.serials)], free_at[customer])
            yield turn, turn.accepted_at - could_start_at - turn.waited_s
            free_at[customer] = turn.accepted_at
