"""The words of a turn: how it ends, why it cannot go on now, and what it writes of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from whatsapp_hub.errors import NotOurs
from whatsapp_hub.inbox.document import InboxRow, PartState, Stage
from whatsapp_hub.inbox.outcomes import Outcomes


class End(StrEnum):
    """How a turn left its conversation."""

    FINISHED = "finished"  #: the lock is released
    STEPPED_BACK = "stepped back"  #: the lock is released, and the message waits behind older ones
    LET_GO = "let go"  #: nobody knows: a later round picks the document up


@dataclass(frozen=True, slots=True)
class Wait:
    """The turn keeps its lock and goes on later."""

    delay_s: float | None  #: None: until somebody wakes it


Progress = End | Wait


class CannotGoOn(Exception):
    """Why a turn cannot go on now. Raised by its steps, acted on in one place."""


class Held(CannotGoOn):
    """Nothing can be sent for its business; waits until the hold is released."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Later(CannotGoOn):
    """Go on after ``delay_s`` seconds, in ``stage``; ``durable``: other processes have to know."""

    def __init__(self, stage: Stage, delay_s: float, *, durable: bool = True) -> None:
        super().__init__(stage)
        self.stage = stage
        self.delay_s = delay_s
        self.durable = durable


class Dead(CannotGoOn):
    """No reply will be sent, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StepBack(CannotGoOn):
    """Older messages fill the turn: they go first."""


def is_decided(row: InboxRow) -> bool:
    """Whether what will be said, or that nothing will be, is stored."""
    return bool(row.parts) or row.stage is Stage.REPLYING


def begin(row: InboxRow, index: int) -> None:
    """Note that a part may have been sent from now on, and that this process is the one to send it."""
    part = row.parts[index]
    part.state = PartState.SENDING
    part.attempt += 1
    row.cleared = index


def parts_values(row: InboxRow, *indexes: int) -> dict[str, Any]:
    """Return what the turn knows of these parts, of all if none is named. Ranks belong to the statuses."""
    values: dict[str, Any] = {}
    for index, part in enumerate(row.parts):
        if not indexes or index in indexes:
            values[f"parts.{index}.state"] = part.state.value
            values[f"parts.{index}.attempt"] = part.attempt
            values[f"parts.{index}.failures"] = part.failures
            if part.heed is not None:
                values[f"parts.{index}.heed"] = part.heed
            if part.dropped:
                values[f"parts.{index}.dropped"] = True
            if part.posted:
                values[f"parts.{index}.posted"] = part.posted
            if part.wamid:
                values[f"parts.{index}.wamid"] = part.wamid
    return values


def times_values(row: InboxRow) -> dict[str, Any]:
    """Return when the steps of a turn were, where no commit point has stored that."""
    return {} if row.parts and row.origin is None else {"times": row.times}


async def write_stage(
    outcomes: Outcomes, row: InboxRow, values: Mapping[str, Any], *, stage: Stage, also: Mapping[str, Any] | None = None
) -> None:
    """Write values and the stage they lead to. Raises ``NotOurs`` where the row is not ours any more."""
    if not await outcomes.write(row, {**values, "stage": stage.value}, also=also):
        raise NotOurs
    row.stage = stage
