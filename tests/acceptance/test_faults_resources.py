"""F28: files, threads and memory run out: the hub sheds load, stays alive, recovers, and keeps what it acknowledged."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import aiohttp
import click
import orjson
import pytest

from tests.faults.driver import PATH, WORD, name_customer
from tests.faults.hubs import HOST, HubProcess
from tests.faults.loads import peak_rss_bytes
from tests.faults.outages import assert_quick, deliveries, talking
from tests.faults.world import DATABASE, World, open_world
from tests.hub import SECRET, text_message, until, webhook_of
from whatsapp_hub.cloud_api.signature import sign

pytestmark = pytest.mark.deadlines

FILES = 256
IDLE = 400
BUSY_SHARE = 0.5  # of a core: what an accept that fails again and again would pass at once


@contextmanager
def idle_connections(hub: HubProcess, count: int) -> Iterator[None]:
    """Hold connections to a hub and say nothing on them."""
    lines = [socket.socket() for _ in range(count)]
    try:
        for line in lines:
            line.setblocking(False)
            line.connect_ex((HOST, hub.port))
        yield
    finally:
        for line in lines:
            line.close()


async def ask_anew(hub: HubProcess, request: bytes) -> bytes:
    """Make a request on a connection of its own; return what came back, nothing where it was closed."""
    try:
        reader, writer = await asyncio.open_connection(HOST, hub.port)
        try:
            writer.write(request)
            return await reader.read(64 * 1024)
        finally:
            writer.close()
            await writer.wait_closed()
    except OSError:
        return b""


GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
POST_NOTHING = b"POST /whatsapp_response HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.timeout(60)
async def test_connections_that_take_all_files_are_shed_and_neither_probes_nor_replies_wait() -> None:
    limited = ("prlimit", f"--nofile={FILES}:{FILES}")
    async with open_world(prefix=limited, environment={"MONGODB_MAX_POOL_SIZE": "20"}) as world:
        hub = world.hubs[0]
        await world.driver.say("101", name_customer(0))  # on a connection that stays
        with idle_connections(hub, IDLE):
            await until(lambda: is_shed(hub))
            assert (await ask_anew(hub, GET_HEALTH)).startswith(b"HTTP/1.1 200")
            used_s, began = hub.cpu_s(), time.monotonic()
            async with talking(world, for_s=2, rate_per_s=10, customers=1):
                await asyncio.sleep(2)
            share = (hub.cpu_s() - used_s) / (time.monotonic() - began)
            assert share < BUSY_SHARE
            assert hub.open_files() < FILES
            await world.at_rest(5)  # replies go out meanwhile
        assert {one.status for one in deliveries(world)} == {200}, "who was connected is served"
        await until(lambda: is_taken(hub))
        async with talking(world, for_s=1):
            pass
        await world.assert_holds()


async def is_shed(hub: HubProcess) -> bool:
    answer = await ask_anew(hub, POST_NOTHING)
    return answer.startswith(b"HTTP/1.1 503") and b"Retry-After: " in answer


async def is_taken(hub: HubProcess) -> bool:
    return (await ask_anew(hub, POST_NOTHING)).startswith(b"HTTP/1.1 401")


@pytest.mark.rehearsal
async def test_reads_that_hang_in_all_threads_are_shed_and_the_loop_goes_on() -> None:
    """Reads of the businesses hang for longer than they may, in as many threads as the driver has for everything."""
    numbers = [f"8{index:03}" for index in range(64)]
    settings = {"MOTOR_MAX_WORKERS": "16", "WARMUP_CACHE": "false"}
    async with open_world(numbers=numbers, environment=settings, timing={"lease_s": 8.0, "self_fence_s": 6.0}) as world:
        hub = world.hubs[0]
        data = {"failCommands": ["find"], "namespace": f"{DATABASE}.businesses", "blockConnection": True}
        point = {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": {**data, "blockTimeMS": 3_000}}
        assert await world.databases.command(point) is not None
        async with talking(world, for_s=4, rate_per_s=40, numbers=numbers):
            worst_s = 0.0
            for _ in range(20):
                began = time.monotonic()
                assert (await hub.get("/health"))[0] == 200
                worst_s = max(worst_s, time.monotonic() - began)
                await asyncio.sleep(0.1)
            assert await world.databases.command({**point, "mode": "off"}) is not None
        assert worst_s < 1.0
        assert_quick(deliveries(world))
        await world.assert_holds()


MEMORY = 400 * 1024 * 1024
ENOUGH = 1_500_000_000  # what the systemd unit lets it have before it is slowed down
LARGE_BYTES = 3 * 1024 * 1024


@pytest.mark.rehearsal
@pytest.mark.timeout(60)
async def test_large_bodies_at_once_are_refused_before_memory_runs_out() -> None:
    async with open_world() as world:
        hub = world.hubs[0]
        async with talking(world, for_s=3, rate_per_s=10):
            statuses = await post_large(world, 200)
            assert (await hub.get("/health"))[0] == 200
        peak = peak_rss_bytes(hub)
        click.echo(f"200 bodies of 3 MiB at once: {dict(statuses)}, RSS at most {peak / 1e6:.0f} MB")
        assert set(statuses) <= {200, 503}
        assert statuses[503]
        assert peak < ENOUGH
        assert await world.database.events.count_documents({}) >= statuses[200]
        await world.assert_holds()


@pytest.mark.rehearsal
@pytest.mark.timeout(90)
async def test_process_that_memory_ran_out_for_is_started_again_and_nothing_acknowledged_is_lost() -> None:
    """What C code does without memory ends the process (seen: SIGSEGV); whoever supervises it starts it again."""
    async with open_world(prefix=("prlimit", f"--data={MEMORY}")) as world:
        hub = world.hubs[0]
        async with talking(world, for_s=3, rate_per_s=20):
            statuses = await post_large(world, 60)
            click.echo(f"60 bodies of 3 MiB at once, in {MEMORY >> 20} MiB: {dict(statuses)}, alive: {hub.alive}")
            assert statuses[200] < 60, "it never ran out"
            if not hub.alive:
                hub.start()
                await hub.ready()
        assert await world.database.events.count_documents({}) >= statuses[200]
        async with talking(world, for_s=1):
            pass
        await world.assert_holds()


async def post_large(world: World, count: int) -> Counter[int]:
    """Post large webhooks that are stored as events, all at once; return what they were answered."""

    async def post(index: int) -> int:
        item = text_message(WORD, wamid=f"large.{index}", padding="x" * LARGE_BYTES)
        payload = webhook_of(number="101", errors=[{"code": index, "message": item}])
        body = orjson.dumps(payload)
        headers = {"X-Hub-Signature-256": sign(body, SECRET.encode())}
        try:
            async with world.driver._client.post(world.url + PATH, data=BytesIO(body), headers=headers) as response:
                return response.status
        except (aiohttp.ClientError, OSError):
            return 0

    return Counter(await asyncio.gather(*map(post, range(count))))
