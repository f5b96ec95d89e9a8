"""Remembers for a while what a server has refused, so that it is not asked for it with every message."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

FOR_S: Final = 3600.0
MOST: Final = 1_000


class Refusals:
    """What was refused lately."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def note(self, what: Hashable) -> None:
        """Remember it; of too many the oldest is forgotten."""
        self._until.pop(what, None)
        self._until[what] = time.monotonic() + FOR_S
        if len(self._until) > MOST:
            del self._until[next(iter(self._until))]

    def holds(self, what: Hashable) -> bool:
        """Tell whether it was refused lately."""
        until = self._until.get(what)
        if until is not None and until <= time.monotonic():
            del self._until[what]
            return False
        return until is not None
