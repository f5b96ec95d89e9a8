"""What the environment says about the database: where it is, how many connections, how long things are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.hub import Hub, StartHub, business, own_database, text_message, until, webhook_of
from whatsapp_hub.database import Database
from whatsapp_hub.inbox import takeover
from whatsapp_hub.inbox.document import Stage

MONITORS = 2  #: connections of a client beside its pool: one that hears of changes, one that measures


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    """A database without anything, not even indexes."""
    async with own_database(mongodb_uri) as database:
        yield database


async def test_everything_is_kept_in_the_database_of_mongodb_uri_and_mongodb_db_name(
    database: Database, mongodb_uri: str, start_hub: StartHub
) -> None:
    await database.businesses.insert_one(business("101"))
    name = database.inbox.database.name
    hub = await start_hub(MONGODB_URI=mongodb_uri, MONGODB_DB_NAME=name)
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    await hub.say("101", "goodbye", "wamid.2")  # the first is remembered by now
    await hub.at_rest()
    names = await database.inbox.database.list_collection_names()
    assert (
        {"businesses", "inbox", "conversations", "nodes", "events"} >= {*names} >= {"inbox", "conversations", "nodes"}
    )


# The pool

CountConnections = Callable[[], Awaitable[int]]


@pytest.fixture
async def count_connections(database: Database, mongodb_uri: str) -> AsyncIterator[CountConnections]:
    """Count the connections of hubs at the server, without those of the test itself."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, appname="contract") as client:

        async def count() -> int:
            return len(await connections() - others)

        async def connections() -> set[str]:
            everything: dict[str, Any] = {"$currentOp": {"allUsers": True, "idleConnections": True}}
            found = await client.admin.aggregate([everything, {"$match": {"appName": "whatsapp-hub"}}])
            return {operation["client"] async for operation in found if "client" in operation}

        await database.hello()
        others = await connections()
        yield count


@pytest.mark.parametrize("least", [0, 12])
async def test_mongodb_min_pool_size_is_kept_open(
    start_hub: StartHub, count_connections: CountConnections, least: int
) -> None:
    await start_hub(MONGODB_MIN_POOL_SIZE=str(least))
    if least:

        async def is_there() -> bool:
            return await count_connections() >= least

        await until(is_there)
    else:
        assert await count_connections() < 12


@pytest.mark.parametrize("most", [3, 100])
async def test_mongodb_max_pool_size_is_never_exceeded(
    database: Database, start_hub: StartHub, count_connections: CountConnections, most: int
) -> None:
    await database.businesses.insert_many([business(str(number)) for number in range(200, 260)])
    hub = await start_hub(MONGODB_MAX_POOL_SIZE=str(most), MONGODB_MIN_POOL_SIZE="0", WARMUP_CACHE="false")

    async def burst(number: int) -> None:
        messages = [text_message("hello", wamid=f"wamid.{n}", sender=f"49{n}") for n in range(2)]
        assert await hub.post(webhook_of(*messages, number=str(number))) == 200

    counts: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for number in range(200, 260):
            tasks.create_task(burst(number))
        while len(hub.texts) < 120:
            counts.append(await count_connections())
    assert (max(counts) <= 3 + MONITORS) == (most == 3)


def test_pool_has_the_timeouts_of_the_guide(database: Database) -> None:
    pool: Any = database.client.delegate.options.pool_options
    assert (pool.max_idle_time_seconds, pool.wait_queue_timeout) == (60, 10)


# Retention


