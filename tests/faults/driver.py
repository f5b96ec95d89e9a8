"""The customers, and Meta between them and us: signed webhooks, delivered again until they are answered 200."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Final

import aiohttp
import orjson

from tests.faults.history import Delivery, Message
from tests.hub import SECRET, text_message, webhook_of
from tests.leaks import LEAKS
from whatsapp_hub.cloud_api.signature import sign

PATH: Final = "/whatsapp_response"
TRY_TIMEOUT_S: Final = 5.0
FIRST_DELAY_S: Final = 0.05
MAX_DELAY_S: Final = 1.0
WORD: Final = LEAKS.seed("Rosenquarz")  #: stands in every text, and must stand in no log
MAX_CONNECTIONS: Final = 1000


@dataclass(slots=True, kw_only=True, eq=False)
class _Spoken:
    """A message while it is under way."""

    message: Message
    body: bytes
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        return any(delivery.status == 200 for delivery in self.deliveries)

    def seen(self) -> Message:
        acks = [delivery.ended_at for delivery in self.deliveries if delivery.status == 200]
        tries = tuple(sorted(self.deliveries, key=lambda delivery: delivery.began_at))
        return replace(self.message, acked_at=min(acks, default=None), deliveries=tries)


class Driver:
    """Says things as customers and keeps a record of them."""

    def __init__(self, client: aiohttp.ClientSession, urls: Sequence[str] = (), *, rng: Random | None = None) -> None:
        self.urls = urls  #: asked in turn
        self._client = client
        self._rng = rng or Random(0)
        self._spoken: list[_Spoken] = []
        self._turn = count()
        self._labels: dict[tuple[str, str], Iterator[str]] = {}  # of each conversation
        self._redelivers = True

    @property
    def messages(self) -> list[Message]:
        """All messages that were said, as far as they have come."""
        return [spoken.seen() for spoken in self._spoken]

    @property
    def acknowledged(self) -> int:
        """How many messages were answered 200."""
        return sum(spoken.acknowledged for spoken in self._spoken)

    @property
    def refused(self) -> int:
        """How many tries were not answered 200."""
        return sum(delivery.status != 200 for spoken in self._spoken for delivery in spoken.deliveries)

    def recent(self, most: int) -> list[Message]:
        """Return the last messages that were said."""
        return [spoken.message for spoken in self._spoken[-most:]]

    async def say(
        self,
        number: str,
        customer: str,
        *,
        text: str | None = None,
        label: str | None = None,
        timestamp: int | None = None,
        wamid: str | None = None,
        copies: int = 1,
    ) -> Message:
        """Have a customer write something, ``copies`` times at once; return when it was acknowledged.

        The label goes before the text.
        """
        spoken = self._begin(number, customer, text, label, timestamp, wamid)
        await self._deliver_copies(spoken, copies)
        return spoken.seen()

    async def replay(self, message: Message, copies: int = 1) -> None:
        """Deliver an old message again, byte for byte."""
        spoken = next(spoken for spoken in self._spoken if spoken.message.key == message.key)
        await self._deliver_copies(spoken, copies)

    async def converse(
        self,
        *,
        numbers: Sequence[str],
        customers: int,
        rate_per_s: float,
        for_s: float,
        words: Callable[[Random], str] | None = None,
        copies: Callable[[Random], int] = lambda _: 1,
        first_customer: int = 0,
    ) -> None:
        """Have customers write at random, ``rate_per_s`` in all, each only after its last message was acknowledged."""
        idle = [(numbers[index % len(numbers)], name_customer(first_customer + index)) for index in range(customers)]
        ends_at = time.monotonic() + for_s
        due = time.monotonic()

        async def speak(number: str, customer: str, text: str | None, copies: int) -> None:
            await self.say(number, customer, text=text, copies=copies)
            idle.append((number, customer))

        async with asyncio.TaskGroup() as group:
            while (due := due + self._rng.expovariate(rate_per_s)) < ends_at:
                await asyncio.sleep(max(due - time.monotonic(), 0))
                if idle:
                    number, customer = idle.pop(self._rng.randrange(len(idle)))
                    text = words(self._rng) if words else None
                    group.create_task(speak(number, customer, text, copies(self._rng)))

    def stop_redelivering(self) -> None:
        """Give up on whatever has not been acknowledged."""
        self._redelivers = False

    def _begin(
        self,
        number: str,
        customer: str,
        text: str | None,
        label: str | None,
        timestamp: int | None,
        wamid: str | None,
    ) -> _Spoken:
        label = label or self._next_label(number, customer)
        wamid = wamid or f"wamid.{label.replace('#', '.')}"
        stamp = int(time.time()) if timestamp is None else timestamp
        content = f"{label} {WORD}" if text is None else f"{label} {WORD} {text}"
        item = text_message(content, wamid=wamid, sender=customer, timestamp=str(stamp))
        message = Message(
            number=number,
            customer=customer,
            wamid=wamid,
            label=label,
            timestamp=stamp,
            sent_at=time.monotonic(),
            acked_at=None,
            deliveries=(),
        )
        spoken = _Spoken(message=message, body=orjson.dumps(webhook_of(item, number=number)))
        self._spoken.append(spoken)
        return spoken

    def _next_label(self, number: str, customer: str) -> str:
        labels = self._labels.get((number, customer))
        if labels is None:
            labels = self._labels[number, customer] = map(f"c{len(self._labels)}#{{}}".format, count())
        return next(labels)

    async def _deliver_copies(self, spoken: _Spoken, copies: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(copies):
                group.create_task(self._deliver(spoken))

    async def _deliver(self, spoken: _Spoken) -> None:
        delay_s = FIRST_DELAY_S
        while (await self._try(spoken)).status != 200 and self._redelivers:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)

    async def _try(self, spoken: _Spoken) -> Delivery:
        began_at = time.monotonic()
        status, retry_after, body = await self._post(spoken.body)
        delivery = Delivery(
            began_at=began_at, ended_at=time.monotonic(), status=status, retry_after=retry_after, body=body
        )
        spoken.deliveries.append(delivery)
        return delivery

    async def _post(self, body: bytes) -> tuple[int, bool, str]:
        url = self.urls[next(self._turn) % len(self.urls)] + PATH
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, SECRET.encode())}
        timeout = aiohttp.ClientTimeout(total=TRY_TIMEOUT_S)
        try:
            async with self._client.post(url, data=body, headers=headers, timeout=timeout) as response:
                return response.status, "Retry-After" in response.headers, await response.text()
        except (aiohttp.ClientError, OSError):
            return 0, False, ""


def name_customer(index: int) -> str:
    """Return a customer's phone number."""
    return f"4917{index:08d}"
