"""How an outage looks from outside: what webhooks were answered, what ``/ready`` said, and when replies went on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import orjson

from tests.faults.history import Delivery, Recovery
from tests.faults.hubs import HubProcess
from tests.faults.world import NUMBERS, World
from whatsapp_hub.settings import Timing

#: The protocol's times as they are without a laboratory.
PRODUCTION: Final[Mapping[str, float]] = {
    name: getattr(Timing(), name)
    for name in ("heartbeat_s", "lease_s", "round_s", "self_fence_s", "status_wait_s", "held_recheck_s")
}
REFUSED_WITHIN_S: Final = 1.0
UNREADY_WITHIN_S: Final = 3.0
BACK_WITHIN_S: Final = 5.0
FRESH_S: Final = 2.0  #: how old the oldest message may be that waits for its reply, once all is well again
SLACK_S: Final = 1.5  #: for two cores that many processes share, where a time is about the shrunk lease
LOOK_EVERY_S: Final = 0.05
DRIVERS_S: Final = 0.5  #: how long the driver itself may be busy, rarely, before it sees an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which nothing could be stored, in monotonic seconds."""

    began_at: float
    ended_at: float  #: until then it is certain
    back_at: float  #: from then on the database takes writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One answer of ``/ready``."""

    at: float
    status: int
    reasons: tuple[str, ...]


class ReadyWatch:
    """What ``/ready`` said, all the time."""

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def first(self, status: int, after: float) -> Look:
        """Return the first look with this status."""
        found = next((look for look in self.looks if look.at > after and look.status == status), None)
        assert found is not None, f"/ready never said {status}"
        return found

    async def run(self, hub: HubProcess) -> None:
        """Ask again and again, until cancelled."""
        while True:
            status, text = await hub.get("/ready")
            reasons = orjson.loads(text).get("reasons", ()) if status else ()
            self.looks.append(Look(at=time.monotonic(), status=status, reasons=tuple(reasons)))
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def watching(hub: HubProcess) -> AsyncIterator[ReadyWatch]:
    """Watch ``/ready`` of a hub."""
    watch = ReadyWatch()
    task = asyncio.create_task(watch.run(hub))
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def talking(
    world: World, *, for_s: float, rate_per_s: float = 80.0, customers: int = 200, numbers: Sequence[str] = NUMBERS
) -> AsyncIterator[None]:
    """Have customers write for so long, whatever happens meanwhile; leave when everything was acknowledged."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            world.driver.converse(numbers=numbers, customers=customers, rate_per_s=rate_per_s, for_s=for_s)
        )
        yield


def deliveries(world: World) -> list[Delivery]:
    """Return every try to deliver a message, in order."""
    tries = [delivery for message in world.driver.messages for delivery in message.deliveries]
    return sorted(tries, key=lambda delivery: delivery.began_at)


def assert_refused(world: World, outage: Outage) -> None:
    """Check what was answered meanwhile: 503 with ``Retry-After``, at once."""
    begun = [one for one in deliveries(world) if outage.began_at < one.began_at < outage.ended_at]
    meanwhile = [one for one in begun if one.ended_at < outage.ended_at]
    assert meanwhile, "nobody wrote anything meanwhile"
    assert {(one.status, one.retry_after) for one in meanwhile} == {(503, True)}
    assert_quick(begun)


def assert_quick(tries: Sequence[Delivery]) -> None:
    """Check that nobody waited long for an answer."""
    took_s = sorted(one.ended_at - one.began_at for one in tries)
    assert_within(took_s[int(len(took_s) * 0.99)], REFUSED_WITHIN_S, "99 % were answered")
    assert_within(took_s[-1], REFUSED_WITHIN_S + DRIVERS_S, "the last was answered")


def assert_back(world: World, outage: Outage) -> None:
    """Check that webhooks were acknowledged again soon after."""
    acks = [one.ended_at for one in deliveries(world) if one.status == 200 and one.ended_at > outage.back_at]
    assert acks, "nothing was acknowledged afterwards"
    assert_within(min(acks) - outage.back_at, BACK_WITHIN_S, "webhooks were acknowledged again")


def assert_told(watch: ReadyWatch, outage: Outage) -> None:
    """Check that ``/ready`` told the truth in time, and said why."""
    unready = watch.first(503, after=outage.began_at)
    assert_within(unready.at - outage.began_at, UNREADY_WITHIN_S, "/ready told of the outage")
    assert unready.reasons
    lies = [look.at for look in watch.looks if unready.at < look.at < outage.ended_at and look.status != 503]
    assert not lies, f"/ready was 200 again, {lies[0] - outage.began_at:.2f} s after the outage began"
    ready = watch.first(200, after=outage.back_at)
    assert_within(ready.at - outage.back_at, BACK_WITHIN_S, "/ready was 200 again")


def recovery(world: World, cleared_at: float) -> Recovery:
    """Tell when the first reply was sent after a fault was over. A lease and a round are allowed."""
    monotonic = time.time() - time.monotonic()
    sent = [send.time - monotonic for send in world.graph.log.accepted]
    limit_s = world.timing["lease_s"] + world.timing["round_s"] + SLACK_S
    return Recovery(
        cleared_at=cleared_at,
        first_progress_at=min((at for at in sent if at > cleared_at), default=None),
        limit_s=limit_s,
    )


def answered_at(world: World) -> dict[str, float]:
    """Return when each label was first said to its customer."""
    monotonic = time.time() - time.monotonic()
    answers: dict[str, float] = {}
    for send in world.graph.log.accepted:
        for word in send.text.split():
            if "#" in word:
                answers.setdefault(word, send.time - monotonic)
    return answers


async def assert_fresh(world: World, *, after: float) -> None:
    """Check that what was acknowledged from then on did not wait long for its reply.

    Conversations with a send that nobody knew the outcome of may wait longer.
    """
    doubtful = await world.database.inbox.distinct("conversation", {"parts.attempt": {"$gt": 1}})
    answers = answered_at(world)
    waits_s = [
        answers[one.label] - one.acked_at
        for one in world.driver.messages
        if one.acked_at is not None and one.acked_at > after and f"{one.number}:{one.customer}" not in doubtful
    ]
    assert waits_s, "nobody wrote anything afterwards"
    assert_within(max(waits_s), FRESH_S, "the last reply was sent")


def assert_within(took_s: float, limit_s: float, what: str) -> None:
    """Check a time."""
    assert took_s < limit_s, f"{what} after {took_s:.2f} s, {limit_s:g} are allowed"
