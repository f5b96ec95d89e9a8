from __future__ import annotations

import os
import sys
from random import Random

import pytest

from bench.accounting import Busy, read_busy, read_cpu, read_memory_mb, sum_cpu
from bench.machine import read_model
from bench.plan import Cpu
from bench.processes import split_cores
from bench.stats import Latencies, latencies_ms, pair_ratios, percentile, spread, trend

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_percentile_is_a_value_that_was_there() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [percentile(ordered, percent) for percent in (0, 1, 50, 99, 99.5, 100)] == [1, 1, 50, 99, 100, 100]
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_latencies_are_in_milliseconds_whatever_their_order() -> None:
    assert latencies_ms([0.003, 0.001, 0.002]) == Latencies(count=3, p50=2.0, p90=3.0, p99=3.0, max=3.0)
    assert latencies_ms([]) is None


def test_ratio_is_that_of_neighbours() -> None:
    ratios = spread(pair_ratios([180.0, 300.0, 200.0], [100.0, 150.0, 100.0]))
    assert (ratios.median, ratios.lowest, ratios.highest) == (2.0, 1.8, 2.0)


def test_runs_without_a_neighbour_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pair_ratios([1.0, 2.0], [1.0])


@on_linux
def test_cpu_of_a_process_is_read() -> None:
    before = read_cpu(os.getpid())
    sum(range(2_000_000))
    assert read_cpu(os.getpid()).since(before).total_s > 0.0
    assert Cpu(user_s=1.0, system_s=0.5).total_s == 1.5


def test_share_of_cores_is_that_of_the_time_between() -> None:
    before = Busy(worked={0: 10, 1: 10}, passed={0: 100, 1: 100})
    after = Busy(worked={0: 60, 1: 10}, passed={0: 200, 1: 200})
    assert (after.share_since(before, [0]), after.share_since(before, [0, 1])) == (0.5, 0.25)


@on_linux
def test_every_core_is_read() -> None:
    busy = read_busy()
    assert busy.worked.keys() == busy.passed.keys()
    assert all(busy.worked[core] < busy.passed[core] for core in busy.worked)


def test_measured_core_is_kept_apart_where_there_are_two() -> None:
    assert (split_cores([0, 1]).measured, split_cores([0, 1]).others) == (1, frozenset({0}))
    assert split_cores([0, 1]).apart
    assert not split_cores([3]).apart


def test_model_of_the_processor_is_found() -> None:
    assert read_model("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"


def test_trend_finds_what_grows_and_how_sure_that_is() -> None:
    rng = Random(1)
    steady = [(float(at), 100.0 + rng.gauss(0, 2)) for at in range(900)]
    growing = [(at, mb + at / 3600 * 60) for at, mb in steady]
    flat, grown = trend(steady), trend(growing)
    assert flat.lowest < 0 < flat.highest
    assert grown.lowest > 0
    assert grown.per_hour - flat.per_hour == pytest.approx(60)
    assert grown.lowest < 60 < grown.highest


def test_cpu_of_several_processes_is_added_up() -> None:
    assert sum_cpu([Cpu(user_s=1.0, system_s=0.5)] * 3) == Cpu(user_s=3.0, system_s=1.5)


@on_linux
def test_memory_of_a_process_is_read() -> None:
    before = read_memory_mb(os.getpid())
    block = bytearray(b"x" * 50_000_000)
    assert read_memory_mb(os.getpid()) - before == pytest.approx(len(block) / 1e6, rel=0.2)


def test_processes_of_a_subject_share_a_core_only_where_they_have_to() -> None:
    assert split_cores([0, 1]).spread(3) == [1, 1, 1]
    assert split_cores([0, 1, 2, 3]).spread(2) == [3, 2]
    assert split_cores([0]).spread(2) == [0, 0]
