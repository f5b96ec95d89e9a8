"""A fuzzer over real HTTP: no payload makes the hub answer 500, and every item of it ends in the inbox or in events."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hub import Hub, StartHub, business, until
from tests.payloads import build_payload, list_items, seeds, write_payload
from tests.spy import SPIES
from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.fields import KNOWN_FIELDS
from whatsapp_hub.cloud_api.inbound import read_details
from whatsapp_hub.cloud_api.notice_reading import read_notices
from whatsapp_hub.cloud_api.payload import Item, read_webhook
from whatsapp_hub.cloud_api.reading import in_words, read_text
from whatsapp_hub.cloud_api.troubles import trouble_of
from whatsapp_hub.database import Database
from whatsapp_hub.errors import PayloadInvalid

NUMBER: Final = "106540352242922"
AT_ONCE: Final = 20


def as_it_comes(value: Any) -> str:
    """Return a value as it is after a journey through JSON, in a form that can be compared."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=str, parse_int=float), sort_keys=True)


def read_loosely(body: bytes) -> Any:
    """Read a body by the standard library, with no help of ours; None for what is no JSON.

    An id that is ``NaN`` is one like any other: a second message with it is a copy.
    """
    try:
        return json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        return None


@dataclass
class Sent:
    """What was posted to a hub, and what has to be found again."""

    hub: Hub
    payloads: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    items: list[Any] = field(default_factory=list)

    async def post(self, body: bytes) -> None:
        status = await self.hub.post(body)
        self.payloads += 1
        self.statuses[status] += 1
        readable = isinstance(read_loosely(body), dict)
        assert status == (200 if readable else 400), body
        if readable:
            self.items += list_items(read_loosely(body))

    async def find_lost(self) -> list[Any]:
        """Return the items that are nowhere in the database; from then on they are forgotten."""
        wanted, self.items = self.items, []
        found = Counter[str]()
        names: set[str] = set()
        for collection in (self.hub.database.inbox, self.hub.database.events):
            async for row in collection.find({}, {"item": 1}):
                found[_canonical(bytes(row["item"]))] += 1
                name = row["_id"].partition(":")[2]  # whatever the number is, after the damage
                names |= {name, ":".join(name.split(":")[:2])}  # a status in a group names its participant too
        whole = [text for text in found if '"entry"' in text]  # bodies that were kept unread
        return [
            item
            for item in wanted
            if as_it_comes(item) not in found
            and names.isdisjoint(_names(item))  # a copy, as far as its id tells
            and not any(as_it_comes(item) in text for text in whole)
        ]

    async def at_rest(self) -> None:
        """Wait until nothing is left to be done for the business; what names other numbers waits for theirs."""
        ours = {"$gte": f"{NUMBER}:", "$lt": f"{NUMBER};"}

        async def none_open() -> bool:
            return await self.hub.database.inbox.count_documents({"_id": ours, "owner": {"$exists": True}}) == 0

        await until(none_open, 30)

    async def forget(self) -> None:
        """Empty the database of what has been found."""
        await self.hub.database.inbox.delete_many({})
        await self.hub.database.events.delete_many({})
        for collected in (SPIES[-1].given, SPIES[-1].turns):
            collected.clear()


def _names(item: Any) -> set[str]:
    """Return what the database may call an item, behind the number: a message, or a status."""
    if not isinstance(item, dict):
        return set()
    name = str(item.get("id"))
    return {name, f"{name}:{item.get('status')}"}


def _canonical(item: bytes) -> str:
    try:
        return as_it_comes(json_text.read(item))
    except (ValueError, RecursionError):
        return ""


def bodies_of(seed: int, many: int) -> Iterator[bytes]:
    rng = Random(seed)
    for _ in range(many):
        yield write_payload(rng, build_payload(rng, NUMBER))


def read_purely(body: bytes) -> int:
    """Read a body and everything in it as a value and in words; return how many messages it had."""
    try:
        webhook = read_webhook(body, now=1_750_000_000, new_id=None)
    except PayloadInvalid:
        return 0
    assert len(webhook) >= 1
    items: tuple[Item, ...] = (*webhook.messages, *webhook.statuses, *webhook.others)
    for item in items:
        details = read_details(item.item)
        kind, text = read_text(item.item)
        assert (kind, text) == (details.kind, in_words(details.kind, details.content))
        assert text.encode()
        assert repr(details).encode()
    for other in webhook.others:
        notices = read_notices(other.field, other.item)
        assert notices
        assert all((trouble_of(notice) or "").encode() is not None for notice in notices)
    return len(webhook.messages)


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_any_payload_can_be_read(seed: int) -> None:
    for body in bodies_of(seed, 3):
        read_purely(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read_as_values(body: bytes) -> None:
    read_purely(body)
    assert read_details(body).kind
    assert all(read_notices(name, body) for name in KNOWN_FIELDS)


@pytest.fixture
async def sent(database: Database, start_hub: StartHub) -> Sent:
    await database.businesses.insert_one(business(NUMBER, wabaId="102290129340398"))
    hub = await start_hub(
        ASSISTANT="spy",
        ASSISTANTS="spy=tests.spy:make",
        RATE_LIMIT_BUSINESS="100000/second",
        RATE_LIMIT_CUSTOMER="",
        AI_TRANSCRIPTION_MODEL="",
    )
    return Sent(hub)


async def assert_found(sent: Sent) -> None:
    """Hold that nothing was lost, nothing hangs and nobody stumbled."""
    assert await sent.find_lost() == []
    await sent.at_rest()
    dead = await sent.hub.database.inbox.find({"state": "dead"}, {"reason": 1}).to_list(10)
    assert [row["reason"] for row in dead if not row["reason"].startswith("too old")] == []
    await sent.forget()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],  # the hub remembers, so that nothing shrinks
)
@given(seed=seeds, junk=st.binary(max_size=100))
async def test_no_payload_makes_the_hub_stumble(sent: Sent, seed: int, junk: bytes) -> None:
    await asyncio.gather(*map(sent.post, (*bodies_of(seed, 9), junk)))
    await assert_found(sent)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_hundred_thousand_payloads_lose_nothing(sent: Sent) -> None:
    """Prints what was posted: 100,000 payloads of the grammar, each read as values too."""
    began, messages, seed = time.monotonic(), 0, 0
    while sent.payloads < 100_000:
        for _ in range(50):
            seed += 1
            bodies = list(bodies_of(seed, AT_ONCE))
            messages += sum(map(read_purely, bodies))
            await asyncio.gather(*map(sent.post, bodies))
        await assert_found(sent)
        print(f"{sent.payloads}", end=" ", flush=True)  # noqa: T201
    took_s = time.monotonic() - began
    print(f"\n{sent.payloads} payloads, {messages} messages in them, {dict(sent.statuses)}, {took_s:.0f} s")  # noqa: T201
    assert set(sent.statuses) == {200, 400}
