"""The budget: what was measured beside what it may be (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from bench.pairs import Comparison
from bench.scenarios import Limits
from bench.stats import Latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure and its bound."""

    name: str
    measured: float
    unit: str
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is within its bound."""
        return (self.most is None or self.measured <= self.most) and (self.least is None or self.measured >= self.least)

    @property
    def budget(self) -> str:
        """The bound in words."""
        if self.least is not None:
            return f"at least {self.least:g} {self.unit}"
        return f"{self.most:g} {self.unit}"

    @property
    def verdict(self) -> str:
        """Whether it holds, or by how much it does not."""
        if self.holds:
            return "holds"
        bound = self.most if self.least is None else self.least
        assert bound is not None
        off = abs(self.measured - bound)
        return f"misses by {off / bound:.0%}" if bound else f"misses by {_figure(off)} {self.unit}"


def _figure(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def cost_rows(comparison: Comparison) -> Iterator[Row]:
    """Compare a scenario's CPU with its floor's."""
    ratio, most = comparison.ratio, comparison.scenario.max_ratio
    if ratio is None or most is None:
        return
    name, runs = comparison.scenario.name, comparison.hub
    yield Row(name=f"{name}: CPU, × floor", measured=round(ratio.median, 2), unit="×", most=most)
    database = [run.database_us for run in runs if run.database_us]
    if comparison.scenario.unit == "answer" and database:
        share = median(database) / median(run.cpu_us for run in runs)
        yield Row(name=f"{name}: mongod's CPU over the hub's", measured=round(share, 2), unit="×", most=1.0)


def load_rows(comparison: Comparison, limits: Limits) -> Iterator[Row]:
    """Compare a load with its limits."""
    run, name = comparison.hub[0], comparison.scenario.name
    refused = sum(run.statuses.values()) - run.statuses.get("200", 0)
    yield Row(name=f"{name}: refused", measured=refused, unit="webhooks", most=0)
    wrong = run.lost + run.duplicated + run.out_of_order + run.stored.get("dead", 0)
    yield Row(name=f"{name}: lost, doubled, out of order, dead", measured=wrong, unit="messages", most=0)
    yield _latency(f"{name}: ack p50", run.ack_ms, "p50", limits.ack_p50)
    yield _latency(f"{name}: ack p99", run.ack_ms, "p99", limits.ack_p99)
    yield _latency(f"{name}: reply later than the assistant, p99", run.added_ms, "p99", limits.added_p99)


def _latency(name: str, summary: Latencies | None, figure: str, most: float) -> Row:
    measured = float("inf") if summary is None else round(float(getattr(summary, figure)), 1)
    return Row(name=name, measured=measured, unit="ms", most=most)


def budget_table(rows: Sequence[Row]) -> Table:
    """Show every bound, what was measured, and whether it holds."""
    table = Table(title="budget", title_justify="left", title_style="bold")
    for header, justify in (("", "left"), ("budget", "right"), ("measured", "right"), ("", "left")):
        table.add_column(header, justify="right" if justify == "right" else "left")
    for row in rows:
        style = "" if row.holds else "bold red"
        note = f" ({row.note})" if row.note else ""
        table.add_row(row.name, row.budget, f"{_figure(row.measured)} {row.unit}", row.verdict + note, style=style)
    return table
