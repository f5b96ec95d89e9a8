from __future__ import annotations

from dataclasses import replace
from io import StringIO

import orjson
import pytest
from rich.console import Console
from rich.table import Table

from bench.__main__ import NAMES, USUAL
from bench.budget import Row, budget_table, cost_rows, load_rows
from bench.capacity import climb, highest
from bench.machine import Machine
from bench.pairs import Comparison, compare
from bench.plan import Cpu, Outcome
from bench.report import cost_table, load_table, to_json
from bench.scenarios import ACK, ANSWERED, LOAD_LIMITS, LOADS, Scenario, shortened, slowed_down
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

    comparison = compare(ACK, 4, run)
    assert order == ["hub", "floor", "pywa"] * 3 + ["hub", "floor"]  # three runs of a peer say enough
    assert comparison.ratio is not None
    assert comparison.ratio.median == pytest.approx((204 / 105 + 207 / 108) / 2)
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
    rows = list(load_rows(comparisons[0], LOAD_LIMITS))
    assert [row.verdict for row in rows] == ["holds", "holds", "misses by 100%", "misses by 20%", "holds"]


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
        awake=True,
    )
    runs = [make_outcome(100.0), make_outcome(120.0)]
    comparison = Comparison(scenario=ACK, offered=None, hub=runs, floor=runs)
    told = orjson.loads(orjson.dumps(to_json(here, [comparison], {}, list(cost_rows(comparison)))))
    assert [run["cpu_us"] for run in told["scenarios"][0]["hub"]] == pytest.approx([100.0, 120.0])
    assert told["scenarios"][0]["ratio"]["median"] == 1.0
    assert told["machine"]["cores"] == 2
    assert str(here).endswith("; cores kept awake")
    assert told["budget"][0]["verdict"] == "holds"


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert set(USUAL) < set(NAMES)


def test_budget_says_what_holds_and_by_how_much_the_others_miss() -> None:
    hub, floor = [make_outcome(220.0)] * 3, [make_outcome(100.0)] * 3
    (cost,) = cost_rows(Comparison(scenario=ACK, offered=None, hub=hub, floor=floor))
    factor = Row(name="factor", measured=6.0, unit="×", least=8.0)
    lost = Row(name="lost", measured=2, unit="messages", most=0)
    assert [row.verdict for row in (cost, factor, lost)] == ["misses by 22%", "misses by 25%", "misses by 2 messages"]
    assert Row(name="factor", measured=8.0, unit="×", least=8.0).holds
    text = show(budget_table([cost, factor]))
    assert "1.8 ×" in text
    assert "at least 8 ×" in text


def test_mongod_may_need_as_much_as_the_hub_for_an_answer() -> None:
    database = {"database": Cpu(user_s=0.25, system_s=0.0)}
    hub = [make_outcome(200.0)]
    hub = [replace(run, cpu={**run.cpu, **database}) for run in hub]
    rows = list(cost_rows(Comparison(scenario=ANSWERED, offered=1_000, hub=hub, floor=[make_outcome(100.0)])))
    assert [(row.measured, row.holds) for row in rows] == [(2.0, True), (1.25, False)]


def at_rate(rate: float, p99: float) -> Outcome:
    return make_outcome(100.0, per_s=rate, ack_ms=Latencies(count=9, p50=1.0, p90=2.0, p99=p99, max=p99))


def test_stair_is_climbed_until_answers_are_too_late_to_be_of_use_and_half_a_step_back() -> None:
    p99 = {400: 20.0, 600: 60.0, 800: 300.0, 700: 90.0}
    asked: list[float] = []

    def run(rate: float) -> Outcome:
        asked.append(rate)
        return at_rate(rate, p99[int(rate)])

    steps = climb([400, 600, 800, 1_000], run)
    assert (highest(steps, 50), highest(steps, 100)) == (400, 700)
    assert asked == [400, 600, 600, 800, 800, 700, 700]
    assert [step.rate for step in steps] == [400, 600, 700, 800]


def test_one_slow_step_is_not_the_knee() -> None:
    seen = iter([at_rate(400, 900.0), at_rate(400, 4.0)])
    steps = climb([400], lambda _: next(seen))
    assert highest(steps, 50) == 400


def test_a_refusal_is_beyond_the_knee() -> None:
    steps = climb([400, 600], lambda rate: replace(at_rate(rate, 4.0), statuses={"200": 1, "503": int(rate > 450)}))
    assert highest(steps, 50) == 400


def test_a_rate_that_is_not_kept_up_with_is_beyond_the_knee() -> None:
    steps = climb([400, 600], lambda rate: at_rate(min(rate, 410), 4.0))
    assert highest(steps, 100) == 400
