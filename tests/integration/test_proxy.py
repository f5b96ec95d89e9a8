"""The proxy of the fault tests, between Motor and a real ``mongod``."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import bson
import pymongo
import pytest
from pymongo.uri_parser import parse_uri

from tests.faults.proxy import DROP, PASS, DatabaseProxy, Mode, Verdict, open_proxy
from tests.hub import until
from whatsapp_hub.database import Database, DatabaseError, connect

WAITS_S: Final = 0.5
OP_MSG: Final = 2013


@pytest.fixture
async def proxy(mongodb_uri: str) -> AsyncIterator[DatabaseProxy]:
    async with open_proxy(address_of(mongodb_uri)) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: DatabaseProxy, database: Database) -> AsyncIterator[Database]:
    """The same database as ``database``, seen through the proxy."""
    async with connect(proxy.uri, database.inbox.database.name, max_pool_size=20, min_pool_size=0) as through:
        await until(lambda: is_writable(through))
        yield through
        proxy.mode = Mode.PASS
        # It takes its leave of the server and waits for the answer; not on the loop that the proxy needs for that.
        await asyncio.to_thread(through.client.close)


async def is_writable(database: Database) -> bool:
    """A server is named as the set's primary a moment before it takes writes, and no driver waits for that here."""
    return bool((await database.hello())["isWritablePrimary"])


def address_of(uri: str) -> str:
    host, port = parse_uri(uri)["nodelist"][0]
    return f"{host}:{port}"


def op_msg(**command: object) -> bytes:
    body = bson.encode(command)
    return struct.pack("<iiiiiB", 21 + len(body), 1, 0, OP_MSG, 0, 0) + body


async def ids(database: Database) -> set[object]:
    return {row["_id"] async for row in database.inbox.find()}


def has_id(wanted: str) -> Any:
    def matches(command: Mapping[str, Any]) -> bool:
        return any(row["_id"] == wanted for row in command["documents"])

    return matches


async def insert_many(database: Database, rows: Sequence[Mapping[str, Any]]) -> None:
    await database.inbox.insert_many([dict(row) for row in rows])


async def insert_in_vain(database: Database, *ids: str) -> None:
    """Insert under a short deadline, until which the driver tries again and again."""
    with pytest.raises(DatabaseError), pymongo.timeout(WAITS_S):
        await database.inbox.insert_many([{"_id": id_} for id_ in ids])


async def test_ordinary_work_passes(through: Database, database: Database) -> None:
    rows = [{"_id": str(n), "text": "é" * 5000, "n": n} for n in range(500)]

    async with asyncio.TaskGroup() as work:
        for at in range(0, 500, 50):
            work.create_task(insert_many(through, rows[at : at + 50]))
    await through.inbox.update_many({"n": {"$lt": 100}}, {"$set": {"low": True}})
    found = [row["_id"] async for row in through.inbox.find({}, batch_size=40)]
    totals = await through.inbox.aggregate([{"$group": {"_id": "$low", "n": {"$sum": 1}}}]).to_list()

    assert sorted(found, key=int) == [row["_id"] for row in rows]
    assert {total["_id"]: total["n"] for total in totals} == {True: 100, None: 400}
    assert await database.inbox.count_documents({"text": "é" * 5000}) == 500


async def test_lost_request_is_never_carried_out(proxy: DatabaseProxy, through: Database, database: Database) -> None:
    trap = proxy.on("insert", "inbox", DROP, when="request", times=None)
    await insert_in_vain(through, "a")
    trap.remove()
    await through.inbox.insert_one({"_id": "b"})

    assert await ids(database) == {"b"}


