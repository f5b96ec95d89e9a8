"""The database's disasters, tried on a real set of three: a server lost for good, and a set restored from a copy."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import pytest
from pymongo import MongoClient

from tests.faults.driver import PATH
from tests.faults.history import Message
from tests.faults.servers import PARAMETERS, Servers
from tests.faults.world import DATABASE, NUMBERS, World, open_world
from tests.hub import SECRET, until
from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.database_server import SET_NAME, DatabaseServer
from whatsapp_hub.demo.embedded import Embedded
from whatsapp_hub.demo.statuses import WebhookTarget

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(300)]

FILLING: Final = 50_000  # documents of 1 KB, so that a first synchronisation has something to do
OLD_S: Final = 600  # how old the messages are that waited when the copy was made
SHORT_S: Final = 300  # REPLY_MAX_AGE_S after the restoration: what is older gets no answer
USUAL_S: Final = 21_600


async def fill(database: Database) -> None:
    now = datetime.now(UTC)
    for start in range(0, FILLING, 5_000):
        numbers = range(start, start + 5_000)
        await database.events.insert_many([{"_id": f"f{n}", "at": now, "x": "x" * 1_000} for n in numbers])


async def acknowledged(world: World, more: int) -> None:
    """Wait until so many more messages have been acknowledged."""
    wanted = world.driver.acknowledged + more

    async def there() -> bool:
        return world.driver.acknowledged >= wanted

    await until(there, 30)


async def state_of(servers: Servers, index: int) -> str | None:
    """Return what a server says it is in its set."""
    status = await servers.command({"replSetGetStatus": 1}, index)
    return next((member["stateStr"] for member in status["members"] if member.get("self")), None) if status else None


@pytest.mark.parametrize("role", ["secondary", "primary"])
async def test_server_that_is_lost_for_good_is_replaced_by_an_empty_one(role: str) -> None:
    async with open_world(servers=3) as world:
        await fill(world.database)
        async with asyncio.TaskGroup() as group:
            talk = group.create_task(world.driver.converse(numbers=NUMBERS, customers=60, rate_per_s=30, for_s=120))
            await acknowledged(world, 50)
            primary = await world.primary()
            lost = primary if role == "primary" else (primary + 1) % 3
            began_at = time.monotonic()
            await world.kill_server(lost)
            shutil.rmtree(world.servers[lost].folder / "data")
            await acknowledged(world, 1)
            goes_on_s = time.monotonic() - began_at
            await world.start_server(lost)

            async def is_secondary() -> bool:
                return await state_of(world.databases, lost) == "SECONDARY"

            await until(is_secondary, 90)
            synced_s = time.monotonic() - began_at
            refused = world.driver.refused
            await acknowledged(world, 50)
            primary = await world.primary()
            other = next(index for index in range(3) if index not in {lost, primary})
            await world.kill_server(other)  # now the new one is needed for every majority
            await acknowledged(world, 50)
            talk.cancel()
        await world.assert_holds(timeout_s=60)
        click.echo(
            f"\n{role} lost: acknowledged again after {goes_on_s:.1f} s,"
            f" replaced and in step after {synced_s:.1f} s ({FILLING} documents of 1 KB),"
            f" {refused} refusals until then; {world.driver.acknowledged} messages"
        )


async def copy_secondary(world: World, target: Path) -> float:
    """Copy the files of a secondary that is in step, while it is locked; return for how long it was."""
    primary = await world.primary()
    index = (primary + 1) % 3
    wanted = await applied(world.databases, primary)

    async def is_in_step() -> bool:
        return bool(await applied(world.databases, index) >= wanted)

    await until(is_in_step)
    server = world.servers[index]

    def copy() -> float:
        began_at = time.monotonic()
        with MongoClient[dict[str, Any]](server.uri) as client:
            client.admin.command({"fsync": 1, "lock": True})
            try:
                shutil.copytree(server.folder / "data", target, ignore=shutil.ignore_patterns("mongod.lock"))
            finally:
                client.admin.command("fsyncUnlock")
        return time.monotonic() - began_at

    return await asyncio.to_thread(copy)


async def applied(servers: Servers, index: int) -> Any:
    """Return how far a server has come."""
    status = await servers.command({"replSetGetStatus": 1}, index)
    assert status is not None
    return status["optimes"]["durableOpTime"]["ts"]


@asynccontextmanager
async def restored(copy: Path, folder: Path, world: World) -> AsyncIterator[Servers]:
    """Run a new set of three whose servers each begin with the copy."""
    program = world.servers[0].program
    servers = []
    for number in range(3):
        shutil.copytree(copy, folder / str(number) / "data")
        servers.append(DatabaseServer(program, folder / str(number), parameters=PARAMETERS))
    with ThreadPoolExecutor(1, "restored") as thread:
        loop = asyncio.get_running_loop()
        try:
            for server in servers:
                await loop.run_in_executor(thread, server.start)
            await asyncio.to_thread(reconfigure, servers)
            uri = f"mongodb://{','.join(server.address for server in servers)}/?replicaSet={SET_NAME}"
            running = Embedded(uri=uri, kind="mongod", version="", origin="restored", servers=tuple(servers))
            yield Servers(running, thread)
        finally:
            for server in servers:
                await loop.run_in_executor(thread, server.kill)


def reconfigure(servers: Sequence[DatabaseServer]) -> None:
    """Tell the copies that they are a set of their own; they still believe in the old addresses."""
    with servers[0].connect() as client:
        config = client.admin.command("replSetGetConfig")["config"]
        config["members"] = [{"_id": number, "host": server.address} for number, server in enumerate(servers)]
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


async def say_old(world: World, count: int) -> list[Message]:
    """Have customers write what Meta delivers late."""
    stamp = int(time.time()) - OLD_S
    return [await world.driver.say("102", f"4918{index:08d}", timestamp=stamp) for index in range(count)]


async def say_for(world: World, seconds: float, first_customer: int) -> list[Message]:
    said = len(world.driver.messages)
    await world.driver.converse(
        numbers=NUMBERS, customers=30, rate_per_s=30, for_s=seconds, first_customer=first_customer
    )
    return world.driver.messages[said:]


def answers(world: World) -> Counter[str]:
    """Return how often each label was said to a customer."""
    return Counter(word for send in world.graph.log.accepted for word in send.text.split() if "#" in word)


async def settled(database: Database) -> None:
    """Wait until the restored set has nothing left to do."""

    async def none_open() -> bool:
        return await database.inbox.count_documents({"owner": {"$exists": True}}) == 0

    await until(none_open, 60)


@pytest.mark.parametrize(("max_age_s", "copies"), [(SHORT_S, 1), (USUAL_S, 2)])
async def test_set_that_is_restored_from_a_copy_goes_on_from_there(tmp_path: Path, max_age_s: int, copies: int) -> None:
    async with open_world(servers=3) as world:
        answered = await say_for(world, 5, first_customer=0)
        await world.at_rest()
        world.graph.model.latency_s = (5.0, 5.0)
        waiting = await say_old(world, 10)
        locked_s = await copy_secondary(world, tmp_path / "copy")
        assert not {message.label for message in waiting} & answers(world).keys()
        world.graph.model.latency_s = (0.0, 0.0)
        later = await say_for(world, 3, first_customer=100)
        await world.at_rest()
        for index in range(3):
            await world.kill_server(index)
        meanwhile = [asyncio.create_task(world.driver.say("103", f"4919{index:08d}")) for index in range(10)]
        world.hubs[0].kill()
        began_at = time.monotonic()
        async with restored(tmp_path / "copy", tmp_path / "new", world) as databases:
            await databases.primary()
            has_primary_s = time.monotonic() - began_at
            hub = await world.start_hub({"MONGODB_URI": databases.uri, "REPLY_MAX_AGE_S": str(max_age_s)})
            ready_s = time.monotonic() - began_at
            world.driver.urls = [hub.url]
            world.graph.statuses.target = WebhookTarget(url=hub.url + PATH, secret=SECRET.encode())
            refused = await asyncio.gather(*meanwhile)
            async with connect(databases.uri, DATABASE, min_pool_size=0) as database:
                await check_restored(world, database, answered=answered, waiting=waiting, later=later, refused=refused)
                assert {answers(world)[message.label] for message in waiting} == {copies}
                rows = await database.inbox.find({"_id": {"$in": [message.key for message in waiting]}}).to_list(None)
                assert {row.get("reason", "")[:7] for row in rows} == {"too old" if copies == 1 else ""}
            hub.kill()
        click.echo(
            f"\nrestored: a secondary locked for {locked_s:.2f} s; a primary after {has_primary_s:.1f} s, the hub ready"
            f" after {ready_s:.1f} s; {len(answered)} answered before the copy, {len(waiting)} waiting, each answered"
            f" {copies}x in all, {len(later)} acknowledged after it, {len(refused)} refused meanwhile"
        )


async def check_restored(
    world: World,
    database: Database,
    *,
    answered: Sequence[Message],
    waiting: Sequence[Message],
    later: Sequence[Message],
    refused: Sequence[Message],
) -> None:
    """Compare what the restored set holds and what customers got."""
    await settled(database)
    for message in (*answered, *waiting):
        await world.driver.replay(message)  # Meta may deliver again whatever it likes
    await settled(database)
    rows = {row["_id"]: row async for row in database.inbox.find({})}
    assert all(message.key in rows for message in (*answered, *waiting, *refused))
    assert not any(message.key in rows for message in later)  # the copy knows nothing of them
    assert {answers(world)[message.label] for message in (*answered, *later, *refused)} == {1}
    assert answers(world).keys() == {m.label for m in (*answered, *waiting, *later, *refused)}
    await world.driver.replay(later[0])  # a redelivery of what was forgotten is a new message
    await settled(database)
    assert answers(world)[later[0].label] == 2
