"""Figures of ``docs/guide.md`` and ``docs/deployment.md``: what a decryption costs, and what businesses and work weigh.

``python -m tests.deploy.measure``
"""

from __future__ import annotations

import asyncio
import gc
import timeit
import tracemalloc
from typing import Final

import click

from tests.faults.driver import name_customer
from tests.faults.loads import PRODUCTION
from tests.faults.world import World, open_world
from tests.hub import business, until
from whatsapp_hub.tenants.documents import read_business
from whatsapp_hub.tenants.vault import Vault

NUMBERS: Final = tuple(f"7{n:05}" for n in range(1000))
CONVERSATIONS: Final = 10_000
AT_ONCE: Final = 200
TOKEN_LENGTH: Final = 200


def measure_vault() -> None:
    """Decrypt once and from memory, and hold a thousand businesses."""
    vault = Vault("secret")
    stored = [vault.encrypt(f"{n:0{TOKEN_LENGTH}}") for n in range(len(NUMBERS))]
    cold_s = timeit.timeit(lambda: vault._read(stored[0]), number=2_000) / 2_000
    vault.decrypt(stored[0])
    cached_s = timeit.timeit(lambda: vault.decrypt(stored[0]), number=200_000) / 200_000
    click.echo(f"decryption: {cold_s * 1e6:.1f} us, from memory {cached_s * 1e6:.2f} us, {cold_s / cached_s:.0f} times")

    documents = [business(number, whatsappAccessToken=token) for number, token in zip(NUMBERS, stored, strict=True)]
    gc.collect()
    tracemalloc.start()
    fresh = Vault("secret")
    cached = [read_business(document, fresh.decrypt) for document in documents]
    gc.collect()
    click.echo(f"{len(cached)} businesses: {tracemalloc.get_traced_memory()[0] / 1e6:.1f} MB")
    tracemalloc.stop()


async def measure_process() -> None:
    """Look at a hub's memory after it has answered for each business, and with many conversations in flight."""
    async with open_world(numbers=NUMBERS, timing=PRODUCTION, environment={"AI_TIMEOUT_S": "600"}) as world:
        (hub,) = world.hubs
        await _say(world, len(NUMBERS))
        await world.at_rest()
        cached = await hub.sample("whatsapp_hub_business_cache_size")
        click.echo(f"at rest, {cached:.0f} businesses cached: {hub.rss_bytes() / 1e6:.0f} MB")
        world.graph.model.latency_s = (300, 300)
        await _say(world, CONVERSATIONS)

        async def has_seen_all() -> bool:
            return await hub.sample("whatsapp_hub_pending_messages") >= CONVERSATIONS

        await until(has_seen_all, 60)
        click.echo(f"{CONVERSATIONS} conversations in flight: {hub.rss_bytes() / 1e6:.0f} MB")


async def _say(world: World, count: int) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def say(index: int) -> None:
        async with room:
            await world.driver.say(NUMBERS[index % len(NUMBERS)], name_customer(index))

    await asyncio.gather(*map(say, range(count)))


if __name__ == "__main__":
    measure_vault()
    asyncio.run(measure_process())
