from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import replace

import pytest

from bench.client import find_end
from bench.plan import APP_SECRET, Plan
from bench.scenarios import ANSWERED, LOADS
from bench.webhooks import (
    build_request,
    choose_customers,
    choose_numbers,
    customer_name,
    find_serials,
    phone_number_id,
    schedule,
)
from whatsapp_hub.cloud_api.payload import read_webhook


def test_request_is_a_signed_webhook_that_the_hub_understands() -> None:
    request = build_request(42, 7, 2, host="127.0.0.1:1", now=1_762_074_000)
    head, _, body = request.partition(b"\r\n\r\n")
    (message,) = read_webhook(body, now=0, new_id=None).messages
    assert (message.phone_number_id, message.sender) == (phone_number_id(2), customer_name(7))
    assert message.timestamp == 1_762_074_000
    assert find_serials(message.item) == [42]
    signature = hmac.digest(APP_SECRET.encode(), body, "sha256").hex()
    assert f"X-Hub-Signature-256: sha256={signature}\r\n".encode() in head
    assert find_end(request) == len(request)


def test_every_message_has_an_id_of_its_own() -> None:
    bodies = [build_request(n, 0, 0, host="h", now=0).partition(b"\r\n\r\n")[2] for n in range(300)]
    assert len({read_webhook(body, now=0, new_id=None).messages[0].id for body in bodies}) == 300


def test_times_are_fixed_in_advance_and_the_same_for_both() -> None:
    plan = replace(ANSWERED.plan, rate=100.0, warm_up=1_000, measured=9_000)
    times = schedule(plan)
    assert times == schedule(plan) == sorted(times)
    assert len(times) == plan.total == 10_000
    assert times[-1] == pytest.approx(100.0, rel=0.05)


def test_chatty_customers_write_a_tenth_of_the_messages() -> None:
    plan = replace(LOADS[0].plan, customers=1_000, chatty=10)
    chatty = sum(customer >= 990 for customer in choose_customers(plan))
    assert chatty / plan.total == pytest.approx(0.1, rel=0.1)


def test_closed_loop_keeps_all_connections_busy_to_the_end_of_the_window() -> None:
    plan = Plan(
        unit="ack", rate=None, connections=5, warm_up=10, measured=100, customers=20, phone_numbers=1, prime=True
    )
    assert (plan.first, plan.total) == (30, 135)
    assert replace(plan, rate=1.0, prime=False).total == 110


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38),
        (b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhell", 0),
        (b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", 42),
        (b"HTTP/1.1 200 OK\r\nContent-Len", 0),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 27),
        (b"POST / HTTP/1.1\r\nHost: h\r\n\r\nContent-Length: 9", 28),
    ],
)
def test_end_of_a_message_is_found(data: bytes, end: int) -> None:
    assert find_end(data) == end


def test_backlog_goes_first_and_to_businesses_of_its_own() -> None:
    plan = replace(ANSWERED.plan, backlog=20_000, warm_up=10, measured=100)
    customers, number_of = choose_customers(plan), choose_numbers(plan)
    assert len(customers) == plan.total == 20_110
    assert len(set(customers[: plan.backlog])) == plan.held_conversations
    assert min(number_of(customer) for customer in customers[: plan.backlog]) >= plan.phone_numbers
    assert max(number_of(customer) for customer in customers[plan.held :]) < plan.phone_numbers


def test_few_businesses_have_most_customers_by_zipfs_law() -> None:
    plan = replace(ANSWERED.plan, zipf=True, customers=20_000, phone_numbers=1_000)
    number_of = choose_numbers(plan)
    counts = Counter(number_of(customer) for customer in range(plan.customers))
    first, second = (count for _, count in counts.most_common(2))
    assert first / plan.customers == pytest.approx(0.134, rel=0.1)  # 1 / (1 + 1/2 + ... + 1/1000)
    assert first / second == pytest.approx(2, rel=0.15)
