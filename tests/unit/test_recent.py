"""The last minutes as points: what several processes did, added up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_hub.telemetry.figures import RECEIVED, Figures, add, quantile, read_told, subtract
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.telemetry.recent import KEEP, Recent, read_figures

BOUNDS = (1.0, 2.0, 4.0)


class Neighbour:
    """Another process, and what it tells."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    @property
    def told(self) -> dict[str, list[float]]:
        return {name: list(values) for name, values in read_figures(self.metrics).items()}


def make() -> tuple[Recent, dict[str, object]]:
    others: dict[str, object] = {}
    return Recent(metrics=Metrics(), others=lambda: others), others


def test_point_says_what_happened_since_the_one_before() -> None:
    recent, _ = make()
    recent.metrics.count_item("message", "new", 7)
    recent.take(0.0, 1.0)
    assert recent.last() == []
    recent.metrics.count_item("message", "new", 4)
    recent.metrics.count_item("message", "duplicate", 9)
    recent.metrics.count_graph("messages", "sent")
    recent.metrics.count_graph("typing", "sent")
    recent.metrics.observe_turn("total", 0.3)
    recent.metrics.observe_turn("send", 200.0)
    recent.take(2.0, 2.0)
    (point,) = recent.last()
    assert point["received_per_s"] == 2.0
    assert point["results_per_s"] == {"sent": 0.5, "retry": 0, "hold": 0, "dead": 0, "unknown": 0}
    assert 0.25 < point["reply_p50_s"] <= 0.5
    assert (point["ack_p50_s"], point["hit_rate"], point["processes"]) == (None, None, 1)


def test_processes_are_added_up_whoever_comes_and_goes() -> None:
    recent, others = make()
    recent.take(0.0, 1.0)
    one, two = Neighbour(), Neighbour()
    one.metrics.count_item("message", "new", 1000)  # long ago
    others["one"] = one.told
    recent.take(1.0, 1.0)
    assert (recent.points[-1]["received_per_s"], recent.points[-1]["processes"]) == (0.0, 2)
    one.metrics.count_item("message", "new", 2)
    recent.metrics.count_item("message", "new", 1)
    others |= {"one": one.told, "two": two.told}
    recent.take(2.0, 1.0)
    assert (recent.points[-1]["received_per_s"], recent.points[-1]["processes"]) == (1.5, 3)
    del others["one"]
    recent.take(3.0, 1.0)
    assert (recent.points[-1]["received_per_s"], recent.points[-1]["processes"]) == (1.0, 2)


@pytest.mark.parametrize("told", [None, {}, "figures", {"received": 4}, {RECEIVED: ["4"]}, {RECEIVED: [1.0, 2.0]}])
def test_process_of_another_version_is_counted_and_not_believed(told: object) -> None:
    recent, others = make()
    others["strange"] = told
    for at in (0.0, 1.0):
        recent.take(at, 1.0)
    assert (recent.points[-1]["processes"], recent.points[-1]["received_per_s"]) == (2, 0.0)


def test_only_the_last_minutes_are_kept() -> None:
    recent, _ = make()
    for at in range(KEEP + 20):
        recent.take(float(at), 1.0)
    assert len(recent.points) == KEEP
    assert recent.points[0]["at"] == 20.0


def test_quantile_lies_in_its_bucket() -> None:
    assert quantile(0.5, (2, 0, 0, 0), BOUNDS) == 0.5
    assert quantile(0.5, (1, 1, 2, 0), BOUNDS) == 2.0
    assert quantile(0.99, (0, 0, 0, 3), BOUNDS) == 4.0
    assert quantile(0.5, (0, 0, 0, 0), BOUNDS) is None


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.floats(0.01, 1.0))
def test_quantile_is_never_outside_of_the_bounds(counts: list[int], share: float) -> None:
    found = quantile(share, counts, BOUNDS)
    assert (found is None) is (sum(counts) == 0)
    assert found is None or 0.0 <= found <= BOUNDS[-1]


def test_what_fell_counts_as_nothing() -> None:
    before: Figures = {"a": (5.0,), "b": (1.0, 1.0)}
    assert subtract({"a": (3.0,), "b": (2.0, 1.0)}, before) == {"a": (0.0,), "b": (1.0, 0.0)}
    assert add([before, before]) == {"a": (10.0,), "b": (2.0, 2.0)}
    assert read_told({"a": [1], "b": [1, 2], "c": [3]}, before) == {"a": (1.0,), "b": (1.0, 2.0)}
