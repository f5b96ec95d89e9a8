"""The figures as tables on the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.table import Table

from bench.budget import Row
from bench.machine import Machine
from bench.pairs import Comparison
from bench.plan import Outcome
from bench.scenarios import Limits
from bench.stats import Latencies, spread
from bench.study import Finding


def cost_table(comparison: Comparison) -> Table:
    """Show what a unit costs, the hub beside its floor."""
    scenario = comparison.scenario
    table = Table(title=f"{scenario.name}: {scenario.title}", title_justify="left", title_style="bold")
    table.add_column("")
    for header in (
        f"CPU µs/{scenario.unit}",
        "of it kernel",
        "× floor",
        "mongod µs",
        "commands",
        f"{scenario.unit}s/s",
    ):
        table.add_column(header, justify="right")
    for header in ("ack p50 ms", "p99", "reply p50 ms", "p99"):
        table.add_column(header, justify="right")
    ratio = comparison.ratio
    table.add_row("hub", *_cost_cells(comparison.hub, f"{ratio.median:.2f}" if ratio else ""))
    if comparison.floor:
        table.add_row("floor", *_cost_cells(comparison.floor, "1"))
    for name, runs in comparison.peers.items():
        table.add_row(name, *_cost_cells(runs, f"{comparison.ratio_of(runs).median:.1f}"))
    table.caption = _caption(comparison)
    table.caption_justify = "left"
    return table


def _cost_cells(runs: Sequence[Outcome], ratio: str) -> list[str]:
    cpu = spread([run.cpu_us for run in runs])
    kernel = median(run.system_us for run in runs)
    database = [run.database_us for run in runs if run.database_us is not None]
    commands = [run.commands_per_unit for run in runs if run.commands_per_unit is not None]
    return [
        f"{cpu.median:.0f} ({cpu.lowest:.0f}-{cpu.highest:.0f})",
        f"{kernel:.0f}",
        ratio,
        f"{median(database):.0f}" if database else "",
        f"{median(commands):.2f}" if commands else "",
        f"{median(run.per_s for run in runs):,.0f}",
        *_latency_cells([run.ack_ms for run in runs]),
        *_latency_cells([run.reply_ms for run in runs]),
    ]


def _latency_cells(all_ms: Sequence[Latencies | None]) -> tuple[str, str]:
    there = [each for each in all_ms if each is not None]
    if not there:
        return "", ""
    return f"{median(each.p50 for each in there):.1f}", f"{median(each.p99 for each in there):.1f}"


def _caption(comparison: Comparison) -> str:
    lines = []
    if ratio := comparison.ratio:
        lines.append(
            f"{len(comparison.hub)} pairs; × floor {ratio.lowest:.2f}-{ratio.highest:.2f}, median {ratio.median:.2f}"
        )
        if (most := comparison.scenario.max_ratio) is not None:
            verdict = "holds" if comparison.within_budget else "missed"
            lines[0] += f"; budget {most} × floor: {verdict}"
    lines += comparison.remarks
    lines += [f"FAULT {fault}" for fault in comparison.faults]
    return "\n".join(lines)


def load_table(comparisons: Sequence[Comparison], limits: Limits) -> Table:
    """Show how the hub answers under load."""
    table = Table(
        title="load: " + comparisons[0].scenario.title.partition(": ")[0], title_justify="left", title_style="bold"
    )
    table.add_column("")
    for comparison in comparisons:
        table.add_column(comparison.scenario.title.partition(": ")[2], justify="right")
    table.add_column("budget", justify="right")
    for name, show, budget in _load_rows(limits):
        table.add_row(name, *(show(comparison.hub[0]) for comparison in comparisons), budget)
    remarks = dict.fromkeys(remark for comparison in comparisons for remark in comparison.remarks)
    table.caption = "\n".join([*remarks, *(f"FAULT {fault}" for each in comparisons for fault in each.faults)])
    table.caption_justify = "left"
    return table


def _load_rows(limits: Limits) -> Sequence[tuple[str, Callable[[Outcome], str], str]]:
    return (
        ("messages acknowledged", lambda run: f"{run.acked:,}", ""),
        ("errors (not answered 200)", lambda run: f"{sum(run.statuses.values()) - run.statuses.get('200', 0)}", "0"),
        ("lost / duplicated / out of order", lambda run: f"{run.lost} / {run.duplicated} / {run.out_of_order}", "0"),
        ("ack p50 ms", lambda run: _show(run.ack_ms, "p50"), f"{limits.ack_p50:.0f}"),
        ("ack p99 ms", lambda run: _show(run.ack_ms, "p99"), f"{limits.ack_p99:.0f}"),
        ("ack max ms", lambda run: _show(run.ack_ms, "max"), ""),
        ("added to the reply p50 ms", lambda run: _show(run.added_ms, "p50"), ""),
        ("added to the reply p99 ms", lambda run: _show(run.added_ms, "p99"), f"{limits.added_p99:.0f}"),
        ("added to the reply max ms", lambda run: _show(run.added_ms, "max"), ""),
        ("reply p50 ms, with assistant and Graph", lambda run: _show(run.reply_ms, "p50"), ""),
        ("answered in another's turn", lambda run: f"{run.gathered:,}", ""),
        ("typing indicators shown", lambda run: f"{run.typings:,}", ""),
        ("hub CPU µs/answer", lambda run: f"{run.cpu_us:.0f}", ""),
        ("mongod CPU µs/answer", lambda run: f"{run.database_us or 0:.0f}", ""),
        ("database commands/answer", lambda run: f"{run.commands_per_unit or 0:.2f}", ""),
        ("database's disk, mean ms/journal sync", lambda run: f"{run.journal_sync_ms or 0:.2f}", ""),
        ("driver's own lateness p99 ms", lambda run: _show(run.late_ms, "p99"), ""),
    )


def _show(summary: Latencies | None, figure: str) -> str:
    return "" if summary is None else f"{getattr(summary, figure):.1f}"


def to_json(
    machine: Machine, comparisons: Sequence[Comparison], findings: Mapping[str, Finding], rows: Sequence[Row]
) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "machine": asdict(machine),
        "scenarios": [_comparison_json(comparison) for comparison in comparisons],
        "studies": {name: finding.data for name, finding in findings.items()},
        "budget": [{**asdict(row), "verdict": row.verdict} for row in rows],
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    scenario = comparison.scenario
    return {
        "name": scenario.name,
        "title": scenario.title,
        "plan": asdict(scenario.plan),
        "ratio": asdict(comparison.ratio) if comparison.ratio else None,
        "max_ratio": scenario.max_ratio,
        "remarks": comparison.remarks,
        "faults": comparison.faults,
        "hub": [_outcome_json(run) for run in comparison.hub],
        "floor": [_outcome_json(run) for run in comparison.floor],
        "peers": {name: [_outcome_json(run) for run in runs] for name, runs in comparison.peers.items()},
    }


def _outcome_json(run: Outcome) -> dict[str, Any]:
    return {"cpu_us": run.cpu_us, "database_us": run.database_us, "per_s": run.per_s, **asdict(run)}
