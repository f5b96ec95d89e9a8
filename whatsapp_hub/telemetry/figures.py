"""What a process has done since it started, in a few figures that can be added up over processes (pure).

Processes tell each other theirs with every renewal of their lease, so one of another version may tell other ones: what
does not fit is left out rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

#: By name: a count as a list of one, a spread as the count of each of its buckets. They only grow.
Figures = Mapping[str, Sequence[float]]

RECEIVED: Final = "received"
HITS: Final = "hits"
MISSES: Final = "misses"
ACK: Final = "ack"
REPLY: Final = "reply"
#: What became of sends, in Graph's or the network's words (``cloud_api.error_codes.Verdict``).
RESULTS: Final = ("sent", "retry", "hold", "dead", "unknown")
NAMES: Final = (RECEIVED, *RESULTS, HITS, MISSES, ACK, REPLY)


def read_told(told: object, like: Figures) -> Figures | None:
    """Return what another process told, if it has the form of ours."""
    if not isinstance(told, Mapping) or not all(_fits(told.get(name), values) for name, values in like.items()):
        return None
    return {name: tuple(map(float, told[name])) for name in like}


def subtract(now: Figures, before: Figures) -> Figures:
    """Return what has come in between; nothing where a figure fell, which only a process that began anew does."""
    return {
        name: tuple(max(0.0, new - old) for new, old in zip(values, before[name], strict=True))
        for name, values in now.items()
    }


def add(figures: Sequence[Figures]) -> Figures:
    """Return the sums; empty for none."""
    names = figures[0] if figures else ()
    return {name: tuple(map(sum, zip(*(one[name] for one in figures), strict=True))) for name in names}


def quantile(share: float, counts: Sequence[float], bounds: Sequence[float]) -> float | None:
    """Estimate what ``share`` of the observations stay below, as Prometheus does; None where there are none.

    ``counts`` are those of each bucket, the last one without a bound.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    below, lower = 0.0, 0.0
    for count, upper in zip(counts, bounds, strict=False):
        if below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below, lower = below + count, upper
    return bounds[-1]


def _fits(told: object, ours: Sequence[float]) -> bool:
    return (
        isinstance(told, Sequence)
        and not isinstance(told, str)
        and len(told) == len(ours)
        and all(isinstance(value, int | float) for value in told)
    )
