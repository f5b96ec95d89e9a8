"""The customers of the playground, and Meta between them and the hub: signed webhooks, posted until they are taken."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.demo.graph import GraphStandIn
from whatsapp_hub.demo.playground.board import Board
from whatsapp_hub.demo.playground.picture import draw_sunset
from whatsapp_hub.demo.playground.records import Message
from whatsapp_hub.demo.playground.script import WRITTEN_HERE
from whatsapp_hub.demo.samples import SAMPLES, Sample
from whatsapp_hub.demo.speech import silence

MOST_TEXT: Final = 4096
BURST_MESSAGES: Final = 50
CROWD: Final = tuple(f"1555010{number:04}" for number in range(1001, 1011))
#: Meta tries again for days, and ever more rarely; nobody would look on for so long.
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 2.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_SAMPLES: Final[Mapping[str, Sample]] = {sample.sub_domain: sample for sample in SAMPLES}


class Customers:
    """Writes messages. Raises ``ValueError`` for what no page of ours asks."""

    def __init__(self, board: Board, graph: GraphStandIn, *, url: str, app_secret: str) -> None:
        """Post to this URL; ``run`` has to run for that."""
        self._board = board
        self._graph = graph
        self._url = url
        self._app_secret = app_secret.encode()
        self._outbox: asyncio.Queue[tuple[Message, bytes, bytes]] = asyncio.Queue()

    async def run(self) -> None:
        """Post what is written, all at once, until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, asyncio.TaskGroup() as posts:
            while True:
                posts.create_task(self._post(session, *await self._outbox.get()))

    def say(self, business: str, text: str, *, forged: bool = False) -> None:
        """Have a business's customer write something, signed by somebody else if it is ``forged``."""
        text = text.strip()
        if not 0 < len(text) <= MOST_TEXT:
            raise ValueError(f"a message has between 1 and {MOST_TEXT} characters")
        self._write(business, {"type": "text", "text": {"body": text}}, text, forged=forged)

    def press(self, business: str, name: str, title: str, reply_to: str) -> None:
        """Have a customer press a button of a reply."""
        pressed = {"type": "button_reply", "button_reply": {"id": name, "title": title}}
        context = {"from": find_sample(business).display_number, "id": reply_to}
        self._write(business, {"type": "interactive", "interactive": pressed, "context": context}, title)

    def show(self, business: str) -> None:
        """Have a customer send a picture."""
        media = self._graph.media.add(find_sample(business).phone_number_id, draw_sunset(), "image/png")
        self._write(business, {"type": "image", "image": media.part()}, "A sunset")

    def speak(self, business: str) -> None:
        """Have a customer send a voice note, in which the stand-in for a model hears the sample's question."""
        sample = find_sample(business)
        self._graph.model.speech.transcript = sample.question
        media = self._graph.media.add(sample.phone_number_id, silence(), "audio/ogg; codecs=opus")
        self._write(business, {"type": "audio", "audio": media.part(voice=True)}, "Voice note")

    def flood(self) -> None:
        """Have ten other customers write fifty messages to all businesses."""
        for number in range(BURST_MESSAGES):
            customer = CROWD[number % len(CROWD)]
            business = SAMPLES[number % len(CROWD) % len(SAMPLES)].sub_domain
            text = f"Order {number + 1}"
            self._write(business, {"type": "text", "text": {"body": text}}, text, customer=customer)

    def _write(
        self, business: str, content: Mapping[str, Any], text: str, *, customer: str = "", forged: bool = False
    ) -> None:
        sample, now = find_sample(business), time.time()
        message_id = f"{WRITTEN_HERE}{secrets.token_hex(10).upper()}"
        name = f"Customer {customer[-2:]}" if customer else ""
        body = sample.webhook_of(
            {"id": message_id, "timestamp": str(int(now)), **content}, customer=customer, name=name
        )
        message = Message(
            key=f"{sample.phone_number_id}:{message_id}",
            chat=None if customer else business,
            business=business,
            kind=str(content["type"]),
            text=text,
            at=now,
        )
        self._board.add(message)
        self._outbox.put_nowait((message, body, b"not the secret" if forged else self._app_secret))

    async def _post(self, session: aiohttp.ClientSession, message: Message, body: bytes, secret: bytes) -> None:
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, secret)}
        delay_s = _FIRST_DELAY_S
        while message.acked_at is None and not message.refused:
            message.posts += 1
            status = await _exchange(session, self._url, body, headers)
            if status == 200:
                message.acked_at = time.time()
            message.refused = status == 401
            self._board.touch(message)
            if status not in {200, 401}:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


def find_sample(business: str) -> Sample:
    """Return a sample business. Raises ``ValueError``."""
    if business not in _SAMPLES:
        raise ValueError("there is no such chat")
    return _SAMPLES[business]


async def _exchange(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status, 0 where there was no answer."""
    try:
        async with session.post(url, data=body, headers=headers) as response:
            return response.status
    except (aiohttp.ClientError, OSError):  # among them the end of the time
        return 0
