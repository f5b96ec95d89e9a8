"""What a client is told of a message that it had sent (pure): how far it came, and why no further."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import FAILED_RANK, STATUS_RANKS, phone_number_id_of
from whatsapp_hub.inbox.document import Outcome, PartState, Stage, State

#: A hold has its reasons, which are the operator's business and may name others.
HELD: Final = "held: nothing can be sent for this business now; it goes out when the operator has mended that"


class Progress(StrEnum):
    """How far a message came: as far as the last of its parts."""

    QUEUED = "queued"  #: durable; nothing of it was tried yet
    SENDING = "sending"  #: tried; Meta has not confirmed all of it
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


_BY_RANK: Final = {
    STATUS_RANKS["sent"]: Progress.SENT,
    STATUS_RANKS["delivered"]: Progress.DELIVERED,
    STATUS_RANKS["read"]: Progress.READ,
    STATUS_RANKS["played"]: Progress.READ,
    FAILED_RANK: Progress.FAILED,
}
_ORDER: Final = tuple(Progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartProgress:
    """How far one message of WhatsApp came; a long text becomes several."""

    state: Progress
    wamid: str | None  #: Meta's id of it, as soon as it is known
    times: Mapping[str, str]  #: when Meta said ``sent``, ``delivered``, ...
    error_code: int | None  #: Meta's


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageState:
    """What became of a message."""

    id: str
    state: Progress
    phone_number_id: str
    created_at: str
    reason: str | None  #: why it is not sent, or not yet
    parts: tuple[PartProgress, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the API says it."""
        return {
            "id": self.id,
            "state": self.state.value,
            "from": self.phone_number_id,
            "created_at": self.created_at,
            "reason": self.reason,
            "wamids": [part.wamid for part in self.parts if part.wamid],
            "parts": [
                {
                    "state": part.state.value,
                    "wamid": part.wamid,
                    "times": dict(part.times),
                    "error_code": part.error_code,
                }
                for part in self.parts
            ],
        }


def read_state(document: Mapping[str, Any]) -> MessageState:
    """Read an inbox document that came from outside."""
    parts = tuple(map(_read_part, document["parts"]))
    is_over = document["state"] == State.DEAD.value or document.get("outcome") == Outcome.DISCARDED.value
    reason = None
    if is_over:
        reason = document.get("reason")
    elif document["state"] == State.ACTIVE.value and document["stage"] == Stage.HELD.value:
        reason = HELD
    return MessageState(
        id=document["_id"].partition(":")[2],
        state=Progress.FAILED if is_over else _least(parts),
        phone_number_id=phone_number_id_of(document["_id"]),
        created_at=_from_seconds(document["arrival"] / 1e9),
        reason=reason,
        parts=parts,
    )


def _least(parts: Sequence[PartProgress]) -> Progress:
    """Return how far all parts came; what has just failed makes the whole a dead letter in a moment."""
    states = [part.state for part in parts if part.state is not Progress.FAILED]
    return min(states, key=_ORDER.index, default=Progress.SENDING)


def _read_part(part: Mapping[str, Any]) -> PartProgress:
    state = _BY_RANK.get(part.get("rank", 0))
    if state is None:
        told = {PartState.SENT.value: Progress.SENT, PartState.SENDING.value: Progress.SENDING}
        state = told.get(part["state"], Progress.QUEUED)
    return PartProgress(
        state=state,
        wamid=part["wamid"] or None,
        times=dict(_read_times(part.get("times", {}))),
        error_code=part.get("error"),
    )


def _read_times(times: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for status, seconds in sorted(times.items()):
        with suppress(OverflowError, OSError, ValueError):  # whatever the payload said
            yield status, _from_seconds(seconds)


def _from_seconds(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
