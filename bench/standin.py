"""The model and Graph as a process of their own, for a driver that is not ours.

It is told the plan, tells its port, and answers each further line with how many replies there were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import uvloop

from bench.driver import hear, tell
from bench.plan import Plan
from bench.upstream import Upstream


class Tally:
    """Counts replies, and the messages that had one before."""

    def __init__(self) -> None:
        """Nothing was answered."""
        self.replies = 0
        self.duplicated = 0
        self._answered: set[int] = set()

    def answer(self, serials: Sequence[int], now: float, waited_s: float) -> None:  # noqa: ARG002 - as in the ledger
        """Note a reply and the messages that it answers."""
        self.replies += 1
        self.duplicated += sum(serial in self._answered for serial in serials)
        self._answered.update(serials)


async def main() -> None:
    """Answer until SIGTERM."""
    plan, tally = Plan(**await hear()), Tally()
    tell(port=await Upstream(plan, tally).listen())
    while await hear():
        tell(replies=tally.replies, duplicated=tally.duplicated)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
