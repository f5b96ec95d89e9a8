"""What the hub needs beside CPU: memory at rest, full and over time; time to start and to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from rich.table import Table

from bench.budget import Row
from bench.plan import Plan
from bench.processes import Cores
from bench.scenarios import LOAD
from bench.seeding import KEEP_TURNS
from bench.stage import database_of, hub, run_once, start_subject
from bench.stats import trend
from bench.study import Context, Finding, Study
from bench.watching import DrainWatch, MemoryWatch, RestWatch

BUSINESSES: Final = 1_000
STARTS: Final = 7
AT_REST_MB: Final = 150.0
IN_FLIGHT_MB: Final = 300.0
START_S: Final = 1.5
SETTLE_S: Final = 3.0
NOWHERE: Final = "http://127.0.0.1:9"  # nothing is sent

_ONE_EACH: Final = Plan(
    unit="answer",
    rate=200,
    connections=50,
    warm_up=0,
    measured=BUSINESSES,
    customers=BUSINESSES,
    phone_numbers=BUSINESSES,
)
_FULL: Final = Plan(
    unit="answer",
    rate=None,  # as fast as it takes them, so that all are there before the first is answered
    connections=500,
    warm_up=0,
    measured=10_000,
    customers=10_000,
    phone_numbers=BUSINESSES,
    model_s=(5.0, 6.0),
    graph_s=(0.15, 0.4),
    drain_s=120,
)
_STOPPED: Final = replace(LOAD, warm_up=1_000, measured=2_000, drain_s=8)  # the model and Graph stay until then
WARM_S: Final = 180
SOAK_S: Final = 900
#: An easy rate, so that it may run beside other things on the machine. Histories are full from the begin: else the
#: turns under way would carry more and more of them, for an hour.
_SOAK: Final = replace(
    LOAD, rate=100, warm_up=100 * WARM_S, measured=100 * SOAK_S, customers=20_000, past_turns=KEEP_TURNS
)


def measure_memory(context: Context) -> Finding:
    """Measure the starts, the memory at rest and full, and the stop."""
    starts_s = list(measure_starts(context.cores, 2 if context.quick else STARTS))
    context.say(f"memory: start to ready {median(starts_s):.2f} s")
    rest_mb = measure_rest(context.cores)
    context.say(f"memory: at rest {rest_mb:.0f} MB")
    watch, drain = MemoryWatch(), DrainWatch()
    plan = replace(_FULL, measured=1_000, customers=1_000, model_s=(1.0, 1.0)) if context.quick else _FULL
    full = run_once(hub(assistant="openai", typing_indicator=False), plan, context.cores, watch)
    context.say(f"memory: {full.under_way:,} conversations in flight, {watch.peak_mb:.0f} MB")
    stopped = run_once(hub(assistant="openai", typing_indicator=False), _STOPPED, context.cores, drain)
    context.say(f"memory: drained {stopped.under_way:,} turns in {drain.drain_s:.1f} s")
    rows = [
        Row(name="start to ready, no warm-up of the cache", measured=median(starts_s), unit="s", most=START_S),
        Row(name=f"memory at rest, {BUSINESSES:,} businesses cached", measured=rest_mb, unit="MB", most=AT_REST_MB),
        Row(
            name="memory at its peak, 10,000 conversations in flight",
            measured=watch.peak_mb,
            unit="MB",
            most=IN_FLIGHT_MB,
            note=f"{full.under_way:,} in flight when the last had been acknowledged",
        ),
    ]
    table = Table("", "measured", title="memory, start and stop", title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(row.name, f"{row.measured:.2f} {row.unit}" if row.unit == "s" else f"{row.measured:.0f} MB")
    table.add_row("start to ready, the slowest, over an empty database", f"{max(starts_s):.2f} s")
    table.add_row(
        f"SIGTERM with {stopped.under_way:,} messages under way, until the process has ended",
        f"{drain.drain_s:.1f} s; {stopped.lost:,} left to the next process",
    )
    return Finding(
        table=table,
        rows=rows,
        data={
            "starts_s": starts_s,
            "rest_mb": rest_mb,
            "full": {**asdict(full), "memory": watch.samples},
            "drain": {**asdict(stopped), "drain_s": drain.drain_s},
        },
        faults=[f"10,000 in flight: {fault}" for fault in full.faults],
    )


def measure_starts(cores: Cores, times: int) -> Iterator[float]:
    """Start the hub a few times over one database, the first time an empty one; how long until it is ready."""
    subject = hub(assistant="echo", warmup_cache=False)
    with database_of(subject, _ONE_EACH) as database, TemporaryDirectory(prefix="hub-bench-") as folder:
        for _ in range(times):
            began = time.monotonic()
            with start_subject(subject, database, upstream=NOWHERE, folder=Path(folder), core=cores.measured):
                yield time.monotonic() - began


def measure_rest(cores: Cores) -> float:
    """Return the memory of a hub that has answered a customer of each business and has nothing more to do, in MB."""
    watch = RestWatch(SETTLE_S)
    run_once(hub(assistant="openai"), _ONE_EACH, cores, watch)
    return watch.memory_mb


def measure_soak(context: Context) -> Finding:
    """Run for a quarter of an hour at an easy rate, and look at how the memory grows."""
    watch = MemoryWatch()
    plan = replace(_SOAK, warm_up=400, measured=3_000, customers=1_000) if context.quick else _SOAK
    outcome = run_once(hub(assistant="openai"), plan, context.cores, watch)
    grows = trend(watch.in_window)
    words = f"{grows.per_hour:+.1f} MB/h ({grows.lowest:+.1f} to {grows.highest:+.1f})"
    table = Table("", "", title="soak", title_justify="left", title_style="bold")
    table.add_row("messages", f"{outcome.acked:,} at {plan.rate:.0f}/s")
    table.add_row("memory at the begin and the end", f"{watch.in_window[0][1]:.0f} MB, {watch.in_window[-1][1]:.0f} MB")
    table.add_row("slope, 95 % confidence", words)
    row = Row(
        name=f"memory over {watch.window_s / 60:.0f} minutes at {plan.rate:.0f}/s: least slope (95 %)",
        measured=round(grows.lowest, 1),
        unit="MB/h",
        most=0.0,
        note=words,
    )
    return Finding(
        table=table,
        rows=[row],
        data={**asdict(outcome), "memory": watch.samples, "window_s": watch.window_s, "trend": asdict(grows)},
        faults=[f"soak: {fault}" for fault in outcome.faults],
    )


MEMORY: Final = Study(
    name="memory",
    title="start, memory at rest and with 10,000 conversations in flight, drain",
    minutes=2,
    run=measure_memory,
    full=False,
)
SOAK: Final = Study(name="soak", title="memory over a quarter of an hour", minutes=21, run=measure_soak)
