"""Single messages on the console, over HTTP: found, told step by step, unmasked on demand, retried and discarded."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from multidict import CIMultiDict

from tests.hub import Answer, Hub, StartHub, business, until
from tests.leaks import LEAKS
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.http import keys
from whatsapp_hub.http.console.dead_letters import MOST_AT_ONCE, MOST_LISTED
from whatsapp_hub.inbox.message_log import EVERYWHERE, MOST_CONVERSATIONS
from whatsapp_hub.tenants.business import Business

ADMIN_TOKEN = LEAKS.seed("the-token-of-whoever-reads-stories")
NUMBER = LEAKS.seed("491701234567")
ANOTHER = LEAKS.seed("491709876543")
WORDS = LEAKS.seed("where is my parcel?")


class Operator:
    """Somebody who is logged in."""

    def __init__(self, hub: Hub, cookie: str) -> None:
        self.hub = hub
        self._cookie = cookie

    async def get(self, path: str, **query: str) -> Answer:
        return await self.hub.exchange("GET", f"/console/api/{path}", params=query, headers={"Cookie": self._cookie})

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        given = {"Cookie": self._cookie, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json", **headers}
        data = orjson.dumps({} if body is None else body)
        return await self.hub.exchange("POST", f"/console/api/{path}", data=data, headers=given)

    async def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        answer = await self.get(path, **query)
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json["items"]
        return found

    async def message(self, message_id: str) -> dict[str, Any]:
        answer = await self.get(f"messages/{quote(message_id, safe='')}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    async def is_ended(self, message_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            message = await self.message(message_id)
            return message if message["ended"] else None

        return await until(look)


async def log_in(hub: Hub) -> Operator:
    headers = CIMultiDict({"Sec-Fetch-Site": "same-origin"})
    form = {"token": ADMIN_TOKEN}
    answer = await hub.exchange("POST", "/console/login", data=form, headers=headers, allow_redirects=False)
    assert answer.status == 303
    return Operator(hub, answer.headers["Set-Cookie"].partition(";")[0])


@pytest.fixture
async def operator(database: Database, start_hub: StartHub) -> Operator:
    await database.businesses.insert_many([business(number) for number in ("101", "102", "103")])
    hub = await start_hub(admin_token=ADMIN_TOKEN)
    return await log_in(hub)


def letter(number: str, wamid: str, died_at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "_id": f"{number}:{wamid}",
        "conversation": f"{number}:{NUMBER}",
        "state": "dead",
        "stage": "new",
        "epoch": 1,
        "attempts": 3,
        "place": int(time.time()),
        "arrival": time.time_ns(),
        "item": orjson.dumps({"type": "text", "text": {"body": WORDS}}),
        "profile_name": "Somebody",
        "reason": "131026 undeliverable",
        "dead_at": died_at,
        **changes,
    }


Letters = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def letters(database: Database) -> Letters:
    """Store dead letters that died a second after one another; return their ids, the oldest first."""

    async def store(
        count: int, number: str = "103", *, age: timedelta = timedelta(hours=2), **changes: Any
    ) -> list[str]:
        first = datetime.now(UTC).replace(microsecond=0) - age
        documents = [
            letter(number, f"wamid.{number}.{n:04}", first + timedelta(milliseconds=n), **changes) for n in range(count)
        ]
        await database.inbox.insert_many(documents)
        return [document["_id"] for document in documents]

    return store


async def test_conversation_is_listed_and_its_message_tells_its_steps(operator: Operator) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    [conversation] = await until(lambda: operator.items("conversations"))
    assert (conversation["business"], conversation["customer"]) == (
        "b101",
        "+49 170 \u2022\u2022\u2022\u2022\u2022 567",
    )
    [line] = await operator.items(f"conversations/{conversation['conversation']}")
    assert (line["id"], line["kind"], line["standing"]["tone"]) == ("101:wamid.1", "text", "good")
    message = await operator.message("101:wamid.1")
    hubs = [step for step in message["steps"] if step["clock"] == "hub"]
    assert [step["kind"] for step in hubs] == [
        "received",
        "stored",
        "begun",
        "asked",
        "answered",
        "posted",
        "accepted",
    ]
    assert all(step["since_s"] >= 0 and step["at"].endswith("Z") for step in hubs)
    assert message["reply_s"] == line["reply_s"] > 0
    assert await operator.message("wamid.1") == message, "the id without the number's is enough"


async def test_nothing_names_a_customer_or_says_what_was_written_unasked(
    operator: Operator, letters: Letters, caplog: pytest.LogCaptureFixture
) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    [dead] = await letters(1)
    [conversation] = await until(lambda: operator.items("conversations"))
    answers = [
        await operator.get("conversations"),
        await operator.get(f"conversations/{conversation['conversation']}"),
        await operator.get("messages/101:wamid.1"),
        await operator.get(f"messages/{dead}"),
        await operator.get("dead-letters"),
        await operator.post("search", {"query": NUMBER}),
        await operator.post("search", {"query": "wamid.1"}),
    ]
    for answer in answers:
        assert answer.status == 200
        for personal in (NUMBER, WORDS, "Somebody"):
            assert personal.encode() not in answer.body
    assert not [record for record in caplog.records if record.name == "console"]


async def test_words_and_number_are_told_on_demand_and_that_is_logged_without_them(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    caplog.set_level("INFO")
    [conversation] = await until(lambda: operator.items("conversations"))
    reference = conversation["conversation"]
    assert (await operator.post(f"conversations/{reference}/customer")).json["customer"] == NUMBER
    told = {"id": "101:wamid.1", "asked": WORDS, "answered": [WORDS]}
    assert (await operator.post("messages/101:wamid.1/words")).json == told
    answer = await operator.post(f"conversations/{reference}/words", {"ids": ["101:wamid.1", "101:other"]})
    assert answer.json["items"] == [told]
    records = [vars(record) for record in caplog.records if record.name == "console"]
    assert [record["address"] for record in records] == ["127.0.0.1"] * 3
    assert [record.get("message_ids") for record in records] == [None, ["101:wamid.1"], ["101:wamid.1"]]
    assert records[0]["reference"] == reference
    for record in records:
        assert NUMBER not in str(record)
        assert WORDS not in str(record)


async def test_words_are_told_to_our_own_pages_only(operator: Operator) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    stranger = Operator(operator.hub, "hub_console=1.2.3")
    assert (await stranger.post("messages/101:wamid.1/words")).status == 401
    assert (await operator.post("messages/101:wamid.1/words", **{"Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await operator.get("messages/101:wamid.1/words")).status == 405


async def test_words_of_what_has_expired_come_from_the_history(operator: Operator) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    [conversation] = await until(lambda: operator.items("conversations"))
    await operator.hub.database.inbox.delete_many({})
    path = f"conversations/{conversation['conversation']}"
    [line] = await operator.items(path)
    assert (line["kept"], line["standing"]["label"]) == (False, "answered")
    [words] = (await operator.post(f"{path}/words", {"ids": [line["id"]]})).json["items"]
    assert words == {"id": "101:wamid.1", "asked": WORDS, "answered": [WORDS]}


@pytest.mark.parametrize("wanted", ["101:wamid.none", "wamid.none", "9:9", "%00", "%0a", "%F0%9F%92%A5", "a" * 400])
async def test_foreign_and_odd_ids_are_not_found_in_words(operator: Operator, wanted: str) -> None:
    answer = await operator.hub.exchange("GET", f"/console/api/messages/{wanted}", headers={"Cookie": operator._cookie})
    assert answer.status in {400, 404}
    assert b"Traceback" not in answer.body
    if answer.status == 404:
        assert "there is no message with this id" in answer.json["error"]


@pytest.mark.parametrize("reference", ["x", "QUJD", "A" * 500, "10", f"101:{NUMBER}"])
async def test_made_up_references_lead_nowhere(operator: Operator, reference: str) -> None:
    path = f"conversations/{reference}"
    answers = [await operator.get(path)]
    answers += [await operator.post(f"{path}/{verb}", {"ids": ["101:wamid.1"]}) for verb in ("words", "customer")]
    for answer in answers:
        assert answer.status == 404
        assert "there is no such conversation" in answer.json["error"]


@pytest.mark.parametrize("query", [None, 7, [], {"$ne": ""}, {"$regex": "."}, "", "   ", "a\0b"])
async def test_search_takes_words_and_nothing_else(operator: Operator, query: Any) -> None:
    answer = await operator.post("search", {"query": query})
    assert answer.status == 400
    assert "a phone number" in answer.json["error"]


@pytest.mark.parametrize("ids", [None, [], "101:wamid.1", [{"$ne": ""}], [None], ["\0"], {"$in": []}])
async def test_actions_take_ids_and_nothing_else(operator: Operator, letters: Letters, ids: Any) -> None:
    [dead] = await letters(1)
    for verb in ("retry", "discard"):
        assert (await operator.post(f"dead-letters/{verb}", {"ids": ids})).status == 400
    assert (await operator.message(dead))["dead"]


async def test_odd_filters_are_refused_in_words(operator: Operator) -> None:
    for query in ({"age": "$gt"}, {"before": "yesterday"}, {"before": "2026-01-01"}, {"reason": "x" * 2000}):
        answer = await operator.get("dead-letters", **query)
        assert (answer.status, "reload" in answer.json["error"]) == (400, True)
    unknown = await operator.get("dead-letters", business='{"$ne": ""}')
    assert (unknown.status, "no business has this subdomain" in unknown.json["error"]) == (404, True)


async def test_customer_and_message_are_found(operator: Operator) -> None:
    for number, wamid in (("101", "wamid.1"), ("102", "wamid.2")):
        await operator.hub.say(number, WORDS, wamid, sender=NUMBER)
    await operator.hub.say("101", WORDS, "wamid.3", sender=ANOTHER)
    await operator.hub.at_rest()

    async def remembered() -> bool:
        return await operator.hub.database.conversations.count_documents({}) == 3

    await until(remembered)

    async def find(query: str, business: str = "") -> tuple[list[str], list[str]]:
        answer = await operator.post("search", {"query": query, "business": business})
        assert answer.status == 200, answer.body
        return [one["id"] for one in answer.json["messages"]], [one["business"] for one in answer.json["conversations"]]

    spelled = f"+{NUMBER[:2]} {NUMBER[2:5]} {NUMBER[5:]}"
    assert await find(spelled) == ([], ["b101", "b102"])
    assert await find(NUMBER, "b102") == ([], ["b102"])
    assert await find("wamid.2") == (["102:wamid.2"], [])
    assert await find("102:wamid.2") == (["102:wamid.2"], [])
    assert await find("102:wamid.2", "b101") == ([], [])
    [send] = [one for one in operator.hub.graph.log.accepted if one.customer == ANOTHER]
    assert send.wamid is not None
    assert await find(send.wamid, "b101") == (["101:wamid.3"], [])
    assert await find(send.wamid, "b102") == ([], [])


async def test_lists_keep_to_the_business_that_is_chosen(operator: Operator, letters: Letters) -> None:
    await letters(2, "101")
    await letters(1, "103", reason="too old")
    await operator.hub.say("102", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    await until(lambda: operator.items("conversations"))
    assert {one["business"] for one in await operator.items("dead-letters", business="b101")} == {"b101"}
    assert await operator.items("dead-letters/reasons", business="b103") == [{"reason": "too old", "count": 1}]
    assert await operator.items("conversations", business="b101") == []
    assert len(await operator.items("conversations", business="b102")) == 1
    assert (await operator.get("businesses/names")).json["items"] == ["b101", "b102", "b103"]


async def test_dead_letters_are_filtered_and_come_in_pages(operator: Operator, letters: Letters) -> None:
    ids = await letters(MOST_LISTED + 5)
    old = await letters(2, "102", age=timedelta(days=8), reason="too old")
    first = (await operator.get("dead-letters")).json
    assert [one["id"] for one in first["items"]] == ids[: -MOST_LISTED - 1 : -1]
    second = (await operator.get("dead-letters", before=first["more"])).json
    assert [one["id"] for one in second["items"]] == [*ids[4::-1], *old[::-1]]
    assert second["more"] is None
    assert [one["id"] for one in await operator.items("dead-letters", age="older")] == old[::-1]
    assert [one["id"] for one in await operator.items("dead-letters", reason="too old")] == old[::-1]
    assert await operator.items("dead-letters", age="hour") == []
    counts = [("131026 undeliverable", len(ids)), ("too old", 2)]
    assert [(one["reason"], one["count"]) for one in await operator.items("dead-letters/reasons")] == counts
    assert all(one["advice"] for one in first["items"])


async def test_letter_is_retried_and_arrives(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    hub = operator.hub
    hub.graph.control.faults.arm(Fault(code=131026, times=1))
    await hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await hub.row_where("101", "wamid.1", state="dead")
    assert (await operator.message("101:wamid.1"))["advice"].startswith("The customer has no WhatsApp")
    caplog.set_level("INFO")
    answer = await operator.post("dead-letters/retry", {"ids": ["101:wamid.1", "101:none"]})
    assert answer.json == {"done": ["101:wamid.1"], "gone": ["101:none"], "more": False}
    message = await operator.is_ended("101:wamid.1")
    assert hub.texts == [WORDS]
    assert "retried" in [step["kind"] for step in message["steps"]]
    [record] = [vars(record) for record in caplog.records if record.name == "console"]
    assert (record["address"], record["message_ids"]) == ("127.0.0.1", ["101:wamid.1"])


async def test_letters_are_discarded(operator: Operator, letters: Letters) -> None:
    [dead, other] = await letters(2)
    answer = await operator.post("dead-letters/discard", {"ids": [dead]})
    assert answer.json == {"done": [dead], "gone": [], "more": False}
    assert (await operator.message(dead))["standing"]["label"] == "discarded"
    assert [one["id"] for one in await operator.items("dead-letters")] == [other]


async def test_bulk_is_bounded_and_goes_on_where_it_stopped(operator: Operator, letters: Letters) -> None:
    ids = await letters(MOST_AT_ONCE + 3, "103")
    too_many = await operator.post("dead-letters/discard", {"ids": ids})
    assert (too_many.status, f"at most {MOST_AT_ONCE}" in too_many.json["error"]) == (413, True)
    kept = await letters(1, "102")
    now = datetime.now(UTC).isoformat()
    wanted = {"all": True, "business": "b103", "before": now}
    first = (await operator.post("dead-letters/discard", wanted)).json
    assert (first["done"], first["more"]) == (ids[:MOST_AT_ONCE], True)
    second = (await operator.post("dead-letters/discard", wanted)).json
    assert (second["done"], second["more"]) == (ids[MOST_AT_ONCE:], False)
    assert [one["id"] for one in await operator.items("dead-letters")] == kept
    assert (await operator.post("dead-letters/retry", {"all": True})).status == 400, "says no time"


async def test_letters_of_one_conversation_keep_their_order_when_all_are_retried(
    operator: Operator, letters: Letters
) -> None:
    ids = await letters(5, "101", reason="too old")
    wanted = {"all": True, "reason": "too old", "before": datetime.now(UTC).isoformat()}
    assert (await operator.post("dead-letters/retry", wanted)).json["done"] == ids
    rows = await operator.hub.database.inbox.find({}).sort("arrival", 1).to_list(None)
    assert [row["_id"] for row in rows] == ids


async def test_what_waits_is_shown_before_anything_was_answered(operator: Operator) -> None:
    hub = operator.hub
    await hub.database.businesses.update_one({"subDomain": "b101"}, {"$set": {"whatsappAccessToken": "unreadable"}})

    async def is_seen() -> bool:
        business = await hub.app[keys.DIRECTORY].find("101")
        return isinstance(business, Business) and business.access_token is None

    await until(is_seen)
    await hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await hub.row_where("101", "wamid.1", stage="held")
    [row] = (await operator.get("conversations", business="b101")).json["waiting"]
    assert (row["id"], row["standing"]["label"]) == ("101:wamid.1", "held")
    assert (await operator.get("conversations", business="b102")).json["waiting"] == []
    found = (await operator.post("search", {"query": NUMBER})).json["conversations"]
    assert [one["business"] for one in found] == ["b101"]
    [line] = await operator.items(f"conversations/{row['conversation']}")
    assert line["id"] == "101:wamid.1"


async def test_conversations_come_in_pages(operator: Operator, database: Database) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await database.conversations.insert_many(
        {"_id": f"101:49170000{n:04}", "updated_at": now - timedelta(seconds=n), "turns": []}
        for n in range(MOST_CONVERSATIONS + 2)
    )
    first = (await operator.get("conversations")).json
    second = (await operator.get("conversations", before=first["more"])).json
    assert (len(first["items"]), len(second["items"]), second["more"]) == (MOST_CONVERSATIONS, 2, None)


async def test_reads_that_go_to_every_shard_are_those_that_are_named(operator: Operator, letters: Letters) -> None:
    await operator.hub.say("101", WORDS, "wamid.1", sender=NUMBER)
    await operator.hub.at_rest()
    await letters(1)
    [conversation] = await until(lambda: operator.items("conversations"))
    reference = conversation["conversation"]
    mongo = operator.hub.database.inbox.database
    await mongo.command("profile", 2)
    try:
        await operator.get("conversations")
        await operator.get(f"conversations/{reference}")
        await operator.get("messages/101:wamid.1")
        await operator.post(f"conversations/{reference}/words", {"ids": ["101:wamid.1"]})
        for query in (NUMBER, "wamid.1", "wamid.unknown"):
            await operator.post("search", {"query": query, "business": "b101"})
    finally:
        await mongo.command("profile", 0)
    seen = await mongo["system.profile"].find({"command.comment": {"$regex": "^console: "}}).to_list(None)
    targeted: set[str] = set()
    everywhere: set[str] = set()
    for entry in seen:
        assert entry["command"].get("limit") or entry["command"]["comment"] in {
            "console: a history",
            "console: active messages",
        }
        assert entry["command"]["maxTimeMS"] <= 3000
        key = "_id" if entry["ns"].endswith(".conversations") else "conversation"
        condition = entry["command"]["filter"].get(key)
        names_them = isinstance(condition, str) or (isinstance(condition, dict) and "$in" in condition)
        (targeted if names_them else everywhere).add(entry["command"]["comment"])
    assert everywhere == EVERYWHERE
    assert targeted.isdisjoint(EVERYWHERE)
    assert len(targeted) == 5