async def test_lost_reply_leaves_what_was_carried_out(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    trap = proxy.on("insert", "inbox", DROP, when="reply", times=None)
    await insert_in_vain(through, "a")

    assert await ids(database) == {"a"}
    assert trap.hits >= 1


async def test_drivers_second_try_passes_a_trap_for_one(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    trap = proxy.on("insert", "inbox", DROP, when="reply")
    await through.inbox.insert_one({"_id": "a"})

    assert await ids(database) == {"a"}
    assert trap.hits == 1


async def test_callable_acts_while_the_write_is_there_and_its_client_waits(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    seen: list[set[object]] = []
    go_on = asyncio.Event()

    async def look() -> None:
        seen.append(await ids(database))
        await go_on.wait()

    async def has_looked() -> bool:
        return bool(seen)

    proxy.on("insert", "inbox", look, when="reply")
    async with asyncio.timeout(5), asyncio.TaskGroup() as work:
        insert = work.create_task(insert_many(through, [{"_id": "a"}]))
        await until(has_looked)
        await through.inbox.insert_one({"_id": "b"})  # others are not stopped
        assert not insert.done()
        go_on.set()

    assert seen == [{"a"}]


async def test_callable_may_lose_what_it_was_asked_about(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    verdicts = [DROP, None, PASS]

    async def decide() -> Verdict | None:
        return verdicts.pop(0)

    trap = proxy.on("insert", "inbox", decide, when="request", times=3)
    for id_ in ("a", "b"):
        await through.inbox.insert_one({"_id": id_})  # the first is lost once, and tried again by the driver

    assert trap.hits == 3
    assert await ids(database) == {"a", "b"}


async def test_request_of_a_client_that_died_meanwhile_still_arrives(proxy: DatabaseProxy, database: Database) -> None:
    _, writer = await asyncio.open_connection(*proxy.address.split(":"))

    async def die() -> None:
        writer.transport.abort()

    proxy.on("insert", "inbox", die, when="request")
    writer.write(op_msg(insert="inbox", documents=[{"_id": "a"}], **{"$db": database.inbox.database.name}))

    async def has_arrived() -> bool:
        return await ids(database) == {"a"}

    await until(has_arrived)


async def test_matching_picks_one_of_many_by_its_documents(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    trap = proxy.on("insert", "inbox", DROP, when="request", times=None, matching=has_id("c"))
    await through.inbox.insert_many([{"_id": "a"}, {"_id": "b"}])
    await insert_in_vain(through, "c", "d")
    await through.events.insert_one({"_id": "c"})

    assert await ids(database) == {"a", "b"}
    assert trap.hits >= 1


async def test_reply_is_picked_by_its_request(proxy: DatabaseProxy, through: Database) -> None:
    one = proxy.on("update", "inbox", PASS, when="reply", times=None, matching=has_filter("b"))
    all_ = proxy.on("update", "inbox", PASS, when="reply", times=None)
    other = proxy.on("update", "events", PASS, when="reply", times=None)
    any_ = proxy.on("update", None, PASS, when="reply", times=None)
    async with asyncio.TaskGroup() as work:
        for id_ in "abcde":
            work.create_task(touch(through, id_))

    assert (one.hits, all_.hits, other.hits, any_.hits) == (1, 5, 0, 5)


async def touch(database: Database, id_: str) -> None:
    await database.inbox.update_one({"_id": id_}, {"$set": {"touched": True}})


def has_filter(wanted: str) -> Any:
    def matches(command: Mapping[str, Any]) -> bool:
        return bool(command["updates"][0]["q"] == {"_id": wanted})

    return matches


async def test_trap_is_gone_after_its_times_or_when_removed(proxy: DatabaseProxy, through: Database) -> None:
    twice = proxy.on("find", "inbox", PASS, when="request", times=2)
    removed = proxy.on("find", "inbox", PASS, when="request", times=None)
    assert not twice.hit.is_set()
    for _ in range(3):
        await ids(through)
    removed.remove()
    removed.remove()
    await ids(through)

    assert (twice.hits, removed.hits) == (2, 3)
    assert twice.hit.is_set()


async def test_latency_adds_up_both_ways(proxy: DatabaseProxy, through: Database) -> None:
    proxy.latency_s = 0.05
    began = time.monotonic()
    for _ in range(3):
        await through.client.admin.command("ping")
    took_s = time.monotonic() - began
    proxy.latency_s = 0
    began = time.monotonic()
    await through.client.admin.command("ping")

    assert 3 * 2 * 0.05 <= took_s < 2
    assert time.monotonic() - began < 0.1


async def test_black_hole_swallows_and_heals(proxy: DatabaseProxy, through: Database, database: Database) -> None:
    proxy.mode = Mode.BLACKHOLE
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    began = time.monotonic()
    await insert_in_vain(through, "a")
    assert time.monotonic() - began >= WAITS_S  # an error would have come at once
    assert not reader.at_eof()

    proxy.mode = Mode.PASS
    with pymongo.timeout(5):
        await through.inbox.insert_one({"_id": "b"})
    writer.close()

    assert await ids(database) == {"b"}


async def test_connections_that_lost_something_end_with_the_black_hole(proxy: DatabaseProxy) -> None:
    ping = op_msg(ping=1, **{"$db": "admin"})
    lossy, lossy_writer = await asyncio.open_connection(*proxy.address.split(":"))
    quiet, quiet_writer = await asyncio.open_connection(*proxy.address.split(":"))
    for reader, writer in ((lossy, lossy_writer), (quiet, quiet_writer)):
        writer.write(ping)
        await reader.read(1000)
    proxy.mode = Mode.BLACKHOLE
    lossy_writer.write(ping)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await lossy.read()
    proxy.mode = Mode.PASS

    assert await read_end(lossy) == b""
    quiet_writer.write(ping)
    assert await quiet.read(1000) != b""
    lossy_writer.close()
    quiet_writer.close()


async def test_black_hole_hides_that_the_server_hung_up() -> None:
    hang_up = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang_up.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, open_proxy("127.0.0.1:{1}".format(*server.sockets[0].getsockname())) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
        proxy.mode = Mode.BLACKHOLE
        hang_up.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read()
        proxy.mode = Mode.PASS

        assert await read_end(reader) == b""
        writer.close()


async def test_black_hole_swallows_replies_that_are_on_their_way(
    proxy: DatabaseProxy, through: Database, database: Database
) -> None:
    async def close() -> None:
        proxy.mode = Mode.BLACKHOLE

    proxy.on("insert", "inbox", close, when="reply")
    await insert_in_vain(through, "a")

    assert await ids(database) == {"a"}


async def test_refusal_closes_what_is_there_and_what_comes(proxy: DatabaseProxy, through: Database) -> None:
    there, writer = await asyncio.open_connection(*proxy.address.split(":"))
    proxy.mode = Mode.REFUSE
    assert await read_end(there) == b""
    coming, second_writer = await asyncio.open_connection(*proxy.address.split(":"))
    assert await read_end(coming) == b""
    await insert_in_vain(through, "a")

    proxy.mode = Mode.PASS
    with pymongo.timeout(5):
        await through.inbox.insert_one({"_id": "b"})
    writer.close()
    second_writer.close()

    assert await ids(through) == {"b"}


async def read_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the connection is closed, one way or another."""
    async with asyncio.timeout(2):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_cut_closes_all_connections_once(proxy: DatabaseProxy, through: Database) -> None:
    connections = [await asyncio.open_connection(*proxy.address.split(":")) for _ in range(3)]
    await through.inbox.insert_one({"_id": "a"})
    await proxy.cut()

    assert [await read_end(reader) for reader, _ in connections] == [b""] * 3
    for _, writer in connections:
        writer.close()
    await through.inbox.insert_one({"_id": "b"})
    assert await ids(through) == {"a", "b"}


async def test_target_that_is_not_there_closes_the_connection() -> None:
    async with open_proxy("127.0.0.1:1") as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
        assert await read_end(reader) == b""
        writer.close()


async def test_what_a_trap_raises_is_raised_at_the_end(mongodb_uri: str) -> None:
    async def fail() -> None:
        raise LookupError("of the test")

    async def ping_through_it() -> None:
        async with open_proxy(address_of(mongodb_uri)) as proxy, connect(proxy.uri, "hub-test") as through:
            proxy.on("ping", None, fail, when="request")
            with pymongo.timeout(WAITS_S):
                await through.client.admin.command("ping")

    with pytest.raises(ExceptionGroup) as raised:
        await ping_through_it()
    assert raised.group_contains(LookupError)
