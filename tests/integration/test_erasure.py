"""What is erased of a business or of a customer, while hubs work and whenever the eraser is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.api import Caller, api_key, stored_key
from tests.hub import Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.cloud_api.payload import read_webhook
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.inbox import erasure
from whatsapp_hub.inbox.document import State, row_of
from whatsapp_hub.inbox.erasable import Whose
from whatsapp_hub.inbox.erasure import Erased, Eraser

CUSTOMER, OTHER = "491700000001", "491700000002"
BSUID = "DE.13491208655302741918"
STRAGGLERS_S = 0.2

Erase = Callable[..., Awaitable[Erased]]


def whose(number: str, customer: str | None = None) -> Whose:
    return Whose(business_id=number, numbers=(number,), account_id=f"waba-{number}", customer=customer)


@pytest.fixture
def erase(database: Database) -> Erase:
    async def erase(
        number: str, customer: str | None = None, *, lease_s: float = 1.6, most_waiting_s: float = 10
    ) -> Erased:
        eraser = Eraser(
            database,
            whose(number, customer),
            lease_s=lease_s,
            stragglers_s=STRAGGLERS_S,
            most_waiting_s=most_waiting_s,
        )
        return await eraser.erase()

    return erase


def stored(message: dict[str, Any], *, number: str = "101", **changes: Any) -> dict[str, Any]:
    """Return the document of a message that was answered long ago."""
    webhook = read_webhook(orjson.dumps(webhook_of(message, number=number)), now=1, new_id=None)
    document = row_of(webhook.messages[0], owner="", state=State.ACTIVE, arrival_ns=1).to_document()
    del document["owner"]
    return {**document, "state": "done", "done_at": datetime.now(UTC) - timedelta(days=1), **changes}


def event(key: str, item: Any, *, number: str | None, account: str | None = None) -> dict[str, Any]:
    return {
        "_id": key,
        "field": "",
        "phone_number_id": number,
        "account_id": account,
        "item": orjson.dumps(item),
        "at": datetime.now(UTC),
    }


async def ids(database: Database) -> dict[str, set[str]]:
    """Return what is left in the collections that hold anything of anybody."""
    collections = {"inbox": database.inbox, "histories": database.conversations, "events": database.events}
    return {name: {d["_id"] async for d in collection.find({}, {"_id": 1})} for name, collection in collections.items()}


async def texts_of(database: Database) -> str:
    """Return everything that is stored, as one text."""
    collections = (database.inbox, database.conversations, database.events, database.nodes)
    return str([await collection.find({}).to_list(None) for collection in collections])


# What belongs to whom


async def test_customer_is_erased_everywhere_and_nobody_else(hub: Hub, erase: Erase) -> None:
    await hub.say("101", "mine", "wamid.1", CUSTOMER)
    await hub.say("101", "not mine", "wamid.2", OTHER)
    await hub.say("102", "elsewhere", "wamid.3", CUSTOMER)
    stray = {"id": "wamid.x", "status": "read", "timestamp": "1", "recipient_id": CUSTOMER}
    assert await hub.post(webhook_of(number="101", statuses=[stray])) == 200
    assert await hub.post(webhook_of(number="102", statuses=[stray])) == 200
    await hub.at_rest()
    await until(lambda: _has_histories(hub.database, 3))

    erased = await erase("101", CUSTOMER)
    assert (erased.messages, erased.histories, erased.left) == (1, 1, 0)
    left = await ids(hub.database)
    assert left["inbox"] == {"101:wamid.2", "102:wamid.3"}
    assert left["histories"] == {f"101:{OTHER}", f"102:{CUSTOMER}"}
    assert "102:wamid.x:read" in left["events"]
    assert "101:wamid.x:read" not in left["events"]


async def _has_histories(database: Database, count: int) -> bool:
    return await database.conversations.count_documents({}) == count


class Killed(BaseException):
    """Stands for the end of the process right after a write."""


async def test_killed_after_any_write_the_next_call_still_knows_every_name(
    database: Database, erase: Erase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells that two names are one person goes last."""
    monkeypatch.setattr(erasure, "SLICE", 1)
    for writes in range(1, 7):
        await database.inbox.insert_many(
            [
                stored(text_message("by number", wamid="a")),
                stored(text_message("by both", wamid="b", from_user_id=BSUID)),
                stored(text_message("by user id", wamid="c", sender="", from_user_id=BSUID)),
            ]
        )
        await database.conversations.insert_many([{"_id": f"101:{name}"} for name in (CUSTOMER, BSUID)])
        await database.events.insert_one(event("e", {"recipient_user_id": BSUID}, number="101"))
        left = iter(range(writes - 1, -1, -1))

        def count_down(_: int, left: Iterator[int] = left) -> None:
            if not next(left):
                raise Killed

        with pytest.raises(Killed):
            await Eraser(database, whose("101", CUSTOMER), lease_s=1, progress=count_down).erase()
        assert (await erase("101", CUSTOMER)).total == 6 - writes
        assert await ids(database) == {"inbox": set(), "histories": set(), "events": set()}


