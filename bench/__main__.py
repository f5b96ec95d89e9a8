"""``python -m bench``: what the hub costs, beside what the machine cannot do without."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.awake import kept_awake
from bench.budget import Row, budget_table, cost_rows, load_rows
from bench.capacity import CAPACITY
from bench.growth import GROWTH
from bench.locusts import LOCUST, LOCUST_SIGNED
from bench.machine import Machine, describe_machine
from bench.memory import MEMORY, SOAK
from bench.pairs import PEER_RUNS, Comparison, compare
from bench.pictures import settle_flame_graph
from bench.plan import Outcome
from bench.processes import Cores, split_cores, stay_off
from bench.profile import Recorder, profile_tables, read_samples
from bench.report import cost_table, load_table, to_json
from bench.scenarios import COSTS, LOAD_LIMITS, LOADS, LONG_LOADS, QUICK_FACTOR, Scenario, lengthened, shortened
from bench.stage import run_once
from bench.study import Context, Finding, Study
from whatsapp_hub.demo.embedded import embedded
from whatsapp_hub.errors import HubError

SCENARIOS: Final = (*COSTS, *LOADS, *LONG_LOADS)
STUDIES: Final = (MEMORY, CAPACITY, GROWTH, LOCUST, LOCUST_SIGNED, SOAK)
NAMES: Final = (*(scenario.name for scenario in SCENARIOS), *(study.name for study in STUDIES))
#: What runs where nothing is named and not everything is asked for.
USUAL: Final = (
    *(scenario.name for scenario in (*COSTS, *LOADS)),
    *(study.name for study in STUDIES if not study.full),
)
RESULTS: Final = Path(__file__).parent / "results"
QUICK_PAIRS: Final = 2
CROWD_S: Final = 300
QUICK_CROWD_S: Final = 15
#: The comparisons and loads, and the others as they say.
FULL_MINUTES: Final = 30 + sum(study.minutes for study in STUDIES)
PROFILE_FACTOR: Final = 2  # for enough samples
MIN_WIDTH: Final = 130


@dataclass(frozen=True, slots=True)
class Bench:
    """One call of the command."""

    cores: Cores
    console: Console
    machine: Machine

    @classmethod
    def on_this_machine(cls, console: Console, *, awake: bool) -> Bench:
        """Look at the machine, and leave the core that is measured alone."""
        cores = split_cores(sorted(os.sched_getaffinity(0)))
        stay_off(cores)
        with embedded() as database:
            return cls(cores, console, describe_machine(str(database), cores, awake=awake))

    def measure(self, scenarios: Sequence[Scenario], pairs: int) -> list[Comparison]:
        """Run all scenarios, with progress."""
        self.console.print(str(self.machine))
        if not self.cores.apart:
            self.console.print("only one core: the driver and the database take it from the hub: no word on latencies")
        if not scenarios:
            return []
        runs = sum(
            2 * pairs + len(scenario.peers) * min(pairs, PEER_RUNS) if scenario.floor else 1 for scenario in scenarios
        )
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

    def conclude(
        self, comparisons: Sequence[Comparison], studies: Sequence[Study], file: Path, *, quick: bool, crowd_s: int
    ) -> bool:
        """Ask the other questions, write all figures, show the budget; whether nothing happened that must not."""
        findings: dict[str, Finding] = {}
        self.save(comparisons, findings, file)
        for study in studies:
            findings[study.name] = self.study(study, quick=quick, crowd_s=crowd_s)
            self.save(comparisons, findings, file)
        loads = [comparison for comparison in comparisons if not comparison.scenario.floor]
        if loads:
            self.console.print(load_table(loads, LOAD_LIMITS))
        if rows := _all_rows(comparisons, findings):
            self.console.print(budget_table(rows))
        faults = [fault for comparison in comparisons for fault in comparison.faults]
        faults += [fault for finding in findings.values() for fault in finding.faults]
        for fault in faults:
            self.console.print(f"FAULT {fault}", style="bold red")
        self.console.print(f"all figures: {file}")
        return not faults

    def save(self, comparisons: Sequence[Comparison], findings: Mapping[str, Finding], json_file: Path) -> None:
        """Write all figures so far."""
        told = to_json(self.machine, comparisons, findings, _all_rows(comparisons, findings))
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))

    def study(self, study: Study, *, quick: bool, crowd_s: int) -> Finding:
        """Answer one of the other questions."""
        self.console.print(f"{study.name}: {study.title}{'' if quick else f'; about {study.minutes:.0f} minutes'}")
        say = partial(self.console.print, style="dim", highlight=False)
        finding = study.run(
            Context(cores=self.cores, quick=quick, crowd_s=crowd_s, say=lambda words: say(f"  {words}"))
        )
        self.console.print(finding.table)
        return finding

    def profile(self, scenario: Scenario, flame: Path | None) -> None:
        """Run the hub once and show where its time went, as tables or as a flame graph."""
        if flame is not None:
            run_once(scenario.hub, scenario.plan, self.cores, Recorder(flame, form="flamegraph"))
            settle_flame_graph(flame, f"Where the hub's time goes: {scenario.title}")
            self.console.print(f"{scenario.name}: {flame}")
            return
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


def _all_rows(comparisons: Sequence[Comparison], findings: Mapping[str, Finding]) -> list[Row]:
    """Return the whole budget: of the comparisons, of the loads, of everything else."""
    rows = [row for comparison in comparisons for row in cost_rows(comparison)]
    loads = [comparison for comparison in comparisons if not comparison.scenario.floor]
    rows += [row for comparison in loads for row in load_rows(comparison, LOAD_LIMITS)]
    return rows + [row for finding in findings.values() for row in finding.rows]


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
@click.option("--seconds", type=click.IntRange(min=5), help=f"How long Locust's users stay. Default: {CROWD_S}.")
@click.option("--full", is_flag=True, help=f"Everything: about {FULL_MINUTES:.0f} minutes.")
@click.option("--awake", is_flag=True, help="Let no core halt, as idle=poll would: for virtual machines; needs root.")
@click.option("--profile", is_flag=True, help="Show where the hub's time goes instead (py-spy).")
@click.option("--flame", type=click.Path(path_type=Path), help="With --profile: a flame graph (SVG) instead of tables.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help=f"Default: {RESULTS.name}/latest.json here.")
def main(
    *,
    names: tuple[str, ...],
    pairs: int,
    quick: bool,
    seconds: int | None,
    full: bool,
    awake: bool,
    profile: bool,
    flame: Path | None,
    json_file: Path | None,
) -> None:
    """Measure what the hub costs. Exits 1 if something was lost, refused or answered twice."""
    if sys.platform != "linux":
        raise click.ClickException("the bench reads the kernel's accounting in /proc and pins processes: Linux only")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or its processes would stay behind
    console = Console()
    if not console.is_terminal:
        console = Console(width=MIN_WIDTH)
    names = names or (NAMES if full else USUAL)
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in names]
    scenarios = [shortened(scenario, QUICK_FACTOR) for scenario in scenarios] if quick else scenarios
    try:
        bench = Bench.on_this_machine(console, awake=awake)
        with kept_awake() if awake else nullcontext():
            if profile:
                for scenario in scenarios:
                    bench.profile(scenario if quick else lengthened(scenario, PROFILE_FACTOR), flame)
                return
            comparisons = bench.measure(scenarios, QUICK_PAIRS if quick else pairs)
            crowd_s = seconds or (QUICK_CROWD_S if quick else CROWD_S)
            studies = [study for study in STUDIES if study.name in names]
            file = json_file or RESULTS / "latest.json"
            if not bench.conclude(comparisons, studies, file, quick=quick, crowd_s=crowd_s):
                sys.exit(1)
    except HubError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
