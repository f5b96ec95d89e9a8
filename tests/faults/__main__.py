"""``python -m tests.faults``: random faults, one run for each seed, and a table of what came of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.chaos import Result, run
from tests.faults.plan import Kind


@click.command()
@click.option("--seed", default="", help="One or several, with commas; without it a random one, which is printed.")
@click.option("--minutes", default=1.0, show_default=True, help="How long there are faults, for each seed.")
@click.option("--hubs", type=click.IntRange(1, 9), default=1, show_default=True)
@click.option("--servers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Of the database.")
@click.option("--rate", default=40.0, show_default=True, help="Messages a second.")
def main(seed: str, minutes: float, hubs: int, servers: str, rate: float) -> None:
    """Do random things to hubs and databases while customers talk, and check that nothing is lost, doubled or mixed."""
    console = Console()
    console = Console(width=max(console.width, 120))
    seeds = [int(one) for one in seed.split(",") if one] or [secrets.randbelow(1_000_000)]
    results = []
    for one in seeds:
        console.print(f"seed {one}: {minutes:g} min, {hubs} hubs, {servers} database servers, {rate:g} messages/s")
        result = _run(console, one, minutes, hubs, int(servers), rate)
        results.append(result)
        for violation in result.violations:
            console.print(f"  {violation}", style="red", markup=False)
        if result.folder:
            console.print(f"  logs and history: {result.folder}")
    console.print(_tabulate(results))
    sys.exit(any(result.violations for result in results))


def _run(console: Console, seed: int, minutes: float, hubs: int, servers: int, rate: float) -> Result:
    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # hubs that hang up on the stand-in
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting")

        def tell(words: str) -> None:
            progress.update(task, description=f"seed {seed}: {words}")

        result = asyncio.run(run(seed, minutes=minutes, hubs=hubs, servers=servers, rate_per_s=rate, tell=tell))
    console.print(f"  took {time.monotonic() - began:.0f} s, at rest {result.rest_s:.1f} s after it was mended")
    return result


def _tabulate(results: Sequence[Result]) -> Table:
    table = Table("seed", "faults", "acked", "refused", "replies", "resent", "ambiguous", "dead", "violations")
    for column in table.columns[2:]:
        column.justify = "right"
    for result in results:
        table.add_row(
            str(result.seed), _list(result.deeds), *map(str, _count(result)), end_section=result is results[-1]
        )
    if len(results) > 1:
        sums = map(sum, zip(*map(_count, results), strict=True))
        table.add_row("all", _list(sum((result.deeds for result in results), Counter())), *map(str, sums))
    return table


def _list(deeds: Counter[Kind]) -> str:
    return ", ".join(f"{deeds[kind]} {kind}" for kind in Kind if deeds[kind])


def _count(result: Result) -> tuple[int, ...]:
    return (
        result.acknowledged,
        result.refused,
        result.replies,
        result.resent,
        result.ambiguous,
        result.dead.total(),
        len(result.violations),
    )


if __name__ == "__main__":
    main()
