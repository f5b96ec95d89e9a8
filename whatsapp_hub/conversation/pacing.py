"""Pacing: how long something has to wait so that a rate is kept (pure; the caller brings the time)."""

from __future__ import annotations

from typing import Final

PRUNE_AT: Final = 10_000


class Pacer:
    """A rate for each key, by the generic cell rate algorithm: one number a key, and a full burst after a rest."""

    def __init__(self, *, amount: int, per_s: float) -> None:
        """Allow ``amount`` in ``per_s`` seconds."""
        self._interval_s = per_s / amount
        self._tolerance_s = per_s - self._interval_s
        self._next: dict[str, float] = {}
        self._prune_at = PRUNE_AT

    def take(self, key: str, now: float) -> float:
        """Count one for the key and return 0.0, or count nothing and return the seconds to wait."""
        due = max(self._next.get(key, now), now)
        wait_s = due - now - self._tolerance_s
        if wait_s > 0:
            return wait_s
        self._next[key] = due + self._interval_s
        if len(self._next) >= self._prune_at:
            self._next = {key: due for key, due in self._next.items() if due > now}
            self._prune_at = max(PRUNE_AT, 2 * len(self._next))
        return 0.0

    def __len__(self) -> int:
        return len(self._next)
