"""Figures out of samples (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression, median
from typing import Final

_BLOCKS: Final = 12
_T: Final = 2.23  # Student's t for 95 % and two degrees of freedom less than blocks


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """By how much something grows in an hour, and between what that lies with 95 % confidence."""

    per_hour: float
    lowest: float
    highest: float


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Fit a line through values at times in seconds.

    What is read every second depends on what was read before, so it is the means of a dozen blocks that the line goes
    through and the confidence comes from.
    """
    size = len(samples) // _BLOCKS
    parts = [samples[start : start + size] for start in range(0, size * _BLOCKS, size)]
    hours = [fmean(at for at, _ in part) / 3600 for part in parts]
    means = [fmean(value for _, value in part) for part in parts]
    line = linear_regression(hours, means)
    left = sum((y - line.slope * x - line.intercept) ** 2 for x, y in zip(hours, means, strict=True))
    middle = fmean(hours)
    error = math.sqrt(left / (_BLOCKS - 2) / sum((x - middle) ** 2 for x in hours))
    return Trend(per_hour=line.slope, lowest=line.slope - _T * error, highest=line.slope + _T * error)


def spread(values: Sequence[float]) -> Spread:
    """Summarise one figure of several runs."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def pair_ratios(measured: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Return each run's figure over that of its neighbour, so that a machine that changes its pace changes both."""
    return [one / other for one, other in zip(measured, floor, strict=True)]
