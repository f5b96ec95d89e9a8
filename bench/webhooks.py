"""Webhooks as Meta sends them, signed, as the bytes of whole HTTP requests (pure)."""

from __future__ import annotations

import re
from random import Random
from typing import Final

from bench.plan import APP_SECRET, Plan
from whatsapp_hub.cloud_api.signature import sign

PATH: Final = "/whatsapp_response"
_SERIAL: Final = re.compile(rb"#(\d+)")
_BODY: Final = (
    '{"object":"whatsapp_business_account","entry":[{"id":"waba%(number)s","changes":[{"value":{"messaging_product":'
    '"whatsapp","metadata":{"display_phone_number":"15550%(number)s","phone_number_id":"%(number)s"},"contacts":'
    '[{"profile":{"name":"Maria Sample"},"wa_id":"%(customer)s"}],"messages":[{"from":"%(customer)s","id":'
    '"wamid.HBgNNDkxNTAwMDAwMDAwMFVIAEhgWM0VCMDdE%(serial)020X","timestamp":"%(now)d","text":{"body":"Good morning! '
    'When will my order #%(serial)d arrive, and can I still change the address?"},"type":"text"}]},"field":"messages"'
    "}]}]}"
)
_HEAD: Final = (
    "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nUser-Agent: facebookexternalua\r\n"
    "Content-Type: application/json\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n"
)


def phone_number_id(index: int) -> str:
    """Name the phone number of the business with this index."""
    return f"1060000000{index:05d}"


def customer_name(index: int) -> str:
    """Name a customer."""
    return f"49151{index:08d}"


def choose_customers(plan: Plan) -> list[int]:
    """Return who writes each message: all in turn, but a tenth of the messages comes from the chatty ones."""
    rng = Random(plan.seed)
    quiet = plan.customers - plan.chatty
    if not plan.chatty:
        return [serial % quiet for serial in range(plan.total)]
    return [
        quiet + rng.randrange(plan.chatty) if rng.random() < 0.1 else serial % quiet for serial in range(plan.total)
    ]


def build_request(serial: int, customer: int, *, phone_numbers: int, host: str, now: int) -> bytes:
    """Return the request that brings the message with this serial number; the number stands in its text."""
    number = phone_number_id(customer % phone_numbers)
    names = {"serial": serial, "customer": customer_name(customer), "number": number, "now": now}
    body = (_BODY % names).encode()
    head = _HEAD % (PATH, host, sign(body, APP_SECRET.encode()), len(body))
    return head.encode() + body


def find_serials(text: bytes) -> list[int]:
    """Return the serial numbers that stand in a text."""
    return [int(serial) for serial in _SERIAL.findall(text)]


def schedule(plan: Plan) -> list[float]:
    """Return when each message is sent, in seconds from the start: at the plan's rate, independent of each other."""
    assert plan.rate is not None
    rng = Random(plan.seed)
    times: list[float] = []
    at = 0.0
    for _ in range(plan.warm_up + plan.measured):
        times.append(at)
        at += rng.expovariate(plan.rate)
    return times
