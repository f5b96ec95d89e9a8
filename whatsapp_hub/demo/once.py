"""``demo --once``: one webhook for each sample business, each followed until its reply was delivered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from whatsapp_hub.cloud_api.messages import FAILED_RANK, STATUS_RANKS
from whatsapp_hub.demo.hub_process import DemoFailed
from whatsapp_hub.demo.running import POLL_S, Demo, Webhook
from whatsapp_hub.demo.samples import SAMPLES, Sample
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.inbox.document import State

DELIVERY_TIMEOUT_S: Final = 30.0
_DELIVERED: Final = STATUS_RANKS["delivered"]
_FIELDS: Final = {"state": 1, "reason": 1, "parts.rank": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One question and its delivered reply. The field names are a contract."""

    business: str  #: its subdomain
    question: str
    reply: str
    ack_ms: float  #: from the webhook's start to its 200
    reply_ms: float  #: from the webhook's start until Graph had the reply


async def ask_once(demo: Demo) -> list[Answered]:
    """Write to every business at the same time. Raises ``DemoFailed`` with the reason where a reply does not come."""
    async with aiohttp.ClientSession() as session:
        results = await asyncio.gather(*(_ask(demo, session, sample) for sample in SAMPLES), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and all(isinstance(failure, DemoFailed) for failure in failures):
        raise DemoFailed("\n".join(map(str, failures)))
    if failures:
        raise failures[0]
    return [result for result in results if isinstance(result, Answered)]


async def _ask(demo: Demo, session: aiohttp.ClientSession, sample: Sample) -> Answered:
    webhook = demo.build_webhook(sample, sample.question)
    began, clock = time.time(), time.perf_counter()
    await _post(session, sample, webhook)
    ack_s = time.perf_counter() - clock
    await _wait_for_delivery(demo, sample, webhook)
    send = _find_send(demo, sample)
    return Answered(
        business=sample.sub_domain,
        question=sample.question,
        reply=send.text,
        ack_ms=round(ack_s * 1000, 1),
        reply_ms=round((send.time - began) * 1000, 1),
    )


async def _post(session: aiohttp.ClientSession, sample: Sample, webhook: Webhook) -> None:
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": webhook.signature}
    try:
        async with session.post(webhook.url, data=webhook.body, headers=headers) as response:
            status = response.status
    except aiohttp.ClientError as exc:
        raise DemoFailed(f"{sample.sub_domain}: its webhook was not answered ({type(exc).__name__}).") from exc
    if status != 200:
        raise DemoFailed(f"{sample.sub_domain}: its webhook was answered {status} instead of 200.")


async def _wait_for_delivery(demo: Demo, sample: Sample, webhook: Webhook) -> None:
    """Wait until the database says that every part was delivered, which a status webhook told the hub."""
    document: dict[str, Any] = {}
    try:
        async with asyncio.timeout(DELIVERY_TIMEOUT_S):
            while not _is_delivered(document):
                if document.get("state") == State.DEAD.value:
                    raise DemoFailed(f"{sample.sub_domain}: no reply: {document.get('reason')}.")
                await asyncio.sleep(POLL_S)
                document = await demo.database.inbox.find_one({"_id": webhook.key}, _FIELDS) or {}
    except TimeoutError:
        raise DemoFailed(
            f"{sample.sub_domain}: stored, but no reply was delivered within {DELIVERY_TIMEOUT_S:.0f} s"
            f" (its message is {document.get('state', 'not there')})."
        ) from None


def _is_delivered(document: dict[str, Any]) -> bool:
    ranks = [part["rank"] for part in document.get("parts", ())]
    is_done = document.get("state") == State.DONE.value
    return is_done and bool(ranks) and all(_DELIVERED <= rank < FAILED_RANK for rank in ranks)


def _find_send(demo: Demo, sample: Sample) -> Send:
    for send in demo.graph.log.accepted:
        if (send.phone_number_id, send.customer) == (sample.phone_number_id, sample.customer):
            return send
    raise DemoFailed(f"{sample.sub_domain}: delivered, but Graph was never asked to send it.")
