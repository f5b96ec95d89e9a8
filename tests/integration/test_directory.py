"""Looking businesses up, on a real database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from whatsapp_hub.database import Database, DatabaseError
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business, Unserved
from whatsapp_hub.tenants.cache import Found
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.indexes import ensure_indexes
from whatsapp_hub.tenants.vault import Vault

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CountCommands = Callable[[], Awaitable[int]]

vault = Vault("secret")


def make(database: Database, **settings: object) -> Directory:
    return Directory(database, vault, Settings.isolated(**settings), Metrics())


def document(name: str, *numbers: str, **changes: object) -> dict[str, Any]:
    return {
        "name": name.title(),
        "subDomain": name,
        "wabaId": f"waba-{name}",
        "whatsappPhoneNumberIds": list(numbers),
        "whatsappAccessToken": vault.encrypt(f"token-{name}"),
        "whatsappEnabled": True,
        "isActive": True,
        "createdAt": NOW,
    } | changes


async def add(database: Database, *documents: dict[str, Any]) -> list[str]:
    result = await database.businesses.insert_many(documents)
    return [str(identity) for identity in result.inserted_ids]


async def add_conversation(database: Database, number: str, business_id: str, *, minutes: int) -> None:
    await database.conversations.insert_one(
        {"_id": f"{number}:{random.random()}", "business": business_id, "updated_at": NOW + timedelta(minutes=minutes)}
    )


def business(found: Found) -> Business:
    assert isinstance(found, Business)
    return found


def reason(found: Found) -> str:
    assert isinstance(found, Unserved)
    return found.reason


async def until_found(directory: Directory, number: str, condition: Callable[[Found], bool]) -> None:
    for _ in range(400):
        if condition(await directory.find(number)):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


@pytest.fixture
async def count_commands(database: Database) -> AsyncIterator[CountCommands]:
    """Count what the server was asked about businesses and conversations, with its own profiler."""
    mongo = database.businesses.database
    await mongo.command("profile", 2)

    async def count() -> int:
        names = [f"{mongo.name}.businesses", f"{mongo.name}.conversations"]
        return await mongo["system.profile"].count_documents({"ns": {"$in": names}})

    yield count
    await mongo.command("profile", 0)


async def test_document_of_the_dashboard_is_found_with_exactly_its_token(database: Database) -> None:
    (identity,) = await add(
        database,
        document("luigi", "111", "222"),
    )
    directory = make(database)

    for number in ("111", "222"):
        found = business(await directory.find(number))
        assert found.id == identity
        assert found.access_token == "token-luigi"
        assert found.sub_domain == "luigi"
        assert found.enabled
        assert found.fault is None


async def test_two_businesses_are_never_mixed(database: Database) -> None:
    await add(database, *(document(f"b{n}", f"{n}") for n in range(50)))
    directory = make(database, business_cache_size=7)

    async def ask(n: int) -> bool:
        found = business(await directory.find(f"{n}"))
        return found.access_token == f"token-b{n}" and found.phone_number_ids == (f"{n}",)

    rng = random.Random(1)
    assert all(await asyncio.gather(*(ask(rng.randrange(50)) for _ in range(2000))))


async def test_business_is_found_by_its_subdomain(database: Database) -> None:
    await add(database, document("luigi", "111"), document("twin", "1"), document("twin", "2"))
    directory = make(database)

    assert business(await directory.find_by_sub_domain("luigi")).access_token == "token-luigi"
    assert reason(await directory.find_by_sub_domain("nobody")) == "no business has this subdomain"
    assert reason(await directory.find_by_sub_domain("twin")) == "several businesses have this subdomain"


@pytest.mark.parametrize("switch", ["whatsappEnabled", "isActive"])
async def test_switched_off_business_is_found_as_such(database: Database, switch: str) -> None:
    await add(database, document("luigi", "111", **{switch: False}))

    assert not business(await make(database).find("111")).enabled


async def test_switched_on_business_wins_over_a_switched_off_one(database: Database) -> None:
    await add(database, document("off", "111", isActive=False), document("on", "111"))

    assert business(await make(database).find("111")).sub_domain == "on"


async def test_unknown_number_is_asked_for_once_in_a_while(database: Database, count_commands: CountCommands) -> None:
    directory = make(database)

    for _ in range(100):
        assert reason(await directory.find("404")) == "no business has this phone number"

    assert await count_commands() == 1


async def test_number_that_is_no_text_is_nobodys(database: Database) -> None:
    directory = make(database)

    for number in ("\ud800", "\0", ""):
        assert isinstance(await directory.find(number), Unserved)
        assert isinstance(await directory.find_by_sub_domain(number), Unserved)


async def test_number_that_appears_is_found_when_the_short_memory_of_it_has_gone(database: Database) -> None:
    directory = make(database, timing={"negative_cache_s": 0.02})
    await directory.find("111")
    await add(database, document("luigi", "111"))

    await until_found(directory, "111", lambda found: isinstance(found, Business))


async def test_fallback_business_serves_its_number_unless_a_document_has_it(database: Database) -> None:
    settings = {"whatsapp_phone_number_id": "999", "whatsapp_token": "from-the-environment"}

    found = business(await make(database, **settings).find("999"))
    assert (found.sub_domain, found.access_token, found.enabled) == ("fallback", "from-the-environment", True)
    assert isinstance(await make(database, **settings).find("998"), Unserved)

    await add(database, document("luigi", "999"))
    assert business(await make(database, **settings).find("999")).sub_domain == "luigi"


@pytest.mark.parametrize("stored", [None, "EAAG-plain", 5, Vault("another").encrypt("x")])
async def test_token_that_does_not_decrypt_is_never_handed_out(database: Database, stored: object) -> None:
    await add(database, document("luigi", "111", whatsappAccessToken=stored))
    found = business(await make(database).find("111"))

    assert found.access_token is None
    assert found.fault is not None


@pytest.mark.parametrize(
    "odd",
    [
        bson.encode(document("odd", "666", _id=ObjectId(), whatsappTokenExpiresAt=DatetimeMS(8_640_000_000_000_000))),
        bson.encode(document("odd", "666", _id=ObjectId(), wabaId="broken")).replace(b"broken", b"br\xff\xfeen"),
    ],
    ids=["the last date of JavaScript", "bytes that are no UTF-8"],
)
async def test_document_that_python_cannot_decode_harms_nobody(database: Database, odd: bytes) -> None:
    await add(database, document("luigi", "111"))
    try:
        await database.businesses.insert_one(RawBSONDocument(odd))
    except DatabaseError:
        pytest.skip("this server takes no such document")
    directory = make(database)
    await directory.refresh()

    assert business(await directory.find("666")).access_token == "token-odd"
    assert directory.webhook_keys("odd") is not None
    assert directory.webhook_keys("luigi") is not None
    assert len(await directory.find_all()) == 2


async def test_contested_number_stays_with_who_was_served_last(database: Database) -> None:
    first, second = await add(database, document("a", "1"), document("b", "1"))
    await add_conversation(database, "1", first, minutes=1)
    await add_conversation(database, "1", second, minutes=2)
    await add_conversation(database, "11", first, minutes=3)
    directory = make(database)
    await directory.refresh()

    assert business(await directory.find("1")).sub_domain == "b"
    (contest,) = directory.contests()
    assert (contest.phone_number_id, contest.sub_domains, contest.kept_by) == ("1", ("a", "b"), "b")


async def test_contested_number_that_nobody_was_served_with_is_held(database: Database) -> None:
    await add(database, document("b", "1"), document("a", "1"))
    await add_conversation(database, "1", str(ObjectId()), minutes=1)
    directory = make(database)
    await directory.refresh()

    assert reason(await directory.find("1")) == "claimed by several businesses: a, b"
    (contest,) = directory.contests()
    assert contest.kept_by is None
    assert "all are held" in directory.problems()[0].reason


async def test_contest_is_reported_once_and_again_when_it_ends(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await add(database, document("a", "1"), document("b", "1"))
    directory = make(database)

    with caplog.at_level("INFO", "business_service"):
        for _ in range(3):
            await directory.refresh()
            await directory.find_past_cache("1")
        await database.businesses.delete_one({"subDomain": "b"})
        await directory.refresh()

    assert [record.message for record in caplog.records] == [
        "business document is faulty",
        "business document is mended",
    ]


async def test_five_thousand_cold_look_ups_are_one_command(database: Database, count_commands: CountCommands) -> None:
    await add(database, document("luigi", "111"))
    before = await count_commands()
    directory = make(database)

    found = await asyncio.gather(*(directory.find("111") for _ in range(5000)))

    assert {business(each).access_token for each in found} == {"token-luigi"}
    assert await count_commands() - before == 1


async def test_look_up_past_the_cache_sees_a_change_and_keeps_it(database: Database) -> None:
    await add(database, document("luigi", "111", whatsappAccessToken="broken"))
    directory = make(database)
    assert business(await directory.find("111")).fault is not None

    await database.businesses.update_one({}, {"$set": {"whatsappAccessToken": vault.encrypt("new")}})

    assert business(await directory.find("111")).fault is not None
    assert business(await directory.find_past_cache("111")).access_token == "new"
    assert business(await directory.find("111")).access_token == "new"


async def test_change_is_seen_after_the_ttl_without_any_help(database: Database) -> None:
    await add(database, document("luigi", "111"))
    directory = make(database, business_cache_ttl=0.05)
    await directory.find("111")
    await database.businesses.update_one({}, {"$set": {"whatsappAccessToken": vault.encrypt("new")}})

    await until_found(directory, "111", lambda found: business(found).access_token == "new")


async def test_warm_up_takes_the_newest_messages_first_and_then_the_newest_businesses(database: Database) -> None:
    ids = await add(database, *(document(f"b{n}", f"{n}", createdAt=NOW + timedelta(days=n)) for n in range(300)))
    for n in range(60):
        await add_conversation(database, f"{n}", ids[n], minutes=n)
        await add_conversation(database, f"{n}", ids[n], minutes=n + 1)
    directory = make(database)

    assert await directory.warm_up() == 100
    info = directory.cache_info()
    assert (info.hits, info.misses, info.size) == (0, 0, 100)

    for n in (*range(60), *range(260, 300)):
        await directory.find(f"{n}")
    assert (directory.cache_info().hits, directory.cache_info().misses) == (100, 0)


async def test_warm_up_does_not_push_out_what_it_loaded(database: Database) -> None:
    await add(database, *(document(f"b{n}", f"{n}", f"{n}-2", createdAt=NOW + timedelta(days=n)) for n in range(30)))
    directory = make(database, business_cache_size=10)

    assert await directory.warm_up() == 5
    await directory.find("29")
    assert directory.cache_info().misses == 0


async def test_hit_rate_is_above_95_percent_at_500_businesses(database: Database) -> None:
    ids = await add(database, *(document(f"b{n}", f"{n}") for n in range(500)))
    for n in range(0, 500, 5):
        await add_conversation(database, f"{n}", ids[n], minutes=n)
    metrics = Metrics()
    directory = Directory(database, vault, Settings.isolated(), metrics)
    assert await directory.warm_up() == 100
    rng = random.Random(1)

    for _ in range(10_000):
        await directory.find(f"{rng.randrange(500)}")

    info = directory.cache_info()
    assert info.misses == 400
    assert info.hits / (info.hits + info.misses) >= 0.95
    assert metrics.registry.get_sample_value("whatsapp_hub_business_cache_hits_total") == info.hits
    assert metrics.registry.get_sample_value("whatsapp_hub_business_cache_misses_total") == info.misses
    assert metrics.registry.get_sample_value("whatsapp_hub_business_cache_size") == 500


async def test_clearing_says_how_much_it_was_and_everything_is_read_anew(database: Database) -> None:
    await add(database, document("a", "1"), document("b", "2"))
    directory = make(database)
    await directory.find("1")
    await directory.find("2")
    await database.businesses.update_many({}, {"$set": {"name": "Renamed"}})

    assert directory.clear() == 2
    assert directory.cache_info().size == 0
    assert business(await directory.find("1")).name == "Renamed"


async def test_webhook_keys_of_two_businesses_are_apart(database: Database) -> None:
    await add(
        database,
        document("a", "1", whatsappAppSecret=vault.encrypt("secret-a"), whatsappVerifyToken=vault.encrypt("hello-a")),
        document("b", "2", whatsappAppSecret=vault.encrypt("secret-b")),
        document("c", "3"),
        document("d", "4", whatsappAppSecret="does not decrypt"),
    )
    directory = make(database, whatsapp_app_secret="shared,old", whatsapp_verify_token="hello")
    loaded_before = directory.loaded
    await directory.refresh()
    assert (loaded_before, directory.loaded) == (False, True)
    a, b, c, d = (keys for keys in map(directory.webhook_keys, "abcd") if keys)

    assert (a.app_secrets, a.verify_token, a.only_phone_number_ids) == ((b"secret-a",), "hello-a", frozenset({"1"}))
    assert (b.app_secrets, b.verify_token, b.only_phone_number_ids) == ((b"secret-b",), "hello", frozenset({"2"}))
    assert (a.only_account_id, b.only_account_id) == ("waba-a", "waba-b")
    assert (c.app_secrets, c.verify_token, c.only_phone_number_ids) == ((b"shared", b"old"), "hello", None)
    assert len(d.app_secrets) == 1
    assert d.app_secrets[0] not in {b"shared", b"old", b"", b"does not decrypt"}
    assert [(problem.business, problem.reason.split()[0]) for problem in directory.problems()] == [
        ("d", "whatsappAppSecret")
    ]


async def test_webhook_keys_cost_no_command(database: Database, count_commands: CountCommands) -> None:
    await add(database, document("a", "1", whatsappAppSecret=vault.encrypt("secret-a")))
    directory = make(database)
    await directory.refresh()
    before = await count_commands()

    for _ in range(100):
        assert directory.webhook_keys("a") is not None
        assert directory.webhook_keys("nobody") is None
        assert directory.webhook_keys(None) is not None

    assert await count_commands() == before


async def test_unset_verify_token_is_none(database: Database) -> None:
    for settings in ({}, {"whatsapp_verify_token": ""}):
        keys = make(database, **settings).webhook_keys(None)
        assert keys is not None
        assert keys.verify_token is None
        assert keys.app_secrets == ()


async def test_expiry_of_tokens_is_known_without_a_command(database: Database, count_commands: CountCommands) -> None:
    await add(database, document("a", "1", whatsappTokenExpiresAt=NOW), document("b", "2"))
    directory = make(database)
    await directory.refresh()
    before = await count_commands()

    assert directory.token_expiries() == {"a": NOW}
    assert await count_commands() == before


async def test_look_ups_use_the_indexes_of_the_guide(database: Database) -> None:
    await add(database, *(document(f"b{n}", f"{n}") for n in range(200)))
    await ensure_indexes(database)

    async def examined(query: dict[str, object]) -> int:
        plan = await database.businesses.find(query).explain()
        return int(plan["executionStats"]["totalDocsExamined"])

    assert await examined({"whatsappPhoneNumberIds": "17"}) == 1
    assert await examined({"subDomain": "b17"}) == 1
