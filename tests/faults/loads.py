"""Loads, as long and as large as somebody wants; how long things took under them, and what a hub used."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import click

from tests.faults.driver import WORD, name_customer
from tests.faults.flood import Flood, flood
from tests.faults.history import Message
from tests.faults.hubs import HubProcess
from tests.faults.world import NUMBERS, TIMING, World, open_world
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.settings import Timing

L1_MESSAGES_PER_S: Final = 60.0
L1_WEBHOOKS_PER_S: Final = 4 * L1_MESSAGES_PER_S  #: three statuses come back for each
#: The real times: under load nothing dies, and a machine that is busy must not make it look so.
PRODUCTION: Final[Mapping[str, float]] = {name: getattr(Timing(), name) for name in TIMING}
FLOOR_S: Final = 0.05  #: what is faster than this on a machine that does other things too is fast
FEW: Final = 5  #: so many messages of a tenant say what is typical for it
_SLICE: Final = 1_000


def percentile(values: Collection[float], share: float) -> float:
    """Return the value that this share of all is not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def acks_s(messages: Sequence[Message]) -> list[float]:
    """Return how long each message waited for its 200, tries that were refused included."""
    return [message.acked_at - message.sent_at for message in messages if message.acked_at is not None]


def answers_s(world: World, messages: Sequence[Message]) -> list[float]:
    """Return how long each message waited until its label was said. Raises ``KeyError`` if it never was."""
    said = said_at(world)
    return [said[message.label] - message.sent_at for message in messages]


def said_at(world: World) -> Mapping[str, float]:
    """Return when each label was first said, in monotonic seconds."""
    to_monotonic = time.monotonic() - time.time()
    sends = reversed(world.graph.log.accepted)
    return {word: send.time + to_monotonic for send in sends for word in send.text.split() if "#" in word}


def messages_between(world: World, began_at: float, ended_at: float, number: str | None = None) -> list[Message]:
    """Return the messages that were sent in this time, of all numbers or of one."""
    return [m for m in world.driver.messages if began_at <= m.sent_at < ended_at and number in {None, m.number}]


def waits_by_number(world: World, messages: Sequence[Message]) -> Mapping[str, list[float]]:
    """Return how long the messages of each number waited for their answers."""
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for message, wait_s in zip(messages, answers_s(world, messages), strict=True):
        waits[message.number].append(wait_s)
    return waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has."""

    rss_bytes: int
    files: int
    threads: int

    def is_near(self, other: Usage, share: float) -> bool:
        """Whether nothing is more than this share above the other's; two files or threads more do not matter."""
        return (
            self.rss_bytes <= other.rss_bytes * (1 + share)
            and self.files <= max(other.files * (1 + share), other.files + 2)
            and self.threads <= max(other.threads * (1 + share), other.threads + 2)
        )


def usage_of(hub: HubProcess) -> Usage:
    """Look at a hub from outside."""
    threads = len(list(Path(f"/proc/{hub.pid}/task").iterdir()))
    return Usage(rss_bytes=hub.rss_bytes(), files=hub.open_files(), threads=threads)


