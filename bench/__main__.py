"""``python -m bench``: what the hub costs, beside what the machine cannot do without."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.machine import describe_machine
from bench.pairs import Comparison, compare
from bench.plan import Outcome
from bench.processes import Cores, split_cores, stay_off
from bench.profile import Recorder, profile_tables, read_samples
from bench.report import cost_table, find_missed, load_table, to_json
from bench.scenarios import COSTS, LOAD_LIMITS, LOADS, Scenario, lengthened, shortened
from bench.stage import run_once
from whatsapp_hub.demo.embedded import embedded
from whatsapp_hub.errors import HubError

NAMES: Final = tuple(scenario.name for scenario in (*COSTS, *LOADS))
RESULTS: Final = Path(__file__).parent / "results"
QUICK_PAIRS: Final = 2
QUICK_FACTOR: Final = 4
PROFILE_FACTOR: Final = 2  # for enough samples
MIN_WIDTH: Final = 130


@dataclass(frozen=True, slots=True)
class Bench:
    """One call of the command."""

    cores: Cores
    console: Console

    def measure(self, scenarios: Sequence[Scenario], pairs: int) -> list[Comparison]:
        """Run all scenarios, with progress."""
        runs = sum((2 + len(scenario.peers)) * pairs if scenario.floor else 1 for scenario in scenarios)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=runs)

            def run(scenario: Scenario, who: str) -> Outcome:
                progress.update(task, description=f"{scenario.name}: {who}")
                subject, plan = scenario.offered_to(who)
                outcome = run_once(subject, plan, self.cores)
                progress.console.print(f"  {scenario.name:12} {who:11} {describe(outcome, scenario.unit)}", style="dim")
                progress.advance(task)
                return outcome

            comparisons = []
            for scenario in scenarios:
                comparisons.append(compare(scenario, pairs, run))
                if scenario.floor:
                    progress.console.print(cost_table(comparisons[-1]))
        return comparisons

    def profile(self, scenario: Scenario) -> None:
        """Run the hub once and show where its time went."""
        with TemporaryDirectory(prefix="hub-bench-") as folder:
            samples = Path(folder) / "samples"
            recorder = Recorder(samples)
            outcome = run_once(scenario.hub, scenario.plan, self.cores, recorder)
            profile = read_samples(samples.read_text().splitlines())
        garbage_us = 1e6 * recorder.garbage_s / outcome.units
        self.console.print(
            f"{scenario.name}: {describe(outcome, scenario.unit)}; of it {outcome.system_us:.0f} µs in the kernel,"
            f" {garbage_us:.0f} µs the garbage collector (below it counts for whoever set it off)"
        )
        for table in profile_tables(scenario.name, profile, outcome.cpu_us, scenario.unit):
            self.console.print(table)


def describe(outcome: Outcome, unit: str) -> str:
    """Return one run in a line."""
    database = (
        f", mongod {outcome.database_us:.0f} µs in {outcome.commands_per_unit or 0:.2f} commands"
        if outcome.database_us
        else ""
    )
    latency = f", ack p99 {outcome.ack_ms.p99:.1f} ms" if outcome.ack_ms else ""
    faults = "".join(f", FAULT {fault}" for fault in outcome.faults)
    return f"{outcome.cpu_us:.0f} µs/{unit}{database}, {outcome.per_s:,.0f}/s{latency}{faults}"


@click.command()
@click.option("--scenario", "names", multiple=True, type=click.Choice(NAMES), help="Only this; may be given again.")
@click.option(
    "--pairs", default=7, show_default=True, type=click.IntRange(min=1), help="Runs of the hub and its floor."
)
@click.option("--quick", is_flag=True, help=f"{QUICK_PAIRS} pairs and short windows: to see that it works.")
@click.option("--profile", is_flag=True, help="Show where the hub's time goes instead (py-spy).")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help=f"Default: {RESULTS.name}/latest.json here.")
def main(*, names: tuple[str, ...], pairs: int, quick: bool, profile: bool, json_file: Path | None) -> None:
    """Measure what the hub costs. Exits 1 if something was lost, refused or answered twice."""
    if sys.platform != "linux":
        raise click.ClickException("the bench reads the kernel's accounting in /proc and pins processes: Linux only")
    console = Console()
    if not console.is_terminal:
        console = Console(width=MIN_WIDTH)
    chosen = [scenario for scenario in (*COSTS, *LOADS) if not names or scenario.name in names]
    chosen = [shortened(scenario, QUICK_FACTOR) for scenario in chosen] if quick else chosen
    cores = split_cores(sorted(os.sched_getaffinity(0)))
    stay_off(cores)
    bench = Bench(cores, console)
    try:
        if profile:
            for scenario in chosen:
                bench.profile(scenario if quick else lengthened(scenario, PROFILE_FACTOR))
        elif not _measure(bench, chosen, QUICK_PAIRS if quick else pairs, json_file or RESULTS / "latest.json"):
            sys.exit(1)
    except HubError as error:
        raise click.ClickException(str(error)) from error


def _measure(bench: Bench, scenarios: Sequence[Scenario], pairs: int, json_file: Path) -> bool:
    with embedded() as database:
        machine = describe_machine(str(database), bench.cores)
    bench.console.print(str(machine))
    if not bench.cores.apart:
        bench.console.print("only one core: the driver and the database take it from the hub, so latencies say nothing")
    comparisons = bench.measure(scenarios, pairs)
    loads = [comparison for comparison in comparisons if not comparison.scenario.floor]
    if loads:
        bench.console.print(load_table(loads, LOAD_LIMITS))
        for comparison in loads:
            for missed in find_missed(comparison, LOAD_LIMITS):
                bench.console.print(f"{comparison.scenario.name}: missed, {missed}")
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_bytes(orjson.dumps(to_json(machine, comparisons), option=orjson.OPT_INDENT_2))
    bench.console.print(f"all figures: {json_file}")
    return not any(comparison.faults for comparison in comparisons)


if __name__ == "__main__":
    main()
