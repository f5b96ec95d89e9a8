from __future__ import annotations

import pytest

from whatsapp_hub.inbox.erasable import Row, Whose, carries, read_customer

CUSTOMER, BSUID = "491700000001", "DE.13491208655302741918"
SHOP = Whose(business_id="1", numbers=("101",), account_id="waba", customer=CUSTOMER)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (CUSTOMER, CUSTOMER),
        (f" +{CUSTOMER} ", CUSTOMER),
        ("+49 170 000-0001", CUSTOMER),
        ("(49) 170.0000001", "491700000001"),
        (BSUID, BSUID),
        (f" {BSUID}\n", BSUID),
        ("DE.ENT.abc 1", "DE.ENT.abc 1"),
        ("+", ""),
        ("", ""),
    ],
)
def test_customer_is_written_as_meta_does(written: str, meant: str) -> None:
    assert read_customer(written) == meant


@pytest.mark.parametrize("item", [b'{"from":"491700000001"}', b'{"to":"+491700000001"}', b"491700000001"])
def test_item_carries_a_name(item: bytes) -> None:
    assert carries(item, ["somebody", CUSTOMER])


@pytest.mark.parametrize("item", [b"", b"4917000000011", b"1491700000001", b"x491700000001", b"{}"])
def test_part_of_a_longer_name_is_none(item: bytes) -> None:
    assert not carries(item, [CUSTOMER])


def test_no_name_is_carried_by_nothing() -> None:
    assert not carries(b"anything", [])


def test_name_is_no_pattern() -> None:
    assert not carries(b"DE_1", ["DE.1"])


@pytest.mark.parametrize(
    ("number", "item", "is_meant"),
    [
        ("101", b'"491700000001"', True),
        ("101", b'"491700000002"', False),
        (None, b'"101" "491700000001"', True),
        (None, b'"102" "491700000001"', False),
        (None, b'"101"', False),
    ],
)
def test_event_is_meant_where_it_carries_both(number: str | None, item: bytes, *, is_meant: bool) -> None:
    event = {"phone_number_id": number, "account_id": None, "item": item}
    assert SHOP.is_meant(event, [CUSTOMER]) is is_meant


@pytest.mark.parametrize("item", [b"", b"{", b"[]", b'{"from":1}', b"[" * 100_000])
def test_item_that_cannot_be_read_names_nobody_else(item: bytes) -> None:
    document = {"_id": "101:a", "conversation": f"101:{CUSTOMER}", "state": "done", "stage": "new", "epoch": 1}
    assert Row.from_document({**document, "item": item}).names == {CUSTOMER}


def test_customer_does_not_show() -> None:
    assert CUSTOMER not in repr(SHOP)
