"""A short run of random faults, always the same one; ``make chaos`` has the long ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.faults.chaos import run
from tests.faults.plan import Deed, Kind, plan

SEED = 10
STOPS_THE_DATABASE = {Kind.DATABASE_KILL, Kind.DATABASE_PAUSE, Kind.STEP_DOWN}
STOPS_A_HUB = {Kind.HUB_KILL, Kind.HUB_PAUSE, Kind.HUB_STOP}


@pytest.mark.timeout(120)
async def test_nothing_is_lost_doubled_or_out_of_order_whatever_dies() -> None:
    result = await run(SEED, minutes=0.2, hubs=2, rate_per_s=30)
    assert not result.violations, "\n".join([f"seed {SEED}, see {result.folder}", *result.violations])
    assert result.deeds.keys() & STOPS_THE_DATABASE
    assert result.deeds.keys() & STOPS_A_HUB
    assert result.acknowledged > 100
    assert result.refused
    assert result.replies > 50


def test_a_seed_always_plans_the_same() -> None:
    assert plan(7, 1, 3, 3) == plan(7, 1, 3, 3)
    assert plan(7, 1, 3, 3) != plan(8, 1, 3, 3)


def test_a_plan_has_every_kind_of_deed() -> None:
    kinds = Counter(deed.kind for deed in plan(1, 10, 3, 3))
    assert kinds.keys() == set(Kind)
    assert Kind.STEP_DOWN not in {deed.kind for deed in plan(1, 10, 3, 1)}


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_stopped_twice_at_a_time(seed: int) -> None:
    deeds = plan(seed, 2, 3, 3)
    stops = [deed for deed in deeds if deed.kind in STOPS_THE_DATABASE]
    assert not any(overlap(one, other) for one, other in pairwise(stops))
    for hub in range(3):
        ours = [deed for deed in deeds if deed.kind in STOPS_A_HUB and deed.target == hub]
        assert not any(overlap(one, other) for one, other in pairwise(ours))


def overlap(one: Deed, other: Deed) -> bool:
    return other.at_s < one.at_s + one.for_s
