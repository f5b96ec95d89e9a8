"""The store against a real database: what one write says about each of its documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from whatsapp_hub.cloud_api.messages import ConversationId, StatusUpdate
from whatsapp_hub.cloud_api.outgoing import CallbackData
from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import InboxRow, Part, PartState, Stage, State
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes, inbox_indexes
from whatsapp_hub.inbox.store import FencedWrite, InboxStore, Inserted, StatusWrite, encode

NUMBER = "101"


def row(name: str, *, conversation: str = "c1", state: State = State.ACTIVE, place: int = 1, **values: Any) -> InboxRow:
    fields: dict[str, Any] = {
        "id": f"{NUMBER}:{name}",
        "conversation": ConversationId(f"{NUMBER}:{conversation}"),
        "owner": "node-a",
        "epoch": 1,
        "state": state,
        "stage": Stage.NEW,
        "attempts": 1,
        "place": place,
        "arrival": 1,
        "item": b"{}",
    }
    return InboxRow(**{**fields, **values})


async def insert(store: InboxStore, *rows: InboxRow) -> list[Inserted]:
    documents = [encode(one.to_document()) for one in rows]
    return (await store.insert([[document for document in documents if document is not None]]))[0]


@pytest.fixture
async def store(database: Database) -> InboxStore:
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    return InboxStore(database)


async def fail_next(database: Database, command: str, data: Mapping[str, Any], times: int = 1) -> None:
    """Have the server misbehave on its next commands of this name."""
    await database.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"times": times},
            "data": {"failCommands": [command], "appName": "whatsapp-hub", **data},
        }
    )


async def test_one_message_of_a_conversation_is_active(store: InboxStore) -> None:
    results = await insert(store, row("1"), row("2"), row("3", conversation="c2"))
    assert results == [Inserted.STORED, Inserted.BUSY, Inserted.STORED]


async def test_conflict_does_not_roll_back_batched_siblings(store: InboxStore) -> None:
    await insert(store, row("1"))
    results = await insert(store, row("2", conversation="c2"), row("1"), row("3"), row("4", conversation="c3"))
    assert results == [Inserted.STORED, Inserted.DUPLICATE, Inserted.BUSY, Inserted.STORED]


async def test_results_go_back_to_the_unit_they_came_from(store: InboxStore) -> None:
    units = [[encode(row(f"{u}{n}", conversation=f"c{u}").to_document()) for n in range(2)] for u in range(3)]
    assert await store.insert(units) == [[Inserted.STORED, Inserted.BUSY]] * 3  # type: ignore[arg-type]


async def test_document_that_cannot_be_encoded_is_found_before_its_batch(store: InboxStore) -> None:
    assert encode(row("1", profile_name="\ud800").to_document()) is None
    assert encode({**row("1").to_document(), "place": 2**64 - 1}) is None


async def test_delivery_is_counted_only_where_the_document_is(store: InboxStore, database: Database) -> None:
    await insert(store, row("1"))
    pairs = [(f"{NUMBER}:1", f"{NUMBER}:c1"), (f"{NUMBER}:gone", f"{NUMBER}:c1")]
    assert await store.count_deliveries(pairs) == [True, False]
    found = await database.inbox.find_one({"_id": f"{NUMBER}:1"})
    assert found is not None
    assert found["deliveries"] == 1


async def test_write_concern_error_is_unknown_and_never_stored(store: InboxStore, database: Database) -> None:
    error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    await fail_next(database, "insert", {"writeConcernError": error})
    with pytest.raises(StoreUnavailable):
        await insert(store, row("1"))


async def test_write_concern_error_beside_a_duplicate_is_unknown_for_both(
    store: InboxStore, database: Database
) -> None:
    await insert(store, row("1"))
    error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    await fail_next(database, "insert", {"writeConcernError": error})
    with pytest.raises(StoreUnavailable):
        await insert(store, row("1"), row("2", conversation="c2"))


async def test_reply_lost_after_the_insert_is_stored_once(store: InboxStore, database: Database) -> None:
    await fail_next(database, "insert", {"closeConnection": True})
    assert await insert(store, row("1")) == [Inserted.STORED]
    assert await database.inbox.count_documents({}) == 1


async def test_fenced_update_that_does_not_match_is_found_in_its_batch(store: InboxStore) -> None:
    mine, others, stale = row("1"), row("2", conversation="c2", owner="node-b"), row("3", conversation="c3")
    await insert(store, mine, others, stale)
    others.owner, stale.epoch = "node-a", 0
    writes = [
        FencedWrite(row=one, values={"stage": "replying"}, stamp=f"stamp-{n}")
        for n, one in enumerate((others, mine, stale))
    ]
    assert await store.write_fenced(writes) == [False, True, False]


async def test_promotion_is_refused_while_another_is_active(store: InboxStore) -> None:
    waiting, free = row("2", state=State.QUEUED), row("3", conversation="c2", state=State.QUEUED)
    await insert(store, row("1"), waiting, free)
    writes = [
        FencedWrite(row=one, values={"state": "active"}, leaves=State.QUEUED, stamp=f"stamp-{one.id}")
        for one in (waiting, free)
    ]
    assert await store.write_fenced(writes) == [False, True]


async def test_only_one_of_many_promotions_wins(store: InboxStore) -> None:
    await insert(store, row("1", state=State.QUEUED))

    async def promote(n: int) -> bool:
        values = {"state": "active", "owner": f"node-{n}"}
        write = FencedWrite(
            row=row("1"), values=values, leaves=State.QUEUED, stamp=str(n), increase={"epoch": 1, "attempts": 1}
        )
        return (await store.write_fenced([write]))[0]

    assert sum(await asyncio.gather(*map(promote, range(10)))) == 1


async def test_queued_are_found_in_order_of_metas_timestamp_then_arrival(store: InboxStore) -> None:
    await insert(
        store,
        row("late", state=State.QUEUED, place=9),
        row("second", state=State.QUEUED, place=5, arrival=2),
        row("first", state=State.QUEUED, place=5, arrival=1),
        row("other", conversation="c2", state=State.QUEUED),
    )
    found = await store.find_queued([f"{NUMBER}:c1", f"{NUMBER}:c2", f"{NUMBER}:c3"], 10)
    names = {conversation: [one.message_id for one in rows] for conversation, rows in found.items()}
    assert names == {f"{NUMBER}:c1": ["first", "second", "late"], f"{NUMBER}:c2": ["other"], f"{NUMBER}:c3": []}


async def test_long_queue_does_not_hide_the_ones_behind_it(store: InboxStore) -> None:
    long = [row(f"long{n}", conversation="a", state=State.QUEUED, place=n) for n in range(1100)]
    await insert(store, *long, row("b1", conversation="b", state=State.QUEUED))
    found = await store.find_queued([f"{NUMBER}:b", f"{NUMBER}:a"], 51)
    assert [one.message_id for one in found[f"{NUMBER}:a"]] == [f"long{n}" for n in range(51)]
    assert [one.message_id for one in found[f"{NUMBER}:b"]] == ["b1"]


def status(name: str, *, attempt: int = 1, part: int = 0, wamid: str = "w1", number: str = NUMBER) -> StatusWrite:
    update = StatusUpdate(
        phone_number_id=number, id=wamid, status=name, timestamp=7, callback_data="", error_code=131026, item=b"{}"
    )
    return StatusWrite(status=update, target=CallbackData(customer="c1", message_id="1", part=part, attempt=attempt))


async def replied(store: InboxStore, database: Database, *, attempt: int = 1, wamid: str = "w1") -> None:
    part = Part(body=b"{}", state=PartState.SENT, attempt=attempt, wamid=wamid)
    await insert(store, row("1"))
    values = {"state": "done", "outcome": "replied", "parts": [part.to_document()]}
    await database.inbox.update_one({"_id": f"{NUMBER}:1"}, {"$set": values})


async def test_status_never_regresses(store: InboxStore, database: Database) -> None:
    await replied(store, database)
    assert await store.apply_statuses([status("read")]) == [True]
    assert await store.apply_statuses([status("sent"), status("delivered")]) == [True, True]
    found = await database.inbox.find_one({"_id": f"{NUMBER}:1"})
    assert found is not None
    assert found["parts"][0]["rank"] == 3
    assert found["parts"][0]["times"] == {"read": 7, "sent": 7, "delivered": 7}


async def test_status_of_another_number_message_or_part_matches_nothing(store: InboxStore, database: Database) -> None:
    await replied(store, database)
    before = await database.inbox.find_one({"_id": f"{NUMBER}:1"})
    writes = [status("read", wamid="w2"), status("read", number="102"), status("read", part=1), status("read")]
    assert await store.apply_statuses(writes[:3]) == [False, False, False]
    assert await database.inbox.find_one({"_id": f"{NUMBER}:1"}) == before
    assert await store.apply_statuses(writes) == [False, False, False, True]


async def test_late_failed_kills_a_done(store: InboxStore, database: Database) -> None:
    await replied(store, database)
    assert await store.apply_statuses([status("failed")]) == [True]
    found = await database.inbox.find_one({"_id": f"{NUMBER}:1"})
    assert found is not None
    assert (found["state"], found["reason"]) == ("dead", "Meta could not deliver the reply (error 131026)")
    assert "done_at" not in found


async def test_failure_of_an_earlier_attempt_says_nothing_of_the_present_one(
    store: InboxStore, database: Database
) -> None:
    await replied(store, database, attempt=2, wamid="")
    assert await store.apply_statuses([status("failed", attempt=1)]) == [False]
    assert await store.apply_statuses([status("delivered", attempt=1)]) == [True]


async def test_frequent_queries_use_their_indexes(store: InboxStore, database: Database) -> None:
    await insert(store, *(row(str(n), conversation=f"c{n}", state=State.QUEUED) for n in range(50)))
    queries: list[tuple[dict[str, Any], str]] = [
        ({"conversation": {"$in": [f"{NUMBER}:c1"]}, "state": "queued"}, "queued_in_order"),
        ({"owner": {"$in": ["", "node-b"]}}, "owned"),
        ({"owner": {"$exists": True, "$nin": ["node-a"]}}, "owned"),
        ({"state": "dead", "dead_at": {"$exists": True}}, "dead"),
    ]
    for query, index in queries:
        plan = await database.inbox.find(query).explain()
        assert index in str(plan["queryPlanner"]["winningPlan"]), query
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])


async def test_changed_retention_changes_the_index(store: InboxStore, database: Database) -> None:
    await ensure_inbox_indexes(database, done_days=20, dead_days=30, conversation_days=40)
    indexes = await database.inbox.index_information()
    assert indexes["done_expires"]["expireAfterSeconds"] == 20 * 86_400
    assert len(inbox_indexes(done_days=20, dead_days=30)) + 1 == len(indexes)


async def test_only_what_is_done_expires(store: InboxStore, database: Database) -> None:
    """The server's TTL monitor runs every second here."""
    await database.inbox.database.command(
        {"collMod": "inbox", "index": {"name": "done_expires", "expireAfterSeconds": 0}}
    )
    await insert(store, row("1"), row("2", conversation="c2"))
    await database.inbox.update_many({}, {"$currentDate": {"done_at": True}})
    await database.inbox.update_one({"_id": f"{NUMBER}:2"}, {"$set": {"state": "done"}})
    async with asyncio.timeout(10):
        while await database.inbox.count_documents({}) > 1:
            await asyncio.sleep(0.05)
    assert await database.inbox.count_documents({"_id": f"{NUMBER}:1"}) == 1
