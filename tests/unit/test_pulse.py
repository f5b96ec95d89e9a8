"""The laboratory's own lateness: what the driver saw late because it did not run itself."""

from __future__ import annotations

import asyncio
import time

from tests.faults.pulse import LEAST_S, Pulse


async def test_only_what_the_driver_stood_still_is_lost() -> None:
    pulse = Pulse()
    async with pulse.beating():
        before = time.monotonic()
        await asyncio.sleep(0.1)
        time.sleep(0.5)  # noqa: ASYNC251 - it stands still
        seen_at_once = time.monotonic()
        assert 0.5 - LEAST_S <= pulse.lost_s(before, seen_at_once) <= seen_at_once - before - 0.05
        await asyncio.sleep(0.1)
        assert pulse.lost_s(before, time.monotonic()) >= 0.5 - LEAST_S
        assert pulse.lost_s(seen_at_once, time.monotonic()) < 0.4  # a busy machine may take some


async def test_waiting_is_not_lost() -> None:
    pulse = Pulse()
    async with pulse.beating():
        began_at = time.monotonic()
        await asyncio.sleep(0.3)
        assert pulse.lost_s(began_at, time.monotonic()) < 0.2  # a busy machine may take some


async def test_nothing_is_lost_where_nobody_beats() -> None:
    pulse = Pulse()
    began_at = time.monotonic()
    time.sleep(0.2)  # noqa: ASYNC251 - it stands still
    assert pulse.lost_s(began_at, time.monotonic()) == 0
    async with pulse.beating(), pulse.beating():
        pass
    time.sleep(0.2)  # noqa: ASYNC251 - it stands still
    assert pulse.lost_s(began_at, time.monotonic()) == 0