NAMES = (CUSTOMER, BSUID, "44700", "GB.7")


@pytest.mark.parametrize("name", NAMES)
async def test_customer_is_erased_under_names_that_only_histories_tell(
    database: Database, erase: Erase, name: str
) -> None:
    """A number with its user id, and the ones that came after them; former names do not tell the later ones."""
    await database.conversations.insert_many(
        [
            {"_id": f"101:{CUSTOMER}", "aliases": [BSUID]},
            {"_id": f"101:{BSUID}", "aliases": [CUSTOMER]},
            {"_id": "101:44700", "aliases": ["GB.7", CUSTOMER]},
            {"_id": "101:GB.7", "aliases": ["44700"]},
            {"_id": f"101:{OTHER}", "aliases": ["DE.9"]},
            {"_id": f"102:{CUSTOMER}", "aliases": [BSUID]},
        ]
    )
    await database.inbox.insert_many(
        [stored(text_message("hello", wamid=str(n), sender=one)) for n, one in enumerate((*NAMES, OTHER))]
    )
    erased = await erase("101", name)
    assert (erased.messages, erased.histories) == (4, 4)
    assert await ids(database) == {
        "inbox": {"101:4"},
        "histories": {f"101:{OTHER}", f"102:{CUSTOMER}"},
        "events": set(),
    }


