from __future__ import annotations

from whatsapp_hub.database import Database, connect
from whatsapp_hub.tenants.indexes import INDEXES, ensure_indexes


async def test_the_three_indexes_of_the_guide_are_made_once(database: Database) -> None:
    assert await ensure_indexes(database) == []
    assert await ensure_indexes(database) == []

    existing = await database.businesses.index_information()
    assert {name: existing[name]["key"] for name in INDEXES} == INDEXES
    assert len(existing) == 4


async def test_index_under_another_name_counts_and_is_reported(database: Database) -> None:
    await database.businesses.create_index(INDEXES["active_businesses_idx"], name="active_whatsapp_businesses_idx")

    reports = await ensure_indexes(database)

    assert len(reports) == 1
    assert "active_businesses_idx" in reports[0]
    assert "active_whatsapp_businesses_idx" in reports[0]
    assert "active_businesses_idx" not in await database.businesses.index_information()


async def test_index_with_more_keys_is_another_index(database: Database) -> None:
    await database.businesses.create_index([("subDomain", 1)], name="subDomain_1", unique=True)

    assert await ensure_indexes(database) == []
    assert len(await database.businesses.index_information()) == 5


async def test_index_that_cannot_be_made_is_reported_with_the_command(database: Database) -> None:
    await database.businesses.create_index([("other", 1)], name="webhook_lookup_idx")

    reports = await ensure_indexes(database)

    assert len(reports) == 1
    assert "db.businesses.createIndex({whatsappPhoneNumberIds: 1, whatsappEnabled: 1, isActive: 1}" in reports[0]


async def test_database_that_is_down_is_reported_and_raises_nothing() -> None:
    async with connect("mongodb://127.0.0.1:1/", "unreachable") as database:
        (report,) = await ensure_indexes(database)

    assert "cannot be listed" in report
