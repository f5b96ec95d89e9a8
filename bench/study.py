"""What is not a comparison by turns: one question each, asked and answered by a function of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from bench.budget import Row
from bench.processes import Cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """With what a study works."""

    cores: Cores
    quick: bool  #: short, to see that it works
    crowd_s: int  #: how long Locust's users stay
    say: Callable[[str], None]  #: shows a line of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a study."""

    table: Table
    data: Any  #: for the JSON
    rows: Sequence[Row] = ()
    faults: Sequence[str] = field(default=())  #: what must not happen and did


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A question."""

    name: str
    title: str
    minutes: float  #: about how long it takes
    run: Callable[[Context], Finding]
    full: bool = True  #: only where everything is asked for
