"""What follows from Meta's word that a message which it had taken was not delivered after all (pure).

A ``failed`` status carries a code of the same table as Graph's answers. What may pass is sent again: that part alone,
under a new attempt number, so that nothing that is told of the old one matches it. The other parts stay as they are.
"""

from __future__ import annotations

from typing import Any, Final

from whatsapp_hub.cloud_api.error_codes import Verdict
from whatsapp_hub.cloud_api.errors import read_failure
from whatsapp_hub.inbox.document import NOBODY, Part, PartState, Stage, State

MOST_RESENDS: Final = 3


def is_worth_another_send(code: int | None) -> bool:
    """Whether a message that failed with this code may be sent again one day."""
    return code is not None and read_failure(code).verdict in {Verdict.RETRY, Verdict.HOLD}


def is_counted(code: int) -> bool:
    """Whether another send is counted. One that waits for its business ends by its age alone, as any that is held."""
    return read_failure(code).verdict is Verdict.RETRY


def may_be_sent_again(part: Part) -> bool:
    """Whether a part that Meta reported as failed is sent again, rather than given up."""
    if part.error is None or not is_worth_another_send(part.error):
        return False
    return part.resends < MOST_RESENDS or not is_counted(part.error)


def take_back(part: Part, index: int) -> dict[str, Any]:
    """Make a failed part one that has still to be sent; return the values to write."""
    code = part.error
    assert code is not None  # noqa: S101 - one without a code is given up
    part.void_attempts = part.attempt
    part.attempt += 1
    part.state, part.wamid, part.rank = PartState.WAITING, "", 0
    part.resends += is_counted(code)
    part.heed = code
    return part_values(index, attempt=part.void_attempts, code=code) | {f"parts.{index}.resends": part.resends}


def part_values(index: int, *, attempt: int, code: int) -> dict[str, Any]:
    """Return what is written of a failed part that is sent again; ``attempt`` is the one that failed."""
    values = {
        "state": PartState.WAITING.value,
        "wamid": "",
        "rank": 0,
        "attempt": attempt + 1,
        "void_attempts": attempt,
        "heed": code,
    }
    return {f"parts.{index}.{name}": value for name, value in values.items()}


def reopening(index: int, *, attempt: int, code: int, stamp: str) -> dict[str, Any]:
    """Return the update that queues a message again whose reply counted as sent, at its old place in the order.

    It belongs to nobody, so the next round of any process takes it. Its promotion counts an attempt, and is none.
    """
    values = {"state": State.QUEUED.value, "stage": Stage.REPLYING.value, "owner": NOBODY, "late": stamp}
    increase = {"epoch": 1, "attempts": -1} | ({f"parts.{index}.resends": 1} if is_counted(code) else {})
    return {
        "$set": values | part_values(index, attempt=attempt, code=code),
        "$inc": increase,
        "$unset": {"done_at": "", "outcome": ""},
    }


def failure_reason(code: int | None) -> str:
    """Say in words that Meta reported a sent message as failed."""
    told = "" if code is None else f" (error {code})"
    return f"Meta could not deliver the reply{told}"
