"""F18 to F20: slow clients, rubbish, and a flood of forgeries, against one process that others want something of."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from math import ceil, inf
from pathlib import Path
from statistics import median
from typing import Final

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from tests.faults.clients import PATH, Attack, flood, head, name_address, open_slow, probing, strike_for
from tests.faults.history import Delivery
from tests.faults.hubs import HubProcess
from tests.faults.world import NUMBERS, World, open_world
from tests.hub import SECRET, text_message, until, webhook_of
from whatsapp_hub import server
from whatsapp_hub.cloud_api.signature import sign

STRETCH_S: Final = float(os.environ.get("SOAK_S", "1.5"))
GOOD_PER_S: Final = 60
MIB: Final = 1024 * 1024

SLOW_CLIENTS: Final = 500  # of each kind
BODY_TIMEOUT_S: Final = 2.0  # in production 5
GRACE_S: Final = 2.0  # two cores are shared with the clients

MAX_GROWTH_BYTES: Final = 32 * MIB
MAX_LAG_S: Final = 0.1

FORGED_PER_S: Final = 2000
#: What a hub asks of its database by itself, some 25 times a second, differs by less between two stretches.
NOISE_PER_S: Final = 10.0

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(60 + 6 * STRETCH_S),
    pytest.mark.deadlines,
]


@pytest_asyncio.fixture(name="world", loop_scope="module", scope="module")
async def _world() -> AsyncIterator[World]:
    """One process, and a database of its own, for all that is done to it."""
    async with open_world(assistant="echo", timing={"body_timeout_s": BODY_TIMEOUT_S}) as world:
        yield world


@pytest.fixture(name="hub")
def _hub(world: World) -> HubProcess:
    return world.hubs[0]


async def talk(world: World) -> None:
    """Have well-behaved customers write for a stretch; each message has to be taken at once, as Meta expects."""
    before = len(world.driver.messages)
    await world.driver.converse(numbers=NUMBERS, customers=100, rate_per_s=GOOD_PER_S, for_s=STRETCH_S)
    assert_prompt([delivery for message in world.driver.messages[before:] for delivery in message.deliveries])


def assert_prompt(deliveries: Sequence[Delivery]) -> None:
    """I10: at most 250 ms for one half, and 1 s for 99 %. What was refused will come again, so it took too long."""
    waits = sorted(delivery.ended_at - delivery.began_at if delivery.status == 200 else inf for delivery in deliveries)
    assert waits[ceil(0.5 * len(waits)) - 1] <= 0.25
    assert waits[ceil(0.99 * len(waits)) - 1] <= 1.0, waits[-10:]


def post(body: bytes, *headers: str, secret: bytes = b"guessed", path: str = PATH) -> bytes:
    """Return a webhook, forged unless it is signed with the right secret."""
    signature = f"X-Hub-Signature-256: {sign(body, secret)}"
    return head(signature, f"Content-Length: {len(body)}", *headers, path=path) + body


# F18


async def test_slow_clients_are_hung_up_on_and_disturb_nobody(world: World, hub: HubProcess) -> None:
    files = hub.open_files()
    addresses = [name_address(index, 18) for index in range(SLOW_CLIENTS)]
    silent = await open_slow(hub.port, addresses, b"")
    silent += await open_slow(hub.port, addresses, head("X-Slow: a").removesuffix(b"\r\n\r\n"), drip_every_s=0.5)
    bodies = await open_slow(hub.port, addresses, head("Content-Length: 9999"), drip_every_s=0.5)
    await talk(world)

    async def bodies_are_closed() -> bool:
        return all(client.closed_after_s for client in bodies)

    async def connections_are_gone() -> bool:
        return hub.open_files() < files + SLOW_CLIENTS / 2  # the others' own connections stay open for a while

    await until(bodies_are_closed)
    assert {client.status for client in bodies} == {408}
    assert max(client.answered_after_s or inf for client in bodies) <= BODY_TIMEOUT_S + GRACE_S
    assert max(client.closed_after_s or inf for client in bodies) <= BODY_TIMEOUT_S + server.LINGERING_TIME_S + GRACE_S
    if STRETCH_S > server.KEEPALIVE_TIMEOUT_S + GRACE_S:  # the next test holds this in short
        assert max(client.closed_after_s or inf for client in silent) <= server.KEEPALIVE_TIMEOUT_S + GRACE_S
    for client in silent:
        client.hang_up()
    await until(connections_are_gone)
    await world.assert_holds()


async def test_silence_and_slow_headers_end_with_the_keep_alive_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEPALIVE_TIMEOUT_S", 1.0)
    runner = server.make_runner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    addresses = [name_address(index, 18) for index in range(SLOW_CLIENTS)]
    clients = await open_slow(runner.addresses[0][1], addresses, b"")
    clients += await open_slow(runner.addresses[0][1], addresses, head("X-Slow: a")[:-4], drip_every_s=0.1)

    async def are_closed() -> bool:
        return all(client.closed_after_s for client in clients)

    await until(are_closed)
    await runner.cleanup()
    assert {client.status for client in clients} == {0}
    assert min(client.closed_after_s or 0 for client in clients) >= 0.9
    assert max(client.closed_after_s or inf for client in clients) <= 1.0 + GRACE_S


# F19

RUBBISH: Final = (
    Attack(data=head(f"Content-Length: {5 * MIB}") + b"x" * 5 * MIB),
    Attack(data=head("Transfer-Encoding: chunked") + b"%x\r\n" % (5 * MIB) + b"x" * 5 * MIB),
    Attack(data=post(b'{"a":"' + b"x" * (4 * MIB - 8) + b'"}')),
    Attack(data=post(gzip.compress(b"{}" * 10 * MIB), "Content-Encoding: gzip")),
    Attack(data=post(b"[" * 100_000 + b"]" * 100_000, secret=SECRET.encode())),
    Attack(data=post(b'{"entry":"\xff\xfe"}', secret=SECRET.encode())),
    Attack(data=head(f"Content-Length: {4 * MIB}") + b"x" * 2 * MIB, answers=0),
    Attack(data=head("Transfer-Encoding: chunked") + b"%x\r\n" % (4 * MIB) + b"x" * 2 * MIB, answers=0),
    Attack(data=head("Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"),
    Attack(data=post(b"{}") * 100, answers=100),
    Attack(data=b"\x16\x03\x01 no HTTP at all\r\n\r\n"),
)


async def test_rubbish_costs_neither_memory_nor_time(world: World, hub: HubProcess) -> None:
    before = hub.rss_bytes()
    forget_peak(hub.pid)
    with probing(hub.port) as waits:
        statuses = await strike_for(hub.port, RUBBISH, STRETCH_S, at_once=4, network=19)

    assert sum(statuses.values()) > len(RUBBISH)
    assert all(400 <= status < 500 for status in statuses), statuses
    assert read_peak_bytes(hub.pid) - before <= MAX_GROWTH_BYTES
    assert median(waits) <= MAX_LAG_S
    assert max(waits) <= 1.0
    assert "Traceback" not in hub.log_path.read_text()
    await talk(world)
    await world.assert_holds()


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


# F20

FORGED: Final = orjson.dumps(webhook_of(text_message("forged", wamid="wamid.forged"), number="101"))
FORGERIES: Final = [post(FORGED, path=PATH + path) for path in ("", "/b101", "/nobody")]


async def test_forgeries_never_reach_the_database_and_are_counted(world: World, hub: HubProcess) -> None:
    await world.at_rest()
    refused = await count_refused(hub)
    quiet_per_s = await measure_commands(world, asyncio.sleep(STRETCH_S))
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(forge(hub))
        commands_per_s = await measure_commands(world, alone)
        among_others = group.create_task(forge(hub))
        await talk(world)
    statuses = alone.result() + among_others.result()

    forged = sum(statuses.values())
    assert forged >= 2 * STRETCH_S * FORGED_PER_S / 4  # as many as this machine makes beside all else
    assert set(statuses) == {401, 429}
    assert commands_per_s <= quiet_per_s + NOISE_PER_S
    unverified, limited = await count_refused(hub)
    assert (unverified - refused[0], limited - refused[1]) == (forged, statuses[429])
    await world.assert_holds()


async def forge(hub: HubProcess) -> Counter[int]:
    return await flood(hub.port, FORGERIES, rate_per_s=FORGED_PER_S, for_s=STRETCH_S, network=20)


async def count_refused(hub: HubProcess) -> tuple[float, float]:
    """Return how many webhooks were not verified, and how many of those were refused by the limit."""
    unverified = await hub.sample("webhook_requests_total", business="unverified")
    return unverified, await hub.sample("whatsapp_hub_rate_limited_total", route="webhook")


async def measure_commands(world: World, work: Awaitable[object]) -> float:
    """Return how many commands a second the database is given meanwhile."""
    before, began_at = await read_commands(world), time.monotonic()
    await work
    return (await read_commands(world) - before) / (time.monotonic() - began_at)


async def read_commands(world: World) -> int:
    status = await world.databases.command({"serverStatus": 1})
    assert status is not None
    return sum(status["opcounters"][kind] for kind in ("insert", "query", "update", "delete", "getmore", "command"))
