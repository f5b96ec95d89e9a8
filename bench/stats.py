"""Figures out of samples (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What is told of many times, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of a few runs, and between what they lie."""

    median: float
    lowest: float
    highest: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the samples do not exceed (nearest rank); they are sorted, and not none."""
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


def latencies_ms(seconds: Sequence[float]) -> Latencies | None:
    """Summarise times given in seconds; None where there are none."""
    if not seconds:
        return None
    ordered = sorted(1000 * each for each in seconds)
    return Latencies(
        count=len(ordered),
        p50=percentile(ordered, 50),
        p90=percentile(ordered, 90),
        p99=percentile(ordered, 99),
        max=ordered[-1],
    )


def spread(values: Sequence[float]) -> Spread:
    """Summarise one figure of several runs."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def pair_ratios(measured: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Return each run's figure over that of its neighbour, so that a machine that changes its pace changes both."""
    return [one / other for one, other in zip(measured, floor, strict=True)]
