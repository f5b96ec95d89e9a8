from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.group_commit import GroupCommit

LONG_S = 3600.0


class Lane:
    """A lane whose writes are noted, each with when it began."""

    def __init__(
        self,
        *,
        interval_s: float = 0.0,
        max_items: int = 500,
        flights: int = 1,
        takes_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> None:
        self.batches: list[list[int]] = []
        self.began: list[float] = []
        self._takes_s = takes_s
        self.commits: GroupCommit[int, int] = GroupCommit(
            self._write, interval_s=interval_s, max_items=max_items, flights=flights, timeout_s=timeout_s
        )

    async def _write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.began.append(time.monotonic())
        await asyncio.sleep(self._takes_s)
        return [item * 10 for item in items]


async def test_whoever_comes_first_or_after_a_pause_waits_for_nobody() -> None:
    lane = Lane(interval_s=0.6)
    for item in (1, 2):
        began = time.monotonic()
        assert await lane.commits.submit(item) == item * 10
        assert time.monotonic() - began < 0.5
        await asyncio.sleep(0.7)


async def test_batches_are_an_interval_apart_and_take_along_who_came_meanwhile() -> None:
    lane = Lane(interval_s=0.2)
    first = lane.commits.submit(1)
    await asyncio.sleep(0.02)
    second, third = lane.commits.submit(2), lane.commits.submit(3)
    assert [await future for future in (first, second, third)] == [10, 20, 30]

    assert lane.batches == [[1], [2, 3]]
    assert lane.began[1] - lane.began[0] > 0.19


async def test_write_that_takes_longer_than_the_interval_is_followed_at_once() -> None:
    lane = Lane(interval_s=0.5, takes_s=0.6)
    first = lane.commits.submit(1)
    await asyncio.sleep(0.02)
    await asyncio.gather(first, lane.commits.submit(2))

    assert lane.batches == [[1], [2]]
    assert 0.59 < lane.began[1] - lane.began[0] < 1.0


async def test_what_a_batch_has_no_room_for_follows_at_once() -> None:
    lane = Lane(interval_s=LONG_S, max_items=2, flights=2)
    assert await asyncio.gather(*map(lane.commits.submit, range(4))) == [0, 10, 20, 30]
    assert lane.batches == [[0, 1], [2, 3]]


async def test_flush_waits_for_no_interval() -> None:
    lane = Lane(interval_s=LONG_S)
    await lane.commits.submit(1)
    late = lane.commits.submit(2)
    await asyncio.wait_for(lane.commits.flush(), 5)
    assert late.result() == 20


async def test_callers_are_told_before_their_time_is_over() -> None:
    lane = Lane(takes_s=LONG_S, timeout_s=20)  # the clock is looked at every second
    now = asyncio.get_running_loop().time()

    async def told_after(age_s: float) -> float:
        with pytest.raises(StoreUnavailable):
            await lane.commits.submit(1, since=now - age_s)
        return asyncio.get_running_loop().time() - now + age_s

    for waited_s in await asyncio.gather(told_after(18.4), told_after(17.4)):
        assert 19 < waited_s < 20
