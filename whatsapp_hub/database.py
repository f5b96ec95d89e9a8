"""The MongoDB client: its pool, its timeouts, its collections. The one module that knows Motor.

Motor's end of life was in May 2026. Only calls that have the same shape in ``pymongo.AsyncMongoClient`` are used, and
what differs between the two (closing, watching) stays in here, so that the change is one of this module.
"""

from __future__ import annotations

import os

# Motor reads this when it is imported. With its default, five threads a core, a few slow queries block a ping.
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pymongo
from motor.core import AgnosticBaseCursor
from motor.motor_asyncio import (
    AsyncIOMotorChangeStream,
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import WriteConcern
from pymongo.errors import InvalidURI, PyMongoError

Collection = AsyncIOMotorCollection[dict[str, Any]]
Cursor = AgnosticBaseCursor[dict[str, Any]]
DatabaseError = PyMongoError

DURABLE: Final = WriteConcern(w="majority", j=True)
#: Counts only where no ``timeoutMS`` does: with one, the driver looks for a server for as long as that is not over. So
#: whoever is in a hurry says so with ``pymongo.timeout``, which Motor carries into its threads.
SERVER_SELECTION_TIMEOUT_MS: Final = 2_000
OPERATION_TIMEOUT_MS: Final = 10_000
#: After an error like "not primary" the driver uses a server again once its monitor has heard from it: by default that
#: takes up to 10 s, and a database that is back has to be used within 5.
HEARTBEAT_MS: Final = 1_000
CONNECT_TIMEOUT_MS: Final = 2_000
IDLE_TIMEOUT_MS: Final = 60_000  # the guide's
WAIT_QUEUE_TIMEOUT_MS: Final = 10_000  # the guide's
CLOSE_TIMEOUT_S: Final = 1.0
WATCH_EVERY_S: Final = 0.1  #: how old a change of a business may be when it is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The collections, each with majority and journalled writes."""

    client: AsyncIOMotorClient[dict[str, Any]]
    businesses: Collection  #: belongs to the dashboard; the server reads it, only the command line writes
    inbox: Collection
    conversations: Collection
    nodes: Collection
    events: Collection

    async def hello(self) -> Mapping[str, Any]:
        """Ask the server who it is (``setName`` is there for a replica set). Raises ``DatabaseError``."""
        answer: Mapping[str, Any] = await self.client.admin.command("hello")
        return answer

    @asynccontextmanager
    async def watch_businesses(self) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Follow changes of ``businesses``. Raises ``DatabaseError`` where change streams are not to be had.

        The stream is asked now and then. A server that is told to wait for changes wakes up for every write to any
        collection, to see whether it is one: a tenth of its CPU where messages are stored all the time.
        """
        stream = self.businesses.watch(full_document="updateLookup", max_await_time_ms=1)
        try:
            # Sends the command that opens it. Without that a server that has no streams would seem to have one.
            await stream.__aenter__()
            yield _changes_of(stream)
        finally:
            with pymongo.timeout(CLOSE_TIMEOUT_S):  # a stop must not wait for a database that is away
                await stream.close()


async def _changes_of(stream: AsyncIOMotorChangeStream[dict[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
    while stream.alive:  # type: ignore[truthy-function]  # a property, which Motor's stubs take for a method
        if (change := await stream.try_next()) is not None:
            yield change
        else:
            await asyncio.sleep(WATCH_EVERY_S)


@asynccontextmanager
async def connect(uri: str, name: str, *, max_pool_size: int = 100, min_pool_size: int = 10) -> AsyncIterator[Database]:
    """Open the pool and close it afterwards. Nothing is sent before the first operation: the database may be down.

    Raises:
        DatabaseError: the URI cannot be understood.

    """
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        uri,
        maxPoolSize=max_pool_size,
        minPoolSize=min_pool_size,
        maxIdleTimeMS=IDLE_TIMEOUT_MS,
        waitQueueTimeoutMS=WAIT_QUEUE_TIMEOUT_MS,
        serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
        connectTimeoutMS=CONNECT_TIMEOUT_MS,
        timeoutMS=OPERATION_TIMEOUT_MS,
        heartbeatFrequencyMS=HEARTBEAT_MS,
        retryWrites=True,
        tz_aware=True,
        appname="whatsapp-hub",
    )
    database: AsyncIOMotorDatabase[dict[str, Any]] = client.get_database(name, write_concern=DURABLE)
    try:
        yield Database(
            client=client,
            businesses=database["businesses"],
            inbox=database["inbox"],
            conversations=database["conversations"],
            nodes=database["nodes"],
            events=database["events"],
        )
    finally:
        client.close()


__all__ = ["DURABLE", "Collection", "Cursor", "Database", "DatabaseError", "InvalidURI", "connect"]
