"""L7: bodies of one item and of hundreds, for several businesses, up to 3 MB, with broken items between good ones."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count, cycle
from typing import Any

import aiohttp
import pytest

from tests.faults.checker import check
from tests.faults.driver import PATH, WORD, name_customer
from tests.faults.history import Delivery, Message
from tests.faults.seen import labels_in, sends_to
from tests.faults.world import NUMBERS, World, open_world
from tests.hub import SECRET, text_message, webhook_of
from whatsapp_hub.cloud_api.signature import sign

Item = dict[str, Any]

#: Items that nobody can understand. None of them may hurt its neighbours.
BROKEN: Sequence[object] = (
    None,
    17,
    "a text",
    [],
    {},
    {"from": "491700000001", "type": "text", "text": {"body": "without an id"}},
    {"id": "wamid.without.a.sender", "type": "text", "text": {"body": "from nobody"}},
    {"id": {"not": "a name"}, "from": "491700000001"},
    {"id": "wamid." + "x" * 600, "from": "491700000001"},
    {"id": "wamid.half\ud83d", "from": "491700000001"},
)
#: What makes a message hard to read or to store, and no less a message.
HARD: Sequence[Item] = (
    {"big": 2**64},
    {"bigger": 10**400},
    {"nul\0key": "nul\0value"},
    {"$set": {"state": "done"}, "a.b": 1},
    {"half": "\ud83d"},
    {"timestamp": "yesterday"},
    {"unheard_of": [[[{"deep": None}]]]},
)
BROKEN_CHANGES: Sequence[object] = (None, "a change", {"field": "messages"}, {"field": "messages", "value": 1})
BROKEN_ENTRIES: Sequence[object] = (None, 1, {"id": "waba"}, {"id": "waba", "changes": "none"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a body is made up."""

    entries: int
    changes: int  #: of each entry
    messages: int  #: of each change, all of one customer
    characters: int = 0  #: of each message


SHAPES = (
    Shape(entries=1, changes=1, messages=1),
    Shape(entries=50, changes=1, messages=1),
    Shape(entries=1, changes=50, messages=1),
    Shape(entries=1, changes=1, messages=50),
    Shape(entries=4, changes=3, messages=5),
    Shape(entries=50, changes=3, messages=2, characters=9_600),
)


class Meta:
    """Posts bodies of many messages, and keeps what the checker has to know of them."""

    def __init__(self, world: World, client: aiohttp.ClientSession) -> None:
        self.messages: list[Message] = []
        self.statuses = 0  #: of messages that nobody sent
        self._world = world
        self._client = client
        self._numbers = cycle(NUMBERS)
        self._customers = map(name_customer, count())

    def say(self, number: str, customer: str, characters: int = 0, **changes: Any) -> Item:
        label = f"b{len(self.messages)}#0"
        message = Message(
            number=number,
            customer=customer,
            wamid=f"wamid.{label}",
            label=label,
            timestamp=int(time.time()),
            sent_at=time.monotonic(),
            acked_at=None,
            deliveries=(),
        )
        self.messages.append(message)
        return text_message(f"{label} {WORD} {'x' * characters}", wamid=message.wamid, sender=customer, **changes)

    def change(self, messages: int, characters: int = 0) -> Item:
        number, customer = next(self._numbers), next(self._customers)
        self.statuses += 1
        stray = {"id": f"wamid.stray.{self.statuses}", "status": "delivered", "recipient_id": customer}
        items = [self.say(number, customer, characters) for _ in range(messages)]
        return change_of(*items, number=number, statuses=[stray])

    async def post(self, *entries: object) -> int:
        body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, SECRET.encode())}
        began_at = time.monotonic()
        async with self._client.post(self._world.url + PATH, data=BytesIO(body), headers=headers) as response:
            ended_at = time.monotonic()
            assert (response.status, await response.text()) == (200, "")
        delivery = Delivery(began_at=began_at, ended_at=ended_at, status=200)
        self.messages = [
            message if message.deliveries else replace(message, acked_at=ended_at, deliveries=(delivery,))
            for message in self.messages
        ]
        return len(body)

    async def assert_holds(self, *, in_order: bool = True) -> None:
        """Hold that all was answered; in the order of the bodies unless some have no timestamp that can be read."""
        history = await self._world.history_at_rest(60)
        secrets = history.secrets | {message.customer for message in self.messages}
        assert not check(replace(history, messages=self.messages, secrets=secrets))
        for customer, labels in self.labels().items():
            said = [label for send in sends_to(self._world, customer) for label in labels_in(send.text)]
            assert said == labels if in_order else sorted(said) == sorted(labels)

    def labels(self) -> dict[str, list[str]]:
        """Return what each customer said, in the order in which it stood in the bodies."""
        labels = defaultdict(list)
        for message in self.messages:
            labels[message.customer].append(message.label)
        return labels


def change_of(*items: object, number: str, **value: Any) -> Item:
    change: Item = webhook_of(number=number, messages=list(items), **value)["entry"][0]["changes"][0]
    return change


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        world.graph.model.template = "{turn:.2000}"
        yield world


@pytest.fixture
async def meta(world: World) -> AsyncIterator[Meta]:
    async with aiohttp.ClientSession() as client:
        yield Meta(world, client)


@pytest.mark.timeout(90)
async def test_every_item_of_every_body_is_stored_and_answered_in_order(world: World, meta: Meta) -> None:
    sizes = []
    for shape in SHAPES:
        entries = [
            {"id": "waba", "changes": [meta.change(shape.messages, shape.characters) for _ in range(shape.changes)]}
            for _ in range(shape.entries)
        ]
        sizes.append(await meta.post(*entries))
    await meta.assert_holds()
    assert 2_900_000 < max(sizes) < 3_000_000
    assert await world.database.inbox.count_documents({}) == len(meta.messages)
    assert await world.database.events.count_documents({}) == meta.statuses
    hub = world.hubs[0]
    assert await hub.sample("whatsapp_hub_items_total", kind="message", outcome="new") == len(meta.messages)
    assert await hub.sample("whatsapp_hub_items_total", kind="status", outcome="ignored") == meta.statuses


async def test_a_broken_item_stops_none_of_its_siblings(world: World, meta: Meta) -> None:
    items: list[object] = []
    for index, broken in enumerate(BROKEN):
        items += [meta.say("101", name_customer(index)), broken]
    hard = [meta.say("102", name_customer(index), **changes) for index, changes in enumerate(HARD)]
    entries: list[object] = [
        {"id": "waba", "changes": [change_of(*items, number="101"), *BROKEN_CHANGES, change_of(*hard, number="102")]},
        *BROKEN_ENTRIES,
        {"id": "waba", "changes": [change_of(meta.say("103", name_customer(99)), number="103")]},
    ]
    await meta.post(*entries)
    await meta.assert_holds(in_order=False)
    assert await world.database.inbox.count_documents({}) == len(BROKEN) + len(HARD) + 1
    broken = len(BROKEN) + len(BROKEN_CHANGES) + len(BROKEN_ENTRIES)
    assert await world.database.events.count_documents({}) == broken
    assert await world.hubs[0].sample("whatsapp_hub_items_total", kind="other", outcome="ignored") == broken
