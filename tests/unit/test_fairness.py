from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from whatsapp_hub.fairness import FairGate


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start_waiters(gate: FairGate, keys: str, got: list[str]) -> list[asyncio.Task[None]]:
    """Let each key wait for a slot; whoever gets one keeps it."""

    async def wait(key: str) -> None:
        await gate.acquire(key)
        got.append(key)

    tasks = [asyncio.create_task(wait(key)) for key in keys]
    await settle()
    return tasks


async def test_no_more_than_the_limit_are_inside() -> None:
    gate = FairGate(3)
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with gate.slot("a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert (most, gate.free()) == (3, 3)


async def test_slots_go_round_the_keys_and_not_down_the_longest_queue() -> None:
    gate = FairGate(1)
    await gate.acquire("held")
    got: list[str] = []
    await start_waiters(gate, "aaaaabc", got)
    gate.release("held")
    for _ in range(6):
        await settle()
        gate.release(got[-1])
    await settle()
    assert "".join(got) == "abcaaaa"


async def test_a_busy_key_does_not_starve_one_that_comes_later() -> None:
    gate = FairGate(10)
    got: list[str] = []
    for _ in range(10):
        await gate.acquire("busy")
    await start_waiters(gate, "b" * 1000, got)
    await start_waiters(gate, "q", got)
    for _ in range(2):
        gate.release("busy")
    await settle()
    assert got == ["b", "q"]


async def test_one_key_alone_may_have_every_slot() -> None:
    gate = FairGate(4)
    got: list[str] = []
    await start_waiters(gate, "aaaaa", got)
    assert (got, gate.free(), gate.waiting()) == (list("aaaa"), 0, 1)


async def test_a_key_gets_no_more_than_its_share() -> None:
    gate = FairGate(4, per_key=2)
    got: list[str] = []
    await start_waiters(gate, "aaaaab", got)
    assert (got, gate.free(), gate.waiting()) == (list("aab"), 1, 3)
    gate.release("a")
    await settle()
    assert (got, gate.free(), gate.waiting()) == (list("aaba"), 1, 2)


async def test_whoever_is_cancelled_while_waiting_gets_nothing() -> None:
    gate = FairGate(1)
    await gate.acquire("held")
    got: list[str] = []
    first, _second = await start_waiters(gate, "ab", got)
    first.cancel()
    gate.release("held")  # before the cancelled task has run
    await settle()
    assert (got, gate.waiting()) == (["b"], 0)


async def test_whoever_is_cancelled_in_the_moment_of_getting_a_slot_passes_it_on() -> None:
    gate = FairGate(1)
    await gate.acquire("held")
    got: list[str] = []
    first, _second = await start_waiters(gate, "ab", got)
    gate.release("held")  # the slot is the first one's now, but its task has not run
    first.cancel()
    await settle()
    assert got == ["b"]
    gate.release("b")
    assert gate.free() == 1


async def test_a_timeout_leaves_nothing_behind() -> None:
    gate = FairGate(1)
    await gate.acquire("held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), gate.slot("a"):
            pass
    gate.release("held")
    assert (gate.free(), gate.waiting()) == (1, 0)


async def test_an_error_inside_gives_the_slot_back() -> None:
    gate = FairGate(1)
    with pytest.raises(LookupError):
        async with gate.slot("a"):
            raise LookupError
    assert gate.free() == 1


@pytest.mark.parametrize("per_key", [None, 2])
@pytest.mark.parametrize("seed", range(10))
async def test_nothing_is_lost_whatever_is_cancelled(seed: int, per_key: int | None) -> None:
    rng = random.Random(seed)
    gate = FairGate(5, per_key=per_key)
    inside: Counter[str] = Counter()

    async def work(key: str) -> None:
        async with gate.slot(key):
            inside[key] += 1
            assert inside.total() <= 5
            assert per_key is None or inside[key] <= per_key
            try:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                inside[key] -= 1

    tasks = []
    for _ in range(400):
        tasks.append(asyncio.create_task(work(rng.choice("abcd"))))
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert (gate.free(), gate.waiting(), gate._held, gate._turns, gate._full) == (5, 0, {}, {}, {})
