"""What a message costs where there is more of something: businesses, backlog, history, processes. Flat is good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Final

from rich.table import Table

from bench.plan import Outcome, Plan
from bench.stage import Subject, hub, run_once
from bench.stats import pair_ratios, spread
from bench.study import Context, Finding, Study

RATE: Final = 400.0
ROUNDS: Final = 2
NO_LIMIT: Final = "1000000/second"  # a few businesses have most of the messages, and none is to be paced


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """More, or less, of one thing."""

    name: str
    plan: Plan
    subject: Subject


def _hub(*, processes: int = 1, business_cache_size: int = 1_000) -> Subject:
    return hub(
        processes=processes,
        assistant="openai",
        typing_indicator=False,
        rate_limit_business=NO_LIMIT,
        business_cache_size=business_cache_size,
    )


_PLAN: Final = Plan(
    unit="answer",
    rate=RATE,
    connections=198,  # as many for each of 1, 2 or 3 processes
    warm_up=3_000,  # one of every customer, so that nothing is looked up for the first time
    measured=3_200,
    customers=3_000,
    phone_numbers=1_000,
    zipf=True,
    past_turns=2,
)
USUAL: Final = "1,000 businesses, no backlog, 2 turns of history, 1 process"


def _variant(name: str, *, subject: Subject | None = None, **changes: float) -> Variant:
    plan = replace(_PLAN, **changes)  # type: ignore[arg-type]  # of Plan's own types
    return Variant(name=name, plan=plan, subject=subject or _hub())


VARIANTS: Final = (
    _variant(USUAL),
    _variant("10 businesses", phone_numbers=10),
    _variant("10,000 businesses, cache for 1,000", phone_numbers=10_000),
    _variant("10,000 businesses, cache for 10,000", phone_numbers=10_000, subject=_hub(business_cache_size=10_000)),
    _variant("backlog of 100,000 messages", backlog=100_000),
    _variant("1,000 turns of history", past_turns=1_000),
    _variant("3 processes on one core", subject=_hub(processes=3)),
    _variant("a third of the messages, 1 process", rate=RATE / 3),
)


def measure_growth(context: Context) -> Finding:
    """Run all variants by turns, a few rounds."""
    variants = [shortened(variant) for variant in VARIANTS] if context.quick else VARIANTS
    rounds = 1 if context.quick else ROUNDS
    runs: dict[str, list[Outcome]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        for variant in variants:
            outcome = run_once(variant.subject, variant.plan, context.cores)
            context.say(f"growth {number + 1}/{rounds}: {variant.name}: {outcome.cpu_us:.0f} µs/answer")
            runs[variant.name].append(outcome)
    return Finding(
        table=_table(variants, runs),
        data=[_to_json(variant, runs) for variant in variants],
        faults=[f"{name}: {fault}" for name, outcomes in runs.items() for run in outcomes for fault in run.faults],
    )


def shortened(variant: Variant) -> Variant:
    """Return the variant with short windows and a small backlog."""
    plan = variant.plan
    return replace(variant, plan=replace(plan, warm_up=400, measured=400, backlog=plan.backlog // 20))


def _ratios(variant: Variant, runs: dict[str, list[Outcome]]) -> list[float]:
    mine, other = ([run.cpu_us for run in runs[name]] for name in (variant.name, USUAL))
    return pair_ratios(mine, other)


def _table(variants: Sequence[Variant], runs: dict[str, list[Outcome]]) -> Table:
    table = Table(title=f"growth: one answered message, {RATE:.0f}/s", title_justify="left", title_style="bold")
    table.add_column("")
    for header in ("CPU µs", "×", "mongod µs", "commands", "ack p50 ms", "p99"):
        table.add_column(header, justify="right")
    for variant in variants:
        outcomes = runs[variant.name]
        acks = [run.ack_ms for run in outcomes if run.ack_ms]
        ratio = spread(_ratios(variant, runs))
        table.add_row(
            variant.name,
            f"{median(run.cpu_us for run in outcomes):.0f}",
            f"{ratio.median:.2f} ({ratio.lowest:.2f}-{ratio.highest:.2f})",
            f"{median(run.database_us or 0 for run in outcomes):.0f}",
            f"{median(run.commands_per_unit or 0 for run in outcomes):.2f}",
            f"{median(ack.p50 for ack in acks):.1f}",
            f"{median(ack.p99 for ack in acks):.1f}",
        )
    return table


def _to_json(variant: Variant, runs: dict[str, list[Outcome]]) -> dict[str, object]:
    return {
        "name": variant.name,
        "ratio": asdict(spread(_ratios(variant, runs))),
        "plan": asdict(variant.plan),
        "runs": [{"cpu_us": run.cpu_us, "database_us": run.database_us, **asdict(run)} for run in runs[variant.name]],
    }


GROWTH: Final = Study(
    name="growth",
    title="cost of a message with more businesses, backlog, history and processes",
    minutes=9,
    run=measure_growth,
)
