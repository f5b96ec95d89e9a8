"""Many webhooks from a process of its own, so that the one with the stand-ins is not what gives in.

Told on standard input what to do, tells on standard output what came of it: a JSON document each. Times are those of
the machine's monotonic clock, which all processes share. Nothing is delivered again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

import orjson
import uvloop

from bench.client import LOST_CONNECTION, Connection
from tests.faults.driver import PATH, WORD, name_customer
from tests.faults.history import Delivery, Message
from tests.faults.hubs import HOST
from tests.hub import SECRET, text_message, webhook_of
from whatsapp_hub.cloud_api.signature import sign

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 6.0  #: longer than anybody may have to wait for an answer
_HEAD: Final = (
    f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Hub-Signature-256: %s\r\n"
    "Content-Length: %d\r\n\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What is sent: at random times that do not depend on the answers, to customers in turn."""

    port: int
    rate_per_s: float
    for_s: float
    numbers: Sequence[str]
    customers: int
    name: str = "f"  #: begins the labels: two floods in one world have different ones
    connections: int = 500


@dataclass(slots=True, kw_only=True)
class Sent:
    """One webhook: the serial number tells what was in it."""

    sent_at: float
    ended_at: float = 0.0
    status: int = 0
    retry_after: bool = False


class _Line(Connection):
    """A connection that also notes whether an answer says when to come again."""

    retry_after = False

    def data_received(self, data: bytes) -> None:
        self.retry_after = b"retry-after:" in data.lower()
        super().data_received(data)


class _Sender:
    def __init__(self, requests: Sequence[bytes]) -> None:
        self.sent: dict[int, Sent] = {}
        self._requests = requests
        self._idle: list[_Line] = []
        self._overdue: deque[int] = deque()
        self._unanswered = 0

    async def open(self, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, line = await loop.create_connection(lambda: _Line(self._answered), HOST, port)
            self._idle.append(line)

    async def run(self, times_s: Sequence[float]) -> None:
        began = time.monotonic()
        for serial, at_s in enumerate(times_s):
            while (left_s := began + at_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            self._overdue.append(serial)
            self._send_due()
        self._overdue.clear()
        ends_at = time.monotonic() + PATIENCE_S
        while self._unanswered and time.monotonic() < ends_at:
            await asyncio.sleep(0.01)

    def _send_due(self) -> None:
        while self._overdue and self._idle:
            serial = self._overdue.popleft()
            self.sent[serial] = Sent(sent_at=time.monotonic())
            self._unanswered += 1
            self._idle.pop().send(serial, self._requests[serial])

    def _answered(self, connection: Connection, serial: int, status: int, _: float) -> None:
        assert isinstance(connection, _Line)
        self._unanswered -= 1
        sent = self.sent[serial]
        sent.ended_at, sent.retry_after = time.monotonic(), connection.retry_after
        if status != LOST_CONNECTION:
            sent.status = status
            self._idle.append(connection)
        self._send_due()


async def flood(plan: Flood) -> list[Message]:
    """Run a flood in a process of its own and return what was said: what found no free connection in time was not."""
    now = int(time.time())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.flood"),
        cwd=ROOT,  # where the tests are found
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate(orjson.dumps({**asdict(plan), "now": now}))
    assert process.returncode == 0
    sent = {int(serial): Sent(**values) for serial, values in orjson.loads(told).items()}
    return [_message(plan, serial, now, one) for serial, one in sent.items()]


def _message(plan: Flood, serial: int, now: int, sent: Sent) -> Message:
    number, customer, label = _name(plan, serial)
    delivery = Delivery(
        began_at=sent.sent_at,
        ended_at=sent.ended_at or sent.sent_at + PATIENCE_S,
        status=sent.status,
        retry_after=sent.retry_after,
    )
    return Message(
        number=number,
        customer=customer,
        wamid=f"wamid.{label}",
        label=label,
        timestamp=now,
        sent_at=sent.sent_at,
        acked_at=sent.ended_at if sent.status == 200 else None,
        deliveries=(delivery,),
    )


def _name(plan: Flood, serial: int) -> tuple[str, str, str]:
    conversation, count = serial % plan.customers, serial // plan.customers
    number = plan.numbers[conversation % len(plan.numbers)]
    return number, name_customer(conversation), f"{plan.name}{conversation}#{count}"


def _build_request(plan: Flood, serial: int, now: int) -> bytes:
    number, customer, label = _name(plan, serial)
    item = text_message(f"{label} {WORD}", wamid=f"wamid.{label}", sender=customer, timestamp=str(now))
    body = orjson.dumps(webhook_of(item, number=number))
    return (_HEAD % (sign(body, SECRET.encode()), len(body))).encode() + body


def _schedule(plan: Flood) -> Iterator[float]:
    rng, at_s = Random(0), 0.0
    while (at_s := at_s + rng.expovariate(plan.rate_per_s)) < plan.for_s:
        yield at_s


async def _main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    now = told.pop("now")
    plan = Flood(**told)
    times_s = list(_schedule(plan))
    sender = _Sender([_build_request(plan, serial, now) for serial in range(len(times_s))])
    await sender.open(plan.port, plan.connections)
    await sender.run(times_s)
    told = {str(serial): asdict(one) for serial, one in sender.sent.items()}
    sys.stdout.buffer.write(orjson.dumps(told))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
