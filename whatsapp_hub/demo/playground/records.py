"""What the playground knows of a message and its reply, and how the page is told (pure). Times are unix seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import STATUS_RANKS
from whatsapp_hub.inbox.document import Outcome, Stage, State

#: What of an inbox document is looked at.
FIELDS: Final = {
    "state": 1,
    "stage": 1,
    "outcome": 1,
    "turn": 1,
    "reason": 1,
    "arrival": 1,
    "times": 1,
    "parts.posted": 1,
}
_NS: Final = 1e9
_READ: Final = STATUS_RANKS["read"]
_WAITING: Final = {
    Stage.AMBIGUOUS.value: "may have been sent: waits for WhatsApp to say so",
    Stage.HELD.value: "waits: the business cannot send",
    Stage.BACKOFF.value: "waits, then tries again",
}


@dataclass(slots=True, kw_only=True)
class Reply:
    """One message that Graph took for a customer."""

    id: str
    turn: str  #: the message whose turn it answers: the ``_id`` of its inbox document
    part: int
    chat: str | None
    text: str
    buttons: tuple[tuple[str, str], ...]
    at: float
    statuses: dict[str, float] = field(default_factory=dict)  #: when the hub had taken each

    @property
    def rank(self) -> int:
        """The greatest that a status has told."""
        return max((STATUS_RANKS.get(name, 0) for name in self.statuses), default=0)

    def tell(self) -> dict[str, Any]:
        """Return what the page is told."""
        return {
            "id": self.id,
            "turn": self.turn,
            "chat": self.chat,
            "text": self.text,
            "buttons": self.buttons,
            "at": self.at,
            "rank": self.rank,
        }


@dataclass(slots=True, kw_only=True)
class Message:
    """One message that a customer has written."""

    key: str  #: the ``_id`` of its inbox document
    chat: str | None  #: the business in whose chat it stands; None: one of the crowd's
    business: str
    kind: str
    text: str
    at: float
    posts: int = 0  #: how often Meta has posted it
    refused: bool = False  #: answered 401: the hub never took it
    acked_at: float | None = None
    marked_read: bool = False  #: the hub had Graph mark it as read
    looked_at: float | None = None  #: when the database was last asked for it
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Of its document, "" where it is not there."""
        return str(self.document.get("state", ""))

    @property
    def turn(self) -> str:
        """The message that its turn belongs to: mostly itself."""
        return str(self.document["turn"]) if self.outcome == Outcome.IN_TURN.value else self.key

    @property
    def outcome(self) -> str:
        """Of its document."""
        return str(self.document.get("outcome", ""))

    @property
    def is_silent(self) -> bool:
        """Whether it is ended and nobody is to answer it."""
        return self.outcome in {Outcome.NO_REPLY.value, Outcome.DISCARDED.value}

    def note(self) -> str:
        """Say what it waits for, or why it died."""
        if self.refused:
            return "refused with 401: the signature does not hold"
        if self.state == State.DEAD.value:
            return str(self.document.get("reason", ""))
        if self.state == State.ACTIVE.value:
            return _WAITING.get(self.document.get("stage", ""), "")
        return "waits for the message before it" if self.state == State.QUEUED.value else ""

    def tell(self, turn: Mapping[str, Any], replies: Sequence[Reply]) -> dict[str, Any]:
        """Return what the page is told, from the document of its turn and what Graph took for it."""
        return {
            "id": self.key,
            "chat": self.chat,
            "business": self.business,
            "kind": self.kind,
            "text": self.text,
            "at": self.at,
            "posts": self.posts,
            "refused": self.refused,
            "acked": self.acked_at is not None,
            "markedRead": self.marked_read or bool(replies),
            "state": self.state,
            "joined": self.outcome == Outcome.IN_TURN.value,
            "answered": bool(replies),
            "note": self.note(),
            "path": self._path(turn, replies),
        }

    def _path(self, turn: Mapping[str, Any], replies: Sequence[Reply]) -> list[list[Any]]:
        """Return each step with the milliseconds since it was written, None where that is not known or not yet."""
        times, own = turn.get("times", {}), self.document.get("times", {})
        posted = [part["posted"][0] for part in turn.get("parts", ()) if part.get("posted")]
        arrival = self.document.get("arrival")
        last = replies[-1] if replies else None
        known: dict[str, float | None] = {
            "signature": arrival / _NS if arrival else None,
            "stored": _seconds(own, "stored"),
            "acked": self.acked_at,
            "turn": _seconds(times, "begun"),
            "assistant": _seconds(times, "answered"),
            "decided": min(posted) / _NS if posted else None,
            "sent": replies[0].at if replies else None,
            "delivered": last.statuses.get("delivered") if last else None,
            "read": last.statuses.get("read") if last else None,
        }
        return [[name, None if at is None else round((at - self.at) * 1000, 1)] for name, at in known.items()]

    def is_settled(self, replies: Sequence[Reply]) -> bool:
        """Whether nothing more is to be expected."""
        if self.refused:
            return True
        if self.state != State.DONE.value:
            return False
        return self.is_silent or (bool(replies) and all(reply.rank >= _READ for reply in replies))


def _seconds(times: Mapping[str, int], name: str) -> float | None:
    return times[name] / _NS if name in times else None
