"""An amount that many share."""

from __future__ import annotations

import asyncio

import pytest

from whatsapp_hub.budget import Budget


async def is_granted(task: asyncio.Task[None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return task.done()


async def test_what_is_there_is_given_at_once_and_what_is_not_when_it_comes_back() -> None:
    budget = Budget(100)
    for key in "abcd":
        await budget.take(key, 25)
    wish = asyncio.create_task(budget.take("e", 10))
    assert not await is_granted(wish)
    budget.give_back("a", 25)
    assert await is_granted(wish)
    assert budget.taken == 85


async def test_one_key_gets_a_quarter_and_keeps_nobody_waiting() -> None:
    budget = Budget(100)
    await budget.take("a", 20)
    greedy = asyncio.create_task(budget.take("a", 20))
    assert not await is_granted(greedy)
    await asyncio.wait_for(budget.take("b", 20), 1)
    budget.give_back("a", 20)
    assert await is_granted(greedy)


async def test_a_large_wish_is_met_alone_and_is_not_overtaken() -> None:
    budget = Budget(100)
    await budget.take("a", 10)
    large = asyncio.create_task(budget.take("b", 150))
    small = asyncio.create_task(budget.take("c", 1))
    assert not await is_granted(large)
    assert not await is_granted(small)
    budget.give_back("a", 10)
    assert await is_granted(large)
    assert not await is_granted(small)
    budget.give_back("b", 150)
    assert await is_granted(small)


@pytest.mark.parametrize("granted", [False, True])
async def test_whoever_is_cancelled_holds_nothing(granted: bool) -> None:
    budget = Budget(100)
    await budget.take("a", 100)
    wish = asyncio.create_task(budget.take("b", 100))
    later = asyncio.create_task(budget.take("c", 100))
    await is_granted(wish)
    if granted:
        budget.give_back("a", 100)  # given to the wish, whose task has not run yet
    wish.cancel()
    await asyncio.gather(wish, return_exceptions=True)
    if not granted:
        budget.give_back("a", 100)
    await asyncio.wait_for(later, 1)
    assert budget.taken == 100
