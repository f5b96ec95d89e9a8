from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from bench.awake import IDLE_STATES, LATENCY_DEVICE, kept_awake
from bench.locusts import GUIDE, SIGNED, Crowd, visit
from bench.plan import Outcome, Plan
from bench.processes import BenchFailed, split_cores
from bench.scenarios import ACK, ANSWERED, Scenario
from bench.stage import Observer, Subject, hub, run_once
from bench.study import Context
from bench.watching import DrainWatch, MemoryWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")


CORES = split_cores(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else split_cores([0])


def run_short(
    scenario: Scenario, subject: Subject | None, observer: Observer | None = None, **changes: object
) -> Outcome:
    plan: Plan = replace(scenario.plan, connections=10, customers=20, phone_numbers=5, **changes)  # type: ignore[arg-type]
    assert subject is not None
    return run_once(subject, plan, CORES, observer)


def test_acks_of_the_hub_are_counted_and_stored() -> None:
    outcome = run_short(ACK, ACK.hub, warm_up=20, measured=200)
    assert outcome.faults == []
    assert outcome.stored == {"active": 20, "queued": 230}
    assert outcome.units == 200
    assert outcome.ack_ms is not None
    assert outcome.ack_ms.count == 200


def test_answers_of_the_hub_are_matched_with_their_messages() -> None:
    outcome = run_short(ANSWERED, ANSWERED.hub, warm_up=20, measured=100, rate=200.0)
    assert outcome.faults == []
    assert outcome.stored == {"done": 120}
    assert outcome.commands["insert"] > 0
    assert outcome.journal_sync_ms
    assert b'"commands":{"' in orjson.dumps(asdict(outcome))
    assert outcome.added_ms is not None
    assert outcome.reply_ms is not None
    assert outcome.reply_ms.count == 100


def test_floor_makes_the_same_calls() -> None:
    outcome = run_short(ANSWERED, ANSWERED.floor, warm_up=20, measured=100, rate=200.0)
    assert outcome.faults == []
    assert outcome.reply_ms is not None
    assert outcome.reply_ms.count == 100
    assert outcome.database_us is None


@pytest.mark.parametrize("scenario", [ACK, ANSWERED], ids=lambda scenario: scenario.name)
def test_peers_take_what_the_hub_takes(scenario: Scenario) -> None:
    (peer,) = scenario.peers
    outcome = run_short(replace(scenario, plan=peer.plan), peer.subject, warm_up=20, measured=50)
    assert outcome.faults == []
    assert outcome.units == pytest.approx(50, abs=2)
    assert set(outcome.statuses) == {"200"}


def test_several_processes_share_the_work_behind_a_backlog_and_with_histories() -> None:
    subject = hub(assistant="openai", typing_indicator=False, processes=2)
    outcome = run_short(ANSWERED, subject, warm_up=20, measured=100, rate=200.0, backlog=60, past_turns=3, zipf=True)
    assert outcome.faults == []
    assert outcome.stored == {"active": 60, "done": 120}
    assert outcome.reply_ms is not None
    assert outcome.reply_ms.count == 100


def test_memory_is_watched_until_the_last_answer() -> None:
    watch = MemoryWatch(every_s=0.05)
    outcome = run_short(ANSWERED, ANSWERED.hub, watch, warm_up=0, measured=50, rate=200.0, model_s=(0.5, 0.5))
    assert outcome.faults == []
    assert outcome.under_way > 0
    assert watch.samples[-1][0] > watch.window_s > watch.in_window[-1][0]
    assert 20 < watch.in_window[0][1] <= watch.peak_mb < 500


def test_drain_is_waited_for() -> None:
    watch = DrainWatch()
    outcome = run_short(
        ANSWERED, ANSWERED.hub, watch, warm_up=0, measured=50, rate=200.0, model_s=(0.5, 0.5), drain_s=1
    )
    assert outcome.under_way > outcome.lost
    assert 0.0 < watch.drain_s < 10.0
    assert (outcome.duplicated, outcome.out_of_order) == (0, 0)


@pytest.mark.parametrize("crowd", [GUIDE, SIGNED], ids=lambda crowd: crowd.user)
def test_locust_users_are_answered(crowd: Crowd) -> None:
    seen = visit(crowd, Context(cores=CORES, quick=True, crowd_s=2, say=lambda _: None))
    assert seen.requests > 100
    assert (seen.errors, seen.duplicated) == (0, 0)
    assert sum(seen.stored.values()) >= seen.requests
    assert 0 < seen.replies <= sum(seen.stored.values())
    assert seen.turns > 0


def count_halts() -> int:
    """Return how often the cores have taken an idle state deeper than the first, which polls."""
    return sum(
        int((state / "usage").read_text())
        for state in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpuidle/state*")
        if state.name != "state0"
    )


@pytest.mark.skipif(
    not (os.access(LATENCY_DEVICE, os.W_OK) and any(IDLE_STATES.glob("state*"))),
    reason="cores can be kept awake by root, where the kernel knows idle states",
)
def test_cores_kept_awake_do_not_halt() -> None:
    with kept_awake():
        time.sleep(0.1)  # until those that have halted are woken
        before = count_halts()
        time.sleep(0.5)
        assert count_halts() == before


def test_cores_that_cannot_be_kept_awake_are_no_secret(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="no idle states"), kept_awake(states=tmp_path):
        pass
    (tmp_path / "state0").mkdir()
    with pytest.raises(BenchFailed, match="run as root"), kept_awake(device=tmp_path, states=tmp_path):
        pass
