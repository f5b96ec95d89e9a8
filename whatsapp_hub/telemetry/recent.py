"""The last minutes, second by second: what all living processes did together, for the console's charts.

The metrics are read once a second, off the path of any message. What the others did they tell with the renewals of
their leases, which every process reads anyway: about half a kilobyte a second for each. So the sums cost no query, and
are a second or two behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from whatsapp_hub.telemetry.figures import (
    ACK,
    HITS,
    MISSES,
    RECEIVED,
    REPLY,
    RESULTS,
    Figures,
    add,
    quantile,
    read_told,
    subtract,
)
from whatsapp_hub.telemetry.metrics import FAST_S, TURN_S, Metrics

EVERY_S: Final = 1.0
KEEP: Final = 300  #: points
RATE_POINTS: Final = 5  #: that a rate is the mean of: the others' figures come in steps
SPREAD_POINTS: Final = 30  #: that a latency is taken from: at a few messages a minute one point says nothing

Point = dict[str, Any]


def read_figures(metrics: Metrics) -> Figures:
    """Read what this process has done."""
    sends = {labels["outcome"]: value for labels, value in _samples(metrics.graph_requests, endpoint="messages")}
    return {
        RECEIVED: (_total(metrics.items, kind="message", outcome="new"),),
        **{result: (sends.get(result, 0.0),) for result in RESULTS},
        HITS: (_total(metrics.business_cache_hits),),
        MISSES: (_total(metrics.business_cache_misses),),
        ACK: _buckets(metrics.webhook_request_duration),
        REPLY: _buckets(metrics.turn, stage="total"),
    }


@dataclass(slots=True, kw_only=True)
class Recent:
    """Collects the points. ``run`` has to be running."""

    metrics: Metrics
    others: Callable[[], Mapping[str, object]]  #: what each other living process told last, by its node's id
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=KEEP))
    _before: dict[str, Figures] = field(default_factory=dict)
    _steps: deque[tuple[float, Figures]] = field(default_factory=lambda: deque(maxlen=SPREAD_POINTS))

    def last(self) -> list[Point]:
        """Return the newest point, in a list that may be empty."""
        return [self.points[-1]] if self.points else []

    async def run(self) -> None:
        """Take a point every second until cancelled."""
        looked_at = time.monotonic()
        self.take(time.time(), EVERY_S)  # what is counted from
        while True:
            await asyncio.sleep(EVERY_S)
            now = time.monotonic()
            self.take(time.time(), now - looked_at)
            looked_at = now

    def take(self, at: float, elapsed_s: float) -> None:
        """Take a point for this moment (unix seconds), so long after the one before."""
        own = read_figures(self.metrics)
        told = {node: read_told(figures, own) for node, figures in self.others().items()}
        now = {"": own} | {node: figures for node, figures in told.items() if figures is not None}
        if self._before:
            # A process that is seen for the first time brings what it did long ago: that is nobody's rate.
            self._steps.append((elapsed_s, add([subtract(f, self._before.get(node, f)) for node, f in now.items()])))
            self.points.append(self._point(at, len(told) + 1))
        self._before = now

    def _point(self, at: float, processes: int) -> Point:
        steps = list(self._steps)
        lately, long_s = add([step for _, step in steps[-RATE_POINTS:]]), sum(s for s, _ in steps[-RATE_POINTS:])
        spread = add([step for _, step in steps])
        asked = lately[HITS][0] + lately[MISSES][0]
        return {
            "at": round(at, 1),
            "processes": processes,
            "received_per_s": lately[RECEIVED][0] / long_s,
            "results_per_s": {result: lately[result][0] / long_s for result in RESULTS},
            "hit_rate": lately[HITS][0] / asked if asked else None,
            "ack_p50_s": quantile(0.5, spread[ACK], FAST_S),
            "ack_p99_s": quantile(0.99, spread[ACK], FAST_S),
            "reply_p50_s": quantile(0.5, spread[REPLY], TURN_S),
            "reply_p99_s": quantile(0.99, spread[REPLY], TURN_S),
            "pending": int(_total(self.metrics.pending_messages)),
            "oldest_s": _total(self.metrics.oldest_pending),
        }


def _total(metric: Counter | Gauge, **labels: str) -> float:
    return sum(value for _, value in _samples(metric, **labels))


def _buckets(histogram: Histogram, **labels: str) -> tuple[float, ...]:
    """Return the count of each bucket; the metric's own are sums over all below."""
    sums = [value for _, value in _samples(histogram, **labels)]
    return tuple(high - low for low, high in zip([0.0, *sums], sums, strict=False))


def _samples(metric: Counter | Gauge | Histogram, **labels: str) -> Iterator[tuple[Mapping[str, str], float]]:
    """Yield labels and value of every sample that has these labels: of a histogram, of its buckets."""
    for family in metric.collect():
        wanted = family.name + {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
        for sample in family.samples:
            if sample.name == wanted and labels.items() <= sample.labels.items():
                yield sample.labels, sample.value
