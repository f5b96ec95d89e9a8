"""A history joined up: what was sent for which message, and which row it has (pure)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.history import History, Message, RankSeen, Sending
from whatsapp_hub.cloud_api.outgoing import read_callback_data

Row = Mapping[str, Any]
PartKey = tuple[str, int]  #: the id of the row that leads the turn, and which part of the reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A sending, and what it says of itself."""

    sending: Sending
    row_id: str
    part: int
    attempt: int
    labels: tuple[str, ...]  #: in the order of the text

    @property
    def key(self) -> PartKey:
        """Which part of which turn it is."""
        return self.row_id, self.part


class Sightings:
    """A history, by what belongs together. All sendings are in the order in which they began."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.messages: dict[str, Message] = {}
        for message in history.messages:
            self.messages.setdefault(message.key, message)  # one that is said again is the first one again
        self.labels = {message.label: message for message in self.messages.values()}
        if len(self.labels) < len(self.messages):
            raise ValueError("two messages have one label")
        self.rows: dict[str, Row] = {row["_id"]: row for row in history.rows}
        self.nameless: list[Sending] = []
        self.conversations: defaultdict[tuple[str, str], list[Sent]] = defaultdict(list)
        self.all_accepted: list[Sent] = []
        self.accepted: defaultdict[str, list[Sent]] = defaultdict(list)
        self.copies: defaultdict[PartKey, list[Sent]] = defaultdict(list)
        for sending in sorted(history.sendings, key=lambda one: one.began_at):
            self._add(sending)

    def _add(self, sending: Sending) -> None:
        named = read_callback_data(sending.callback)
        if named is None or named.customer != sending.customer:
            self.nameless.append(sending)
            return
        sent = Sent(
            sending=sending,
            row_id=f"{sending.number}:{named.message_id}",
            part=named.part,
            attempt=named.attempt,
            labels=tuple(word for word in sending.text.split() if word in self.labels),
        )
        self.conversations[sending.number, sending.customer].append(sent)
        if sending.accepted:
            self.all_accepted.append(sent)
            self.accepted[sent.row_id].append(sent)
            self.copies[sent.key].append(sent)

    def name(self, row_id: str) -> str:
        """Return what to call a message in a report."""
        message = self.messages.get(row_id)
        return message.label if message else row_id

    def is_excepted(self, row_id: str) -> bool:
        """Whether a message is, or was answered by, a dead letter that was retried."""
        row = self.rows.get(row_id)
        return row is not None and (is_retried(row) or is_retried(self.rows.get(leader_of(row), row)))

    def was_paused(self, began_at: float, ended_at: float) -> bool:
        """Whether a process was stopped at some time between the two."""
        return any(pause.began_at < ended_at and began_at < pause.ended_at for pause in self.history.pauses)

    def last_ranks(self) -> Iterator[RankSeen]:
        """Yield the ranks that stand in the rows at the end."""
        for row in self.rows.values():
            for index, part in enumerate(row.get("parts", ())):
                yield RankSeen(
                    row_id=row["_id"], part=index, attempt=part["attempt"], rank=part.get("rank", 0), at=math.inf
                )


def is_retried(row: Row) -> bool:
    """Whether it was a dead letter that somebody retried."""
    return bool(row.get("retried", False))


def leader_of(row: Row) -> str:
    """Return the id of the row whose turn answers this one."""
    return str(row.get("turn", row["_id"]))