@pytest.mark.parametrize("name", NAMES)
async def test_killed_after_any_write_the_histories_still_tell_every_name(
    database: Database, erase: Erase, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(erasure, "SLICE", 1)
    for writes in range(1, 8):
        await database.conversations.insert_many(
            [
                {"_id": f"101:{BSUID}", "aliases": [CUSTOMER]},
                {"_id": "101:44700", "aliases": ["GB.7", CUSTOMER]},
                {"_id": "101:GB.7", "turns": []},
            ]
        )
        await database.inbox.insert_many(
            [stored(text_message("hello", wamid=str(n), sender=one)) for n, one in enumerate(NAMES)]
        )
        left = iter(range(writes - 1, -1, -1))

        def count_down(_: int, left: Iterator[int] = left) -> None:
            if not next(left):
                raise Killed

        with pytest.raises(Killed):
            await Eraser(database, whose("101", name), lease_s=1, progress=count_down).erase()
        assert (await erase("101", name)).total == 7 - writes
        assert await ids(database) == {"inbox": set(), "histories": set(), "events": set()}


@pytest.mark.parametrize("name", [CUSTOMER, BSUID])
async def test_customer_is_erased_under_every_name(database: Database, erase: Erase, name: str) -> None:
    """A message that names both tells that they are one person, wherever it stands among the others."""
    await database.inbox.insert_many(
        [
            stored(text_message("by number", wamid="a")),
            stored(text_message("by user id", wamid="b", sender="", from_user_id=BSUID)),
            stored(text_message("by both", wamid="c", from_user_id=BSUID)),
            stored(text_message("of another", wamid="d", sender=OTHER, from_user_id="DE.2")),
        ]
    )
    await database.conversations.insert_many([{"_id": f"101:{name}"} for name in (CUSTOMER, BSUID, OTHER)])
    await database.events.insert_one(event("e", {"recipient_user_id": BSUID}, number="101"))
    assert (await erase("101", name)).total == 6
    assert await ids(database) == {"inbox": {"101:d"}, "histories": {f"101:{OTHER}"}, "events": set()}


async def test_business_is_erased_with_all_its_numbers_and_nobody_else(database: Database, erase: Erase) -> None:
    await database.inbox.insert_many(
        [stored(text_message("x", wamid="a")), stored(text_message("x", wamid="a"), number="1010")]
    )
    await database.conversations.insert_many(
        [
            {"_id": f"101:{CUSTOMER}", "business": "101"},
            {"_id": f"99:{CUSTOMER}", "business": "101"},  # of a number that it had before
            {"_id": f"1010:{CUSTOMER}", "business": "1010"},
        ]
    )
    await database.events.insert_many(
        [
            event("of its number", {}, number="101"),
            event("of its account", {}, number=None, account="waba-101"),
            event("whole", {"phone_number_id": "101"}, number=None),
            event("of another number of its account", {}, number="1010", account="waba-101"),
            event("of another account", {}, number=None, account="waba-1010"),
            event("another whole", {"phone_number_id": "1010"}, number=None),
        ]
    )
    assert (await erase("101")).total == 6
    assert await ids(database) == {
        "inbox": {"1010:a"},
        "histories": {f"1010:{CUSTOMER}"},
        "events": {"of another number of its account", "of another account", "another whole"},
    }


async def test_second_call_finds_nothing(database: Database, erase: Erase) -> None:
    await database.inbox.insert_one(stored(text_message("x", wamid="a")))
    assert (await erase("101")).total == 1
    assert (await erase("101")).total == 0


async def test_more_than_a_page_is_erased(database: Database, erase: Erase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PAGE", 7)
    monkeypatch.setattr(erasure, "SLICE", 3)
    await database.inbox.insert_many([stored(text_message("x", wamid=f"{n}")) for n in range(40)])
    await database.conversations.insert_many([{"_id": f"101:{n}"} for n in range(20)])
    assert (await erase("101")).total == 60
    assert await ids(database) == {"inbox": set(), "histories": set(), "events": set()}


# While hubs work


async def test_message_that_is_being_answered_is_let_go_of(
    database: Database, start_hub: StartHub, erase: Erase
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(assistant="openai", ai_model="any")
    hub.graph.model.latency_s = (0.5, 0.5)
    await hub.say("101", "forget me", "wamid.1")
    await hub.say("101", "and this", "wamid.2")
    assert (await erase("101", CUSTOMER)).messages == 2
    await until(lambda: _was_asked(hub, 1))  # the model has answered; nobody may hear it
    await hub.say("101", "I am new", "wamid.3")
    await hub.row_where("101", "wamid.3", state="done", outcome="replied")
    assert hub.texts == ["echo: I am new"]
    assert "forget" not in await texts_of(database)


async def _was_asked(hub: Hub, times: int) -> bool:
    return len(hub.graph.model.requests) == times


async def test_reply_that_is_on_its_way_is_waited_for(hub: Hub, erase: Erase) -> None:
    """And its history, which may land after it, does not come back."""
    hub.graph.control.latency_s = (0.8, 0.8)
    await hub.say("101", "forget me", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="replying")
    assert (await erase("101", CUSTOMER)).messages == 1
    assert hub.texts == ["forget me"]
    await hub.stop()  # whatever it had to write is written
    left = await ids(hub.database)
    assert (left["inbox"], left["histories"]) == (set(), set())
    assert "forget" not in await texts_of(hub.database)


async def test_reply_that_stays_on_its_way_is_left_and_told(hub: Hub, erase: Erase) -> None:
    hub.graph.control.latency_s = (3.0, 3.0)
    await hub.say("101", "forget me", "wamid.1")
    await hub.say("101", "another customer's", "wamid.2", OTHER)
    await hub.row_where("101", "wamid.1", stage="replying")
    assert (await erase("101", CUSTOMER, most_waiting_s=0.1)).left == 1
    assert await hub.row("101", "wamid.1")


async def test_reply_of_a_process_that_died_is_not_waited_for_beyond_its_lease(
    database: Database, erase: Erase
) -> None:
    row = stored(text_message("x", wamid="a"), state="active", stage="replying", owner="gone", done_at=None)
    await database.inbox.insert_one(row)
    await database.nodes.insert_one({"_id": "gone", "state": "living", "counter": 7})
    began = asyncio.get_running_loop().time()
    assert (await erase("101", lease_s=0.3)).total == 1
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_message_that_was_held_is_never_answered(hub: Hub, webhooks: Any, erase: Erase) -> None:
    hub.graph.control.tokens = {"101": "another"}
    await hub.say("101", "forget me", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="held")
    await hub.say("101", "and this", "wamid.2")
    assert (await erase("101", CUSTOMER)).messages == 2
    changed = {"$set": {"whatsappAccessToken": webhooks.encrypt("another")}}
    await hub.database.businesses.update_one({"subDomain": "b101"}, changed)
    await hub.say("101", "I am new", "wamid.3")
    await hub.row_where("101", "wamid.3", state="done", outcome="replied")
    assert hub.texts == ["I am new"]


@pytest.mark.parametrize(
    ("stage", "fault"),
    [("backoff", Fault(code=131056)), ("ambiguous", Fault(effect=Effect.CLOSE_BEFORE))],
    ids=["backoff", "ambiguous"],
)
async def test_message_that_would_be_tried_again_is_not(
    database: Database, start_hub: StartHub, erase: Erase, stage: str, fault: Fault
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(timing={"retry_base_s": 1.0, "retry_max_s": 1.0, "status_wait_s": 1.0})
    hub.graph.control.faults.arm(fault)
    await hub.say("101", "forget me", "wamid.1")
    await hub.row_where("101", "wamid.1", stage=stage)
    assert (await erase("101", CUSTOMER)).messages == 1
    await hub.say("101", "I am new", "wamid.2")
    await hub.row_where("101", "wamid.2", state="done", outcome="replied")
    assert hub.texts == ["I am new"]


async def test_message_that_the_business_sent_itself_goes_too_and_is_never_sent(
    database: Database, start_hub: StartHub, erase: Erase, webhooks: Any
) -> None:
    await database.businesses.insert_one(business("101", apiKeys=[stored_key("key of 101")]))
    hub = await start_hub()
    caller = Caller(hub=hub, sub_domain="b101", key=api_key("key of 101")[0])
    await caller.reaches(await caller.say("hello", CUSTOMER), "read")
    kept = await caller.say("hello", OTHER)
    await caller.reaches(kept, "read")
    hub.graph.control.tokens = {"101": "another"}
    waiting = await caller.say("forget me", CUSTOMER)
    await hub.row_where("101", waiting, stage="held")
    erased = await erase("101", CUSTOMER)
    assert (erased.messages, erased.histories) == (2, 1)
    assert ((await caller.show(waiting)).status, (await caller.show(kept)).status) == (404, 200)
    changed = {"$set": {"whatsappAccessToken": webhooks.encrypt("another")}}
    await database.businesses.update_one({"subDomain": "b101"}, changed)
    await caller.reaches(await caller.say("I am new", CUSTOMER), "read")
    assert hub.texts == ["hello", "hello", "I am new"]
