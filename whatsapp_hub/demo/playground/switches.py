"""What can be made to fail in the playground, and put right again."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from enum import StrEnum
from random import Random
from typing import Any, Final

from whatsapp_hub.demo.faults import Fault, StatusPlan
from whatsapp_hub.demo.graph import GraphStandIn
from whatsapp_hub.demo.hub_process import HubProcess
from whatsapp_hub.demo.sends import Send

#: Slow enough that one can watch the ticks turn.
STATUSES: Final = StatusPlan(steps=(("sent", 0.0), ("delivered", 0.5), ("read", 1.4)))
SLOW_S: Final = 4.0
DATABASE_PAUSE_S: Final = 5.0
_UNAVAILABLE: Final = 131016
_UNDELIVERABLE: Final = 131026


class Graph(StrEnum):
    """How the stand-in for Graph answers."""

    WORKS = "works"
    DOWN = "down"  #: 503, whatever is sent
    #: As after a password was changed: the old tokens are worthless for ever, and a business is held until it has a
    #: new one.
    REFUSES_TOKENS = "token"
    UNDELIVERABLE = "undeliverable"  #: refuses the next message for good


class Kill(StrEnum):
    """When the hub's process is killed."""

    NOW = "now"
    SENDING = "sending"  #: when Graph has just taken a message and has not answered yet
    AMONG_MANY = "among many"  #: likewise, but not at the first one


class Switches:
    """The switches, and what they are set to."""

    def __init__(self, graph: GraphStandIn, hub: HubProcess, database_pid: int | None) -> None:
        """Set everything to work."""
        self._graph = graph
        self._hub = hub
        self._database_pid = database_pid
        self.graph = Graph.WORKS
        self.is_slow = False
        self.sends_to_kill = 0  #: at the how manieth send from now the hub is killed; 0: at none
        self.database_is_away = False
        graph.control.plan = STATUSES

    def thinking_s(self, rng: Random, *, in_crowd: bool) -> float:
        """Say how long the assistant thinks, so that one can see it type; not all of a crowd are answered at once."""
        if self.is_slow:
            return SLOW_S
        return rng.uniform(0.4, 2.4) if in_crowd else 0.6

    def tell(self) -> Mapping[str, Any]:
        """Return what the page is told."""
        return {
            "graph": self.graph,
            "slow": self.is_slow,
            "killsOnSend": self.sends_to_kill > 0,
            "databaseAway": self.database_is_away,
            "canPauseDatabase": self._database_pid is not None,
        }

    def renew_tokens(self) -> Mapping[str, str]:
        """Make a new token for each number, the only one that Graph takes from now on, and return them."""
        control = self._graph.control
        control.tokens = {number: f"EAAdemo{secrets.token_hex(12)}" for number in control.tokens or {}}
        return control.tokens

    def set_graph(self, wanted: Graph) -> None:
        """Change how Graph answers."""
        control = self._graph.control
        control.faults.clear()
        if wanted is Graph.REFUSES_TOKENS:
            self.renew_tokens()  # and tell nobody
        if wanted is Graph.DOWN:
            control.faults.arm(
                Fault(status=503, code=_UNAVAILABLE, times=None),
                Fault(endpoint="typing", status=503, code=_UNAVAILABLE, times=None),
            )
        if wanted is Graph.UNDELIVERABLE:
            control.faults.arm(Fault(code=_UNDELIVERABLE))
        self.graph = wanted

    def set_slow(self, *, slow: bool) -> None:
        """Have the assistant think long, or not."""
        self.is_slow = slow

    def kill(self, when: Kill) -> None:
        """Kill the hub's process now, or in the middle of a send."""
        match when:
            case Kill.NOW:
                self._hub.kill()
            case Kill.SENDING:
                self.sends_to_kill = 1
            case Kill.AMONG_MANY:
                self.sends_to_kill = 4

    def look_at(self, send: Send) -> None:
        """See what Graph was asked for, before it answers."""
        if self.graph is Graph.UNDELIVERABLE and send.code == _UNDELIVERABLE:
            self.graph = Graph.WORKS
        if self.sends_to_kill and send.accepted:
            self.sends_to_kill -= 1
            if not self.sends_to_kill:
                self._hub.kill()

    async def pause_database(self) -> None:
        """Have the database say nothing for a while."""
        if self._database_pid is None or self.database_is_away:
            return
        self.database_is_away = True
        os.kill(self._database_pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(DATABASE_PAUSE_S)
        finally:
            os.kill(self._database_pid, signal.SIGCONT)
            self.database_is_away = False
