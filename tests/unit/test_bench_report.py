from __future__ import annotations

from dataclasses import replace
from io import StringIO

import orjson
import pytest
from rich.console import Console
from rich.table import Table

from bench.machine import Machine
from bench.pairs import Comparison, compare
from bench.plan import Cpu, Outcome
from bench.report import cost_table, find_missed, load_table, to_json
from bench.scenarios import ACK, ANSWERED, COSTS, LOAD_LIMITS, LOADS, Scenario, shortened, slowed_down
from bench.stats import Latencies


def make_outcome(cpu_us: float, *, units: int = 1000, per_s: float = 1000.0, **values: object) -> Outcome:
    window_s = units / per_s
    latencies = Latencies(count=units, p50=2.0, p90=3.0, p99=4.0, max=5.0)
    outcome = Outcome(
        units=units,
        window_s=window_s,
        cpu={"subject": Cpu(user_s=cpu_us * units / 1e6, system_s=0.0), "driver": Cpu(user_s=0.1, system_s=0.0)},
        busy={"subject": 0.5, "others": 0.5},
        ack_ms=latencies,
        reply_ms=latencies,
        added_ms=latencies,
        late_ms=latencies,
        statuses={"200": units},
        acked=units,
    )
    return replace(outcome, **values)  # type: ignore[arg-type]


def show(table: Table) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_hub_and_floor_run_by_turns() -> None:
    order: list[str] = []

    def run(_: Scenario, who: str) -> Outcome:
        order.append(who)
        return make_outcome({"hub": 200.0, "floor": 100.0, "pywa": 1000.0}[who] + len(order))

    comparison = compare(ACK, 3, run)
    assert order == ["hub", "floor", "pywa"] * 3
    assert comparison.ratio is not None
    assert comparison.ratio.median == pytest.approx(204 / 105)
    assert comparison.ratio_of(comparison.peers["pywa"]).median == pytest.approx(1006 / 105)
    assert comparison.within_budget is False


def test_less_is_offered_where_the_machine_does_not_take_the_rate() -> None:
    rates: list[float | None] = []

    def run(scenario: Scenario, _: str) -> Outcome:
        rates.append(scenario.plan.rate)
        return make_outcome(100.0, per_s=min(scenario.plan.rate or 0, 800.0))

    comparison = compare(replace(ANSWERED, peers=()), 2, run)
    assert rates == [1_000, 1_000, 600, 600, 600, 600]
    assert "did not take 1,000 messages/s, so 600 were offered" in comparison.remarks[0]


def test_one_slow_run_is_not_the_machine() -> None:
    speeds = iter([700.0, 1_000.0, 1_000.0])
    alone = replace(ANSWERED, peers=())
    comparison = compare(alone, 1, lambda *_: make_outcome(100.0, per_s=next(speeds)))
    assert comparison.scenario.plan.rate == 1_000
    assert comparison.remarks == []


def test_scenarios_can_be_shortened_and_slowed_down() -> None:
    assert shortened(ACK, 4).plan.measured == ACK.plan.measured // 4
    slower = slowed_down(ANSWERED, 500.0).plan
    assert (slower.rate, slower.measured) == (500.0, ANSWERED.plan.measured // 2)


def test_whatever_must_not_happen_is_named() -> None:
    run = make_outcome(
        1.0, statuses={"200": 998, "503": 2}, acked=998, lost=1, duplicated=2, stored={"done": 996, "dead": 1}
    )
    assert run.faults == [
        "2 not answered 200",
        "1 acknowledged and not in the database",
        "1 dead",
        "1 lost",
        "2 duplicated",
    ]
    assert make_outcome(1.0, stored={"done": 1_000}).faults == []


def test_cost_table_shows_medians_ratio_and_budget() -> None:
    hub = [make_outcome(us, commands={"insert": 500, "find": 250}) for us in (150.0, 170.0, 160.0)]
    floor = [make_outcome(us) for us in (100.0, 100.0, 80.0)]
    text = show(cost_table(Comparison(scenario=ACK, offered=None, hub=hub, floor=floor)))
    assert "160 (150-170)" in text
    assert "1.70" in text
    assert "0.75" in text
    assert "budget 1.8 × floor: holds" in text


def test_load_table_stands_beside_the_budget() -> None:
    slow = Latencies(count=9, p50=20.0, p90=40.0, p99=60.0, max=90.0)
    comparisons = [
        Comparison(scenario=scenario, offered=500, hub=[make_outcome(1_000.0, ack_ms=slow)], floor=[])
        for scenario in LOADS
    ]
    text = show(load_table(comparisons, LOAD_LIMITS))
    assert "typing off" in text
    assert "typing on" in text
    assert find_missed(comparisons[0], LOAD_LIMITS) == ["ack p50 20 ms > 10 ms", "ack p99 60 ms > 50 ms"]


def test_json_holds_every_run() -> None:
    here = Machine(
        cpu="Some CPU",
        cores=2,
        memory_gb=8.0,
        system="Linux",
        python="3.11",
        packages={"aiohttp": "3.14"},
        database="mongod 6.0.5",
        load=0.1,
    )
    runs = [make_outcome(100.0), make_outcome(120.0)]
    told = orjson.loads(orjson.dumps(to_json(here, [Comparison(scenario=ACK, offered=None, hub=runs, floor=runs)])))
    assert [run["cpu_us"] for run in told["scenarios"][0]["hub"]] == pytest.approx([100.0, 120.0])
    assert told["scenarios"][0]["ratio"]["median"] == 1.0
    assert told["machine"]["cores"] == 2


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [scenario.name for scenario in (*COSTS, *LOADS)]
    assert len(set(names)) == len(names)
