from __future__ import annotations

import asyncio
import time
import tracemalloc
from array import array

import pytest
from limits import parse

from whatsapp_hub.http.limit_store import MAX_KEYS, BoundedMemory, CountOnce


async def test_limit_is_reached_exactly() -> None:
    store = BoundedMemory()

    passed = [await store.acquire_entry("a", 3, 60) for _ in range(5)]

    assert passed == [True, True, True, False, False]


async def test_keys_are_counted_apart() -> None:
    store = BoundedMemory()

    assert await store.acquire_entry("a", 1, 60)
    assert await store.acquire_entry("b", 1, 60)
    assert not await store.acquire_entry("a", 1, 60)


async def test_window_moves_on() -> None:
    store = BoundedMemory()
    assert [await store.acquire_entry("a", 2, 60) for _ in range(3)] == [True, True, False]

    for times in store._times.values():
        times[:] = array("d", [at - 61 for at in times])

    start, count = await store.get_moving_window("a", 2, 60)
    assert count == 0
    assert start == pytest.approx(time.time(), abs=1)
    assert await store.acquire_entry("a", 2, 60)


async def test_window_tells_its_oldest_request_and_how_many_there_are() -> None:
    store = BoundedMemory()
    before = time.time()
    for _ in range(3):
        await store.acquire_entry("a", 5, 60)

    start, count = await store.get_moving_window("a", 5, 60)

    assert count == 3
    assert abs(start - before) < 1


async def test_requests_at_the_same_time_do_not_slip_through() -> None:
    window = CountOnce(BoundedMemory())
    item = parse("5/minute")

    passed = await asyncio.gather(*(window.test(item, "a") for _ in range(50)))

    assert sum(passed) == 5


async def test_memory_is_bounded_whatever_the_number_of_addresses() -> None:
    store = BoundedMemory()
    tracemalloc.start()
    for number in range(200_000):
        network = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"
        await store.acquire_entry(f"LIMITER/{network}:webhook/100/1/minute", 100, 60)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(store) == MAX_KEYS
    assert held_bytes < 15_000_000


async def test_longest_quiet_address_is_forgotten_first() -> None:
    store = BoundedMemory(max_keys=2)
    await store.acquire_entry("a", 1, 60)
    await store.acquire_entry("b", 1, 60)
    await store.acquire_entry("a", 1, 60)  # refused, but it shows that it is there
    await store.acquire_entry("c", 1, 60)

    assert not await store.acquire_entry("a", 1, 60)
    assert await store.acquire_entry("b", 1, 60)


async def test_times_of_one_address_are_bounded_too() -> None:
    store = BoundedMemory()
    for _ in range(20_000):
        await store.acquire_entry("a", 10, 0)

    assert len(store._times["a"]) <= 20


async def test_reset_forgets_everything() -> None:
    store = BoundedMemory()
    await store.acquire_entry("a", 1, 60)

    assert await store.reset() == 1
    assert await store.acquire_entry("a", 1, 60)
