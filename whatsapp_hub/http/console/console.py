"""What the console's handlers work with."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import Gauge

from whatsapp_hub import __version__
from whatsapp_hub.conversation.holds import Hold
from whatsapp_hub.database import Database
from whatsapp_hub.http.console.held import HeldNumber, read_held, tell_held
from whatsapp_hub.http.console.session import Session
from whatsapp_hub.http.console.streams import Streams
from whatsapp_hub.http.console.troubles import find_troubles
from whatsapp_hub.inbox.nodes import Nodes
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.telemetry.recent import Recent, read_figures
from whatsapp_hub.tenants.directory import Directory

MOST_ENDED: Final = 1000  #: sessions that are remembered as ended
STATE_FOR_S: Final = 0.5  #: how long what is said of the hub's state is said again


@dataclass(slots=True, kw_only=True)
class Console:
    """One for each application; handlers find it under ``keys.CONSOLE``."""

    database: Database
    directory: Directory
    nodes: Nodes
    health: Health
    metrics: Metrics
    holds: Callable[[], Mapping[str, Hold]]  #: of this process, by phone number id
    streams: Streams = field(default_factory=Streams)
    recent: Recent = field(init=False)
    _ended: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _state: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def __post_init__(self) -> None:
        """Collect what the charts show from all living processes."""
        self.recent = Recent(
            metrics=self.metrics,
            others=lambda: {node: _report(document).get("figures") for node, document in self.nodes.others.items()},
        )

    def report(self) -> dict[str, Any]:
        """Return what this process tells the others of itself."""
        figures = {name: list(values) for name, values in read_figures(self.metrics).items()}
        return {"figures": figures, "held": tell_held(self.holds())}

    def held(self) -> list[HeldNumber]:
        """Return what is held, by whichever process."""
        told = [_report(document).get("held") for document in self.nodes.others.values()]
        return read_held([*told, tell_held(self.holds())])

    def state(self) -> dict[str, Any]:
        """Return what the overview says besides its charts."""
        said_at, state = self._state
        if time.monotonic() - said_at >= STATE_FOR_S:
            state = self._describe()
            self._state = (time.monotonic(), state)
        return state

    def _describe(self) -> dict[str, Any]:
        reasons, dead, held = self.health.reasons(), _by_business(self.metrics.dead_letters), self.held()
        troubles = find_troubles(
            reasons=reasons,
            held=held,
            dead=dead,
            problems=self.directory.problems(),
            expiries=self.directory.token_expiries(),
            now=datetime.now(UTC),
        )
        businesses, switched_on = self.directory.size()
        return {
            "version": __version__,
            "ready": not reasons,
            "processes": len(self.nodes.others) + 1,
            "businesses": businesses,
            "switched_on": switched_on,
            "held": len(held),
            "cached": self.directory.cache_info().size,
            "dead_letters": sum(dead.values()),
            "troubles": [asdict(trouble) for trouble in troubles],
        }

    def end(self, session: Session) -> None:
        """Let nobody in with this session any more; at this process, since no session is stored anywhere."""
        self._ended[session.id] = session.ends_at
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
        self.streams.end(session.id)

    def has_ended(self, session: Session) -> bool:
        """Whether somebody has logged out of this session."""
        return session.id in self._ended


def _report(document: Mapping[str, Any]) -> Mapping[str, Any]:
    report = document.get("report")
    return report if isinstance(report, Mapping) else {}


def _by_business(gauge: Gauge) -> dict[str, int]:
    samples = [sample for family in gauge.collect() for sample in family.samples]
    return {sample.labels["business"]: int(sample.value) for sample in samples}
