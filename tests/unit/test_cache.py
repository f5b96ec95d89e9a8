from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.tenants.business import Business, Unserved
from whatsapp_hub.tenants.cache import BusinessCache, Found

NOBODY = Unserved(reason="nobody")


class Source:
    """What is loaded from: counts the loads, can be down, and can be made to wait."""

    def __init__(self) -> None:
        self.loads = 0
        self.down = False
        self.values: dict[str, Found] = {}
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def load(self, key: str) -> Found:
        self.loads += 1
        self.asked.set()
        await self.go.wait()
        if self.down:
            raise StoreUnavailable
        return self.values.get(key, NOBODY)


def business(name: str) -> Business:
    return Business(
        id=name,
        name=name,
        sub_domain=name,
        account_id=None,
        phone_number_ids=(name,),
        enabled=True,
        access_token="token",
    )


@pytest.fixture
async def source() -> Source:
    return Source()


def make(source: Source, *, size: int = 10, ttl_s: float = 60, short_ttl_s: float = 60) -> BusinessCache:
    return BusinessCache(source.load, size=size, ttl_s=ttl_s, short_ttl_s=short_ttl_s)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(400):
        if await condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


async def test_second_look_up_is_not_loaded(source: Source) -> None:
    source.values["a"] = business("a")
    cache = make(source)

    assert await cache.get("a") is await cache.get("a")
    assert source.loads == 1


async def test_callers_at_the_same_time_share_one_load(source: Source) -> None:
    source.values["a"] = business("a")
    cache = make(source)

    found = await asyncio.gather(*(cache.get("a") for _ in range(1000)))

    assert source.loads == 1
    assert set(map(id, found)) == {id(source.values["a"])}


async def test_one_cancelled_caller_takes_the_load_from_nobody_else(source: Source) -> None:
    source.values["a"] = business("a")
    source.go.clear()
    cache = make(source)
    first, second = asyncio.create_task(cache.get("a")), asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    source.go.set()

    assert await second == business("a")
    assert source.loads == 1


async def test_after_the_last_caller_was_cancelled_the_next_one_loads(source: Source) -> None:
    source.values["a"] = business("a")
    source.go.clear()
    cache = make(source)
    only = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)

    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    source.go.set()

    assert await cache.get("a") == business("a")


async def test_value_is_loaded_again_after_its_ttl(source: Source) -> None:
    source.values["a"] = old = business("a")
    cache = make(source, ttl_s=0.02)
    assert await cache.get("a") is old

    source.values["a"] = new = business("a")

    async def is_new() -> bool:
        return await cache.get("a") is new

    await until(is_new)


async def test_nobody_is_remembered_for_a_short_while_only(source: Source) -> None:
    cache = make(source, short_ttl_s=0.02)
    assert [await cache.get("a") for _ in range(100)] == [NOBODY] * 100
    assert source.loads == 1

    source.values["a"] = business("a")

    async def is_there() -> bool:
        return isinstance(await cache.get("a"), Business)

    await until(is_there)


async def test_failed_load_is_not_remembered(source: Source) -> None:
    source.values["a"] = business("a")
    source.down = True
    cache = make(source)
    with pytest.raises(StoreUnavailable):
        await cache.get("a")

    source.down = False

    assert await cache.get("a") == business("a")


async def test_last_good_value_serves_in_an_outage_for_a_short_while_at_a_time(source: Source) -> None:
    source.values["a"] = old = business("a")
    cache = make(source, short_ttl_s=0.02)
    await cache.get("a")
    cache.expire()
    source.down = True
    assert await cache.get("a") is old
    assert await cache.get("a") is old
    assert source.loads == 2

    source.down = False
    source.values["a"] = new = business("a")

    async def is_new() -> bool:
        return await cache.get("a") is new

    await until(is_new)


async def test_value_that_is_known_to_have_changed_does_not_serve_in_an_outage(source: Source) -> None:
    source.values["a"] = business("a")
    cache = make(source)
    await cache.get("a")
    source.down = True

    cache.forget("a")

    with pytest.raises(StoreUnavailable):
        await cache.get("a")


async def test_load_that_began_before_a_change_is_not_kept_for_an_outage(source: Source) -> None:
    source.values["a"] = business("a")
    source.go.clear()
    cache = make(source)
    early = asyncio.create_task(cache.get("a"))
    await source.asked.wait()

    cache.forget("a")
    source.go.set()
    await early
    source.down = True

    with pytest.raises(StoreUnavailable):
        await cache.get("a")


async def test_nobody_does_not_serve_in_an_outage(source: Source) -> None:
    cache = make(source)
    await cache.get("a")
    cache.expire()
    source.down = True

    with pytest.raises(StoreUnavailable):
        await cache.get("a")


async def test_reloading_asks_past_the_cache_and_keeps_the_answer(source: Source) -> None:
    source.values["a"] = business("a")
    cache = make(source)
    await cache.get("a")
    source.values["a"] = new = business("a")

    assert await cache.reload("a") is new
    assert await cache.get("a") is new
    assert source.loads == 2


async def test_both_stores_are_bounded(source: Source) -> None:
    source.values = {str(n): business(str(n)) for n in range(100)}
    cache = make(source, size=10)
    for key in source.values:
        await cache.get(key)

    assert len(cache) == 10

    cache.expire()
    source.down = True
    served = 0
    for key in source.values:
        try:
            await cache.get(key)
        except StoreUnavailable:
            continue
        served += 1
    assert served == 10


async def test_clearing_drops_the_last_good_values_too(source: Source) -> None:
    source.values["a"] = business("a")
    cache = make(source)
    await cache.get("a")
    source.down = True

    assert cache.clear() == 1
    assert len(cache) == 0
    with pytest.raises(StoreUnavailable):
        await cache.get("a")
