"""Webhooks as Meta sends them, signed, as the bytes of whole HTTP requests (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bench.plan import APP_SECRET, BACKLOG_CUSTOMERS, BACKLOG_NUMBERS, Plan
from whatsapp_hub.cloud_api.signature import sign

PATH: Final = "/whatsapp_response"
GUIDE_NUMBER: Final = "123456789"  # the phone number id in the deployment guide's load test
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
    held = [plan.customers + serial % BACKLOG_CUSTOMERS for serial in range(plan.backlog)]
    serials = range(plan.total - plan.backlog)
    if not plan.chatty:
        return held + [serial % quiet for serial in serials]
    return held + [quiet + rng.randrange(plan.chatty) if rng.random() < 0.1 else serial % quiet for serial in serials]


def choose_numbers(plan: Plan) -> Callable[[int], int]:
    """Return what tells which phone number a customer writes to; those of the backlog have numbers of their own."""
    numbers: Sequence[int] = range(plan.phone_numbers)
    if plan.zipf:
        weights = [1 / (rank + 1) for rank in numbers]
        numbers = Random(plan.seed).choices(numbers, weights, k=plan.customers)

    def number_of(customer: int) -> int:
        if customer >= plan.customers:
            return plan.phone_numbers + customer % BACKLOG_NUMBERS
        return numbers[customer % len(numbers)]

    return number_of


def build_body(serial: int, customer: int, number: int, *, now: int) -> bytes:
    """Return the webhook that brings the message with this serial number; the number stands in its text."""
    names = {"serial": serial, "customer": customer_name(customer), "number": phone_number_id(number), "now": now}
    return (_BODY % names).encode()


def build_request(serial: int, customer: int, number: int, *, host: str, now: int) -> bytes:
    """Return the signed request that brings it."""
    body = build_body(serial, customer, number, now=now)
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