async def test_retention_days_are_how_long_things_are_kept(database: Database, start_hub: StartHub) -> None:
    await start_hub(INBOX_RETENTION_DAYS="9", CONVERSATION_RETENTION_DAYS="20", DEAD_RETENTION_DAYS="30")

    def days_ago(days: int) -> datetime:
        return datetime.now(UTC) - timedelta(days=days)

    for age in (8, 10, 19, 21, 29, 31):
        await database.inbox.insert_one({"_id": f"done {age}", "state": "done", "done_at": days_ago(age)})
        await database.inbox.insert_one({"_id": f"dead {age}", "state": "dead", "dead_at": days_ago(age)})
        await database.events.insert_one({"_id": f"event {age}", "at": days_ago(age)})
        await database.conversations.insert_one({"_id": f"conversation {age}", "updated_at": days_ago(age)})

    async def kept() -> set[str]:
        collections = (database.inbox, database.events, database.conversations)
        return {
            str(document["_id"]) for collection in collections async for document in collection.find({}, {"_id": 1})
        }

    expected = {"done 8", "event 8"}
    expected |= {f"conversation {age}" for age in (8, 10, 19)} | {f"dead {age}" for age in (8, 10, 19, 21, 29)}

    async def is_tidy() -> bool:
        return await kept() == expected

    await until(is_tidy)


async def test_what_is_not_ended_is_kept_for_ever(database: Database, start_hub: StartHub) -> None:
    """Retention counts from the end of a message, and looks at no other field."""
    await start_hub()
    indexes = await database.inbox.index_information()
    expiring = {name: index["expireAfterSeconds"] for name, index in indexes.items() if "expireAfterSeconds" in index}
    keys = {indexes[name]["key"][0][0] for name in expiring}
    assert keys == {"done_at", "dead_at"}
    assert sorted(expiring.values()) == [14 * 86_400, 90 * 86_400]
    (conversations,) = [
        i for i in (await database.conversations.index_information()).values() if "expireAfterSeconds" in i
    ]
    assert conversations["expireAfterSeconds"] == 90 * 86_400


async def test_nothing_that_is_not_ended_ever_expires(database: Database, start_hub: StartHub) -> None:
    """Whatever its dates say: even with those of an earlier end still in it."""
    await database.businesses.insert_one(business("101", whatsappAccessToken=None))
    await start_hub(
        assistant="none", INBOX_RETENTION_DAYS="8", CONVERSATION_RETENTION_DAYS="1", DEAD_RETENTION_DAYS="1"
    )
    long_ago = datetime.now(UTC) - timedelta(days=1000)
    open_states = [("active", stage) for stage in Stage] + [("queued", "new"), ("queued", "replying")]
    dates = {"done_at": long_ago, "dead_at": long_ago, "place": 1, "arrival": 1}
    rows = [
        {"_id": f"{number}", "conversation": f"{number}", "state": state, "stage": stage, **dates}
        for number, (state, stage) in enumerate(open_states)
    ]
    await database.inbox.insert_many(rows)
    ended = [{"_id": state, "conversation": state, "state": state, **dates} for state in ("done", "dead")]
    await database.inbox.insert_many(ended)

    async def the_ended_are_gone() -> bool:
        return await database.inbox.count_documents({"_id": {"$in": ["done", "dead"]}}) == 0

    await until(the_ended_are_gone)
    assert await database.inbox.count_documents({}) == len(rows)


async def test_nodes_that_are_gone_are_forgotten(
    database: Database, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one collection without an index that expires: a process is remembered until nothing is left of it."""
    monkeypatch.setattr(takeover, "FORGET_AFTER_S", 0.1)
    await database.nodes.insert_many([{"_id": f"{state}", "state": state} for state in ("dead", "stopped")])
    await start_hub()

    async def are_forgotten() -> bool:
        return await database.nodes.count_documents({"_id": {"$in": ["dead", "stopped"]}}) == 0

    await until(are_forgotten)
    assert await database.nodes.count_documents({"state": "living"}) == 1


async def test_indexes_of_the_guide_are_made(database: Database, hub: Hub) -> None:
    indexes = await database.businesses.index_information()
    assert {name: index["key"] for name, index in indexes.items() if name != "_id_"} == {
        "webhook_lookup_idx": [("whatsappPhoneNumberIds", 1), ("whatsappEnabled", 1), ("isActive", 1)],
        "subdomain_lookup_idx": [("subDomain", 1), ("isActive", 1)],
        "active_businesses_idx": [("whatsappEnabled", 1), ("isActive", 1), ("createdAt", -1)],
    }
