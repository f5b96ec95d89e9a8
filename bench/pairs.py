"""Runs in pairs, the hub and its floor by turns, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.plan import Outcome
from bench.scenarios import Scenario, slowed_down
from bench.stats import Spread, pair_ratios, spread

Run = Callable[[Scenario, str], Outcome]  # of the hub or the floor, by name

KEPT_UP: Final = 0.97  #: of the offered rate
PEER_RUNS: Final = 3  #: at most: peers are far away, and slow
_HEADROOM: Final = 0.8
_LATE_MS: Final = 20.0
_FULL: Final = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All runs of one scenario."""

    scenario: Scenario
    offered: float | None  #: messages a second that were meant to be offered
    hub: Sequence[Outcome]
    floor: Sequence[Outcome]
    peers: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)

    @property
    def ratio(self) -> Spread | None:
        """CPU of the hub over that of its floor, pair by pair."""
        return self.ratio_of(self.hub) if self.floor else None

    def ratio_of(self, runs: Sequence[Outcome]) -> Spread:
        """Return the CPU of these runs over that of the floor, pair by pair; peers have fewer of them."""
        floor = self.floor[: len(runs)]
        return spread(pair_ratios([run.cpu_us for run in runs], [run.cpu_us for run in floor]))

    @property
    def within_budget(self) -> bool | None:
        """Whether the median ratio is; None without a budget."""
        ratio, most = self.ratio, self.scenario.max_ratio
        return None if ratio is None or most is None else ratio.median <= most

    @property
    def faults(self) -> list[str]:
        """What must not happen and did."""
        hub = [f"the hub: {fault}" for run in self.hub for fault in run.faults]
        return hub + [f"the floor: {fault}" for run in self.floor for fault in run.faults]

    @property
    def remarks(self) -> list[str]:
        """What a reader has to know about the figures."""
        return list(_find_remarks(self))


def compare(scenario: Scenario, pairs: int, run: Run) -> Comparison:
    """Run the hub, its floor and its peers by turns, or the hub alone once.

    Offers less where the hub cannot take the rate.
    """
    offered = scenario.plan.rate

    def keeps_up(outcome: Outcome) -> bool:
        return offered is None or outcome.per_s >= KEPT_UP * offered

    first = run(scenario, "hub")
    if scenario.floor is None:
        return Comparison(scenario=scenario, offered=offered, hub=[first], floor=[])
    if not keeps_up(first):
        first = run(scenario, "hub")  # one slow run is not the machine
    if not keeps_up(first):
        scenario = slowed_down(scenario, max(50.0, _HEADROOM * first.per_s // 50 * 50))
        first = run(scenario, "hub")
    hub, floor = [first], [run(scenario, "floor")]
    peers = {peer.name: [run(scenario, peer.name)] for peer in scenario.peers}
    for number in range(1, pairs):
        hub.append(run(scenario, "hub"))
        floor.append(run(scenario, "floor"))
        for name, runs in peers.items() if number < PEER_RUNS else ():
            runs.append(run(scenario, name))
    return Comparison(scenario=scenario, offered=offered, hub=hub, floor=floor, peers=peers)


def _find_remarks(comparison: Comparison) -> Iterator[str]:
    rate = comparison.scenario.plan.rate
    if comparison.offered != rate:
        yield f"the machine did not take {comparison.offered:,.0f} messages/s, so {rate:,.0f} were offered"
    runs = (*comparison.hub, *comparison.floor)
    if rate and (slow := sum(run.per_s < KEPT_UP * rate for run in runs)):
        yield f"{slow} of {len(runs)} runs did not keep up with {rate:,.0f}/s"
    if late := sum(run.late_ms is not None and run.late_ms.p99 > _LATE_MS for run in runs):
        yield f"in {late} of {len(runs)} runs the driver itself sent 1 % of the messages over {_LATE_MS:.0f} ms late"
    for name, peer_runs in comparison.peers.items():
        if faults := list(dict.fromkeys(fault for run in peer_runs for fault in run.faults)):
            yield f"{name}: {', '.join(faults)}"
    if full := sum(run.busy["others"] > _FULL for run in runs):
        yield f"in {full} of {len(runs)} runs the cores of the driver and the database were full: latencies suffer"
