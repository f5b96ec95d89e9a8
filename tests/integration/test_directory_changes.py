"""What the directory makes of changes and outages, on a real database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from whatsapp_hub.database import Database, DatabaseError, connect
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business, Unserved
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.store import MAX_READS, READ_TIMEOUT_S
from whatsapp_hub.tenants.vault import Vault

vault = Vault("secret")


def make(database: Database, **settings: object) -> Directory:
    return Directory(database, vault, Settings.isolated(**settings), Metrics())


def document(name: str, *numbers: str, **changes: object) -> dict[str, Any]:
    return {
        "subDomain": name,
        "whatsappPhoneNumberIds": list(numbers),
        "whatsappAccessToken": vault.encrypt(f"token-{name}"),
        "whatsappEnabled": True,
        "isActive": True,
    } | changes


@asynccontextmanager
async def running(directory: Directory, *, streaming: bool = True) -> AsyncIterator[None]:
    task = asyncio.create_task(directory.run())
    try:
        await until(lambda: directory.streaming if streaming else directory.loaded)
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


async def until_found(directory: Directory, number: str, condition: Callable[[Business | Unserved], bool]) -> None:
    for _ in range(1000):
        if condition(await directory.find(number)):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


async def token_of(directory: Directory, number: str) -> str | None:
    found = await directory.find(number)
    return found.access_token if isinstance(found, Business) else None


class Listener:
    """Hears what changed and can be waited for."""

    def __init__(self, directory: Directory) -> None:
        self.heard: list[str] = []
        directory.on_change.append(self.heard.append)

    async def hears(self, *numbers: str) -> None:
        await until(lambda: set(numbers) <= set(self.heard))


class Wire:
    """A TCP proxy in front of the database that can be cut and mended.

    It has a thread of its own, because closing a Motor client blocks the loop and talks to the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        await self._there(self._mend())

    async def cut(self) -> None:
        await self._there(self._cut())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)
        self._loop.close()

    async def _there(self, doing: Coroutine[None, None, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(doing, self._loop))

    async def _mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await until(lambda: not self._writers)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        both = {writer, there_writer}
        self._writers |= both
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@pytest.fixture
async def wire(mongodb_uri: str) -> AsyncIterator[Wire]:
    parts = urlsplit(mongodb_uri)
    assert parts.hostname
    assert parts.port
    wire = Wire(parts.hostname, parts.port)
    await wire.mend()
    yield wire
    await wire.cut()
    wire.close()


@pytest.fixture
async def through_wire(database: Database, wire: Wire) -> AsyncIterator[Database]:
    """The same database, reached through the wire."""
    uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
    async with connect(uri, database.businesses.database.name, min_pool_size=0) as through:
        yield through


async def test_changed_token_is_seen_at_once(database: Database) -> None:
    await database.businesses.insert_one(document("luigi", "111"))
    directory = make(database)
    listener = Listener(directory)
    async with running(directory):
        assert await token_of(directory, "111") == "token-luigi"

        started = time.monotonic()
        await database.businesses.update_one({}, {"$set": {"whatsappAccessToken": vault.encrypt("new")}})
        await listener.hears("111")

        assert await token_of(directory, "111") == "new"
        assert time.monotonic() - started < 1


async def test_number_that_moves_is_let_go_by_the_old_business_and_found_at_the_new_one(database: Database) -> None:
    await database.businesses.insert_many([document("a", "1"), document("b", "2")])
    directory = make(database)
    async with running(directory):
        assert await token_of(directory, "1") == "token-a"
        assert isinstance(await directory.find("3"), Unserved)

        await database.businesses.update_one({"subDomain": "a"}, {"$set": {"whatsappPhoneNumberIds": ["3"]}})
        await until_found(directory, "1", lambda found: isinstance(found, Unserved))
        await until_found(directory, "3", lambda found: isinstance(found, Business))
        await database.businesses.update_one({"subDomain": "b"}, {"$push": {"whatsappPhoneNumberIds": "1"}})
        await until_found(directory, "1", lambda found: isinstance(found, Business) and found.sub_domain == "b")


async def test_removed_business_is_gone_at_once(database: Database) -> None:
    await database.businesses.insert_one(document("luigi", "111"))
    directory = make(database)
    listener = Listener(directory)
    async with running(directory):
        assert await token_of(directory, "111") == "token-luigi"
        assert isinstance(await directory.find_by_sub_domain("luigi"), Business)

        await database.businesses.delete_one({})
        await listener.hears("111")

        assert isinstance(await directory.find("111"), Unserved)
        assert isinstance(await directory.find_by_sub_domain("luigi"), Unserved)
        assert directory.webhook_keys("luigi") is None


async def test_new_business_and_new_secret_reach_the_webhook_keys(database: Database) -> None:
    directory = make(database)
    async with running(directory):
        assert directory.webhook_keys("luigi") is None
        await database.businesses.insert_one(document("luigi", "111"))
        await until(lambda: directory.webhook_keys("luigi") is not None)

        await database.businesses.update_one({}, {"$set": {"whatsappAppSecret": vault.encrypt("own")}})

        await until(lambda: (keys := directory.webhook_keys("luigi")) is not None and keys.app_secrets == (b"own",))


async def test_change_of_a_field_that_is_not_ours_leaves_the_cache_alone(database: Database) -> None:
    await database.businesses.insert_many([document("a", "1"), document("b", "2")])
    directory = make(database)
    listener = Listener(directory)
    async with running(directory):
        await directory.find("1")
        await database.businesses.update_one({"subDomain": "a"}, {"$set": {"lastLogin": 1, "stats.visits": 2}})
        await database.businesses.update_one({"subDomain": "b"}, {"$set": {"assistant.kind": "echo"}})
        await listener.hears("2")

    assert listener.heard == ["2"]
    assert directory.cache_info().size == 1


async def test_second_claimant_does_not_get_the_numbers_keys(database: Database) -> None:
    own = vault.encrypt("own")
    result = await database.businesses.insert_one(document("a", "1", whatsappAppSecret=own))
    await database.conversations.insert_one({"_id": "1:x", "business": str(result.inserted_id), "updated_at": 1})
    directory = make(database)
    async with running(directory):
        await database.businesses.insert_one(document("b", "1", "2", whatsappAppSecret=own))
        await until(lambda: directory.webhook_keys("b") is not None)

        keys = [directory.webhook_keys(name) for name in "ab"]
        assert [set(each.only_phone_number_ids or ()) for each in keys if each] == [{"1"}, {"2"}]
        assert await token_of(directory, "1") == "token-a"
        await until(lambda: [contest.kept_by for contest in directory.contests()] == ["a"])


async def test_stream_that_ended_is_opened_again_and_nothing_cached_before_is_relied_on(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that the table holds differs after the gap, only a token."""
    whole = document("luigi", "111", _id="luigi")
    await database.businesses.insert_one(whole)
    directory = make(database, timing={"round_s": 0.3})
    with caplog.at_level("INFO", "business_service"):
        async with running(directory):
            assert await token_of(directory, "111") == "token-luigi"
            await database.businesses.drop()
            await until(lambda: not directory.streaming)
            await database.businesses.insert_one(whole | {"whatsappAccessToken": vault.encrypt("new")})
            await until(lambda: directory.streaming)

            assert await token_of(directory, "111") == "new"
            await database.businesses.insert_one(document("mario", "222"))
            await until(lambda: directory.webhook_keys("mario") is not None)

    messages = [record.message for record in caplog.records]
    assert messages.count("business changes are polled") == 1
    assert messages.count("business changes are seen at once") == 2


async def test_without_change_streams_the_table_is_polled(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A view has no change stream, which is as good as a server without them."""
    mongo = database.businesses.database
    await mongo["originals"].insert_one(document("luigi", "111"))
    await mongo.create_collection("businesses", viewOn="originals", pipeline=[])
    with pytest.raises(DatabaseError):
        async with database.watch_businesses():
            pass
    directory = make(database, business_cache_ttl=0.1, timing={"round_s": 0.02})
    listener = Listener(directory)
    async with running(directory, streaming=False):
        assert await token_of(directory, "111") == "token-luigi"
        await mongo["originals"].update_one(
            {}, {"$set": {"whatsappPhoneNumberIds": ["222"], "whatsappAppSecret": vault.encrypt("own")}}
        )
        await listener.hears("111", "222")

        keys = directory.webhook_keys("luigi")
        assert keys is not None
        assert keys.app_secrets == (b"own",)
        assert isinstance(await directory.find("111"), Unserved)
        assert await token_of(directory, "222") == "token-luigi"
        assert not directory.streaming
        await asyncio.sleep(0.05)

    assert [record.message for record in caplog.records if "polled" in record.message] == [
        "business changes are polled"
    ]


async def test_outage_serves_what_was_known_and_refuses_what_was_not(
    database: Database, through_wire: Database, wire: Wire
) -> None:
    await database.businesses.insert_one(document("luigi", "111"))
    directory = make(through_wire, business_cache_ttl=0.05, timing={"negative_cache_s": 0.05})
    assert await token_of(directory, "111") == "token-luigi"
    await directory.refresh()

    await wire.cut()
    await asyncio.sleep(0.05)
    started = time.monotonic()
    known = asyncio.create_task(directory.find("111"))
    unknown = await asyncio.gather(*(directory.find(f"unknown-{n}") for n in range(200)), return_exceptions=True)
    took_s = time.monotonic() - started
    past_cache = await directory.find_past_cache("111")

    assert isinstance(await known, Business)
    assert isinstance(past_cache, Business)
    assert {type(each) for each in unknown} == {StoreUnavailable}
    assert took_s < READ_TIMEOUT_S + 1, f"{MAX_READS} readers ask, the others are told"
    assert directory.webhook_keys("luigi") is not None
    assert await directory.warm_up() == 0

    await wire.mend()
    await database.businesses.update_one({}, {"$set": {"whatsappAccessToken": vault.encrypt("new")}})
    await until_found(directory, "111", lambda found: isinstance(found, Business) and found.access_token == "new")


async def test_what_changed_while_the_connection_was_cut_is_seen_afterwards(
    database: Database, through_wire: Database, wire: Wire
) -> None:
    await database.businesses.insert_one(document("luigi", "111"))
    directory = make(through_wire)
    listener = Listener(directory)
    async with running(directory):
        assert await token_of(directory, "111") == "token-luigi"
        await wire.cut()
        await database.businesses.update_one({}, {"$set": {"whatsappAccessToken": vault.encrypt("new")}})
        await wire.mend()
        await listener.hears("111")

        assert await token_of(directory, "111") == "new"


async def test_table_is_read_as_soon_as_a_database_that_was_down_at_the_start_is_there(
    database: Database, through_wire: Database, wire: Wire
) -> None:
    await database.businesses.insert_one(document("luigi", "111"))
    await wire.cut()
    directory = make(through_wire, timing={"round_s": 0.02})
    task = asyncio.create_task(directory.run())
    with pytest.raises(StoreUnavailable):
        await directory.find("111")
    assert not directory.loaded
    await wire.mend()

    await until(lambda: directory.loaded)

    assert directory.webhook_keys("luigi") is not None
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
