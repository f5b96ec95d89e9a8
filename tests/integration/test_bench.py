from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace

import orjson
import pytest

from bench.plan import Outcome, Plan
from bench.processes import split_cores
from bench.scenarios import ACK, ANSWERED, Scenario
from bench.stage import Subject, run_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")


def run_short(scenario: Scenario, subject: Subject | None, **changes: object) -> Outcome:
    plan: Plan = replace(scenario.plan, connections=10, customers=20, phone_numbers=5, **changes)  # type: ignore[arg-type]
    assert subject is not None
    return run_once(subject, plan, split_cores(sorted(os.sched_getaffinity(0))))


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