def peak_rss_bytes(hub: HubProcess) -> int:
    """Return the most memory in RAM that a hub ever had, as the kernel noted it."""
    status = Path(f"/proc/{hub.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


async def leave_backlog(world: World, count: int, numbers: Sequence[str]) -> list[Message]:
    """Write messages, each of a conversation of its own, as a process that is no more left them."""
    await ensure_inbox_indexes(world.database, done_days=14, dead_days=90, conversation_days=90)
    messages = [_left_message(index, numbers[index % len(numbers)]) for index in range(count)]
    for start in range(0, count, _SLICE):
        await world.database.inbox.insert_many([_left_row(m) for m in messages[start : start + _SLICE]])
    return messages


def _left_message(index: int, number: str) -> Message:
    now = time.monotonic()
    return Message(
        number=number,
        customer=name_customer(index),
        wamid=f"wamid.b{index}.0",
        label=f"b{index}#0",
        timestamp=int(time.time()),
        sent_at=now,
        acked_at=now,
        deliveries=(),
    )


def _left_row(message: Message) -> dict[str, Any]:
    return {
        "_id": message.key,
        "conversation": f"{message.number}:{message.customer}",
        "state": "queued",
        "stage": "new",
        "owner": "a node that nobody remembers",
        "epoch": 1,
        "attempts": 0,
        "place": message.timestamp,
        "arrival": time.time_ns(),
        "item": b'{"type":"text","text":{"body":"%s %s"}}' % (message.label.encode(), WORD.encode()),
        "profile_name": "",
    }


async def settle(hub: HubProcess, baseline: Usage, share: float, timeout_s: float) -> Usage:
    """Wait until a hub has no more than before; return what it has, when it does or time is over."""
    ends_at = time.monotonic() + timeout_s
    while not (usage := usage_of(hub)).is_near(baseline, share) and time.monotonic() < ends_at:
        await asyncio.sleep(0.2)
    return usage


async def hold_steadily(for_s: float) -> None:
    """L1: a number's usual load, three statuses to a message, each a webhook of its own."""
    async with open_world(timing=PRODUCTION) as world:
        world.graph.statuses._max_batch = 1
        began = time.monotonic()
        await world.driver.converse(numbers=NUMBERS, customers=200, rate_per_s=L1_MESSAGES_PER_S, for_s=for_s)
        webhooks = await world.hubs[0].sample("webhook_requests_total") / (time.monotonic() - began)
        await world.assert_holds()
        acks, answers = acks_s(world.driver.messages), answers_s(world, world.driver.messages)
        p50, p99, slowest_s = percentile(acks, 0.5), percentile(acks, 0.99), percentile(answers, 0.99)
        click.echo(f"L1: {webhooks:.0f} webhooks/s, ack p50 {p50:.3f} p99 {p99:.3f} s, answer p99 {slowest_s:.3f} s")
        assert webhooks >= 0.85 * L1_WEBHOOKS_PER_S
        assert (world.driver.refused, p50 <= 0.25, p99 <= 1) == (0, True, True)


async def take_burst(for_s: float) -> None:
    """L3: ten times that load for a moment."""
    async with open_world(timing=PRODUCTION) as world:
        rate_per_s = 10 * L1_MESSAGES_PER_S
        burst = Flood(port=world.hubs[0].port, rate_per_s=rate_per_s, for_s=for_s, numbers=NUMBERS, customers=2_000)
        messages = await flood(burst)
        began = time.monotonic()
        await world.assert_holds(messages=messages, timeout_s=60)
        drained_s = time.monotonic() - began
        acks = acks_s(messages)
        p99 = percentile(acks, 0.99)
        click.echo(f"L3: {len(messages)} messages, {len(acks)} taken, ack p99 {p99:.3f} s, drained {drained_s:.1f} s")
        assert len(messages) > 0.8 * rate_per_s * for_s
        assert len(acks) > 0.5 * len(messages)
        assert drained_s <= 60


async def drain_backlog(count: int) -> None:
    """L4: a cold start on a backlog, each message of a conversation of its own."""
    async with open_world(timing=PRODUCTION, start=False) as world:
        messages = await leave_backlog(world, count, NUMBERS)
        await world.start()
        await world.graph.log.wait_for(1, timeout_s=30)
        began = time.monotonic()
        await world.graph.log.wait_for(count, timeout_s=count / L1_MESSAGES_PER_S)
        rate, peak_mb = count / (time.monotonic() - began), peak_rss_bytes(world.hubs[0]) / 1e6
        click.echo(f"L4: {count} messages in {count / rate:.1f} s, {rate:.0f}/s, RSS at most {peak_mb:.0f} MB")
        await world.assert_holds(messages=messages)
        assert peak_mb < 300
        assert rate >= 0.8 * L1_MESSAGES_PER_S


async def serve_many_tenants(tenants: int, conversations: int, *, rate_per_s: float, for_s: float) -> None:
    """L8: a few tenants have most of the conversations, and none waits much longer than the others."""
    numbers = [f"7{tenant:05}" for tenant in range(tenants)]
    of_conversation = Random(8).choices(numbers, [1 / rank for rank in range(1, tenants + 1)], k=conversations)
    async with open_world(numbers=numbers, timing=PRODUCTION) as world:
        await world.driver.converse(
            numbers=of_conversation, customers=conversations, rate_per_s=rate_per_s, for_s=for_s
        )
        await world.assert_holds()
        waits = waits_by_number(world, world.driver.messages)
        typical = {number: median(found) for number, found in waits.items() if len(found) >= FEW}
        middle, worst = median(typical.values()), max(typical.values())
        click.echo(f"L8: {len(waits)} tenants, {len(typical)} of them with {FEW} messages or more")
        click.echo(f"L8: the median waits {middle:.3f} s, the worst {worst:.3f} s")
        assert len(typical) >= 10
        assert worst <= 5 * max(middle, FLOOR_S)
