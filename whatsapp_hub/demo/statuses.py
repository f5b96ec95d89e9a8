"""The statuses that follow an accepted message, as signed webhooks: batched and tried again, as Meta does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson

from whatsapp_hub.cloud_api.errors import describe
from whatsapp_hub.cloud_api.outgoing import is_bsuid
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.demo.faults import StatusPlan
from whatsapp_hub.demo.sends import Send

MAX_BATCH: Final = 100
MAX_POSTS: Final = 20
WINDOW_S: Final = 0.005
TRIES: Final = 60
MAX_DELAY_S: Final = 2.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Where webhooks go and what signs them."""

    url: str
    secret: bytes = field(repr=False)


class StatusSender:
    """Sends statuses when they are due. ``run`` has to run for that."""

    def __init__(self, target: WebhookTarget | None = None, *, max_batch: int = MAX_BATCH) -> None:
        self.target = target
        self.delivered = 0  #: statuses that were answered 200
        self.given_up = 0  #: statuses that were not, as often as they were tried
        self.on_taken: Callable[[Send, str], None] = lambda _send, _name: None  #: a status was answered 200
        self._max_batch = max_batch
        self._due: deque[tuple[Send, dict[str, Any]]] = deque()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(MAX_POSTS)

    def schedule(self, sent: Send, plan: StatusPlan) -> None:
        """Plan the statuses of a message that was accepted just now."""
        if self.target is None:
            return
        loop = asyncio.get_running_loop()
        for name, delay_s in plan.steps:
            for _ in range(plan.copies):
                loop.call_later(delay_s, self._mature, sent, name, plan)

    async def run(self) -> None:
        """Post what is due, until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, asyncio.TaskGroup() as posts:
            while True:
                await self._wake.wait()
                await asyncio.sleep(WINDOW_S)
                self._wake.clear()
                while self._due:
                    batch = [self._due.popleft() for _ in range(min(len(self._due), self._max_batch))]
                    await self._slots.acquire()
                    posts.create_task(self._deliver(session, batch))

    def _mature(self, sent: Send, name: str, plan: StatusPlan) -> None:
        self._due.append((sent, _status(sent, name, plan)))
        self._wake.set()

    async def _deliver(self, session: aiohttp.ClientSession, batch: list[tuple[Send, dict[str, Any]]]) -> None:
        body = build_status_webhook(batch)
        try:
            for attempt in range(TRIES):
                if self.target is not None and await post_webhook(session, self.target, body):
                    self.delivered += len(batch)
                    for sent, status in batch:
                        self.on_taken(sent, status["status"])
                    return
                await asyncio.sleep(min(0.05 * 2.0 ** min(attempt, 10), MAX_DELAY_S))
            self.given_up += len(batch)
        finally:
            self._slots.release()


async def post_webhook(session: aiohttp.ClientSession, target: WebhookTarget, body: bytes) -> bool:
    """Post one webhook, signed as Meta signs it; False unless it was answered 200."""
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, target.secret)}
    try:
        async with session.post(target.url, data=body, headers=headers) as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError):
        return False


def build_status_webhook(batch: list[tuple[Send, dict[str, Any]]]) -> bytes:
    """Return the body of one webhook with several statuses, a change for each phone number."""
    by_number: dict[str, list[dict[str, Any]]] = {}
    for sent, status in batch:
        by_number.setdefault(sent.phone_number_id, []).append(status)
    entries = [
        {
            "id": f"waba-{number}",
            "changes": [
                {
                    "field": "messages",
                    "value": {
                        "messaging_product": "whatsapp",
                        "metadata": {"display_phone_number": number, "phone_number_id": number},
                        "statuses": statuses,
                    },
                }
            ],
        }
        for number, statuses in by_number.items()
    ]
    return orjson.dumps({"object": "whatsapp_business_account", "entry": entries})


def _status(sent: Send, name: str, plan: StatusPlan) -> dict[str, Any]:
    status: dict[str, Any] = {"id": sent.wamid, "status": name, "timestamp": str(int(time.time()))}
    status["recipient_user_id" if is_bsuid(sent.customer) else "recipient_id"] = sent.customer
    if sent.callback:
        status["biz_opaque_callback_data"] = sent.callback
    if name == "failed":
        words = describe(plan.failed_code)
        status["errors"] = [
            {"code": plan.failed_code, "title": words, "message": words, "error_data": {"details": words}}
        ]
    return status
