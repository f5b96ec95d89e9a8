"""An amount that many share, of bytes for example: whoever wants some waits until it is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, kw_only=True, eq=False)
class _Wish:
    key: str
    amount: int
    granted: asyncio.Future[None]


class Budget:
    """A fixed amount, of which one key gets a quarter at most while it is not alone with a single, larger wish.

    Wishes are met in the order in which they came, except that none waits for one that its own key holds up. For one
    event loop.
    """

    def __init__(self, total: int) -> None:
        self._total: Final = total
        self._per_key: Final = max(1, total // 4)
        self._taken = 0
        self._held: dict[str, int] = {}
        self._wishes: list[_Wish] = []

    @property
    def taken(self) -> int:
        """How much is in use."""
        return self._taken

    async def take(self, key: str, amount: int) -> None:
        """Wait for an amount. Whoever is cancelled meanwhile holds none."""
        wish = _Wish(key=key, amount=amount, granted=asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._grant()
        try:
            await wish.granted
        except asyncio.CancelledError:
            if wish in self._wishes:
                self._wishes.remove(wish)
                self._grant()  # it may have kept a smaller one waiting
            elif not wish.granted.cancelled():
                self.give_back(key, amount)
            raise

    def give_back(self, key: str, amount: int) -> None:
        """Give back what was taken."""
        self._taken -= amount
        self._held[key] -= amount
        if not self._held[key]:
            del self._held[key]
        self._grant()

    def _grant(self) -> None:
        waiting: list[_Wish] = []
        full = False
        for wish in self._wishes:
            if wish.granted.cancelled():
                continue
            of_key = self._held.get(wish.key, 0)
            if full or (of_key and of_key + wish.amount > self._per_key):
                waiting.append(wish)
            elif self._taken and self._taken + wish.amount > self._total:
                full = True  # the others do not overtake it, or a large one would wait for ever
                waiting.append(wish)
            else:
                self._taken += wish.amount
                self._held[wish.key] = of_key + wish.amount
                wish.granted.set_result(None)
        self._wishes = waiting
