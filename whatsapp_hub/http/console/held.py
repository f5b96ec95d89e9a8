"""What is held, as the processes tell each other (pure): each knows only of the numbers that it works for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from whatsapp_hub.conversation.holds import Hold, HoldKind

MOST_TOLD: Final = 100  #: of each process: everybody reads it every second


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNumber:
    """A phone number that nothing is sent for."""

    phone_number_id: str
    business: str
    kind: str
    reason: str
    needs_token: bool  #: only another token will end it


def tell_held(holds: Mapping[str, Hold]) -> list[dict[str, Any]]:
    """Return what the other processes are told."""
    return [
        asdict(
            HeldNumber(
                phone_number_id=number,
                business=hold.sub_domain,
                kind=hold.kind.value,
                reason=hold.reason,
                needs_token=hold.kind is HoldKind.REFUSED and hold.again_at is None,
            )
        )
        for number, hold in list(holds.items())[:MOST_TOLD]
    ]


def read_held(told: Iterable[object]) -> list[HeldNumber]:
    """Put together what processes told, each number once. What one of another version says differently is left out."""
    found: dict[str, HeldNumber] = {}
    for report in told:
        for entry in report if isinstance(report, list) else ():
            try:
                held = HeldNumber(**entry)
            except TypeError:
                continue
            found[held.phone_number_id] = held
    return sorted(found.values(), key=lambda held: (held.business, held.phone_number_id))
