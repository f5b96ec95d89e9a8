"""API keys: how they look, who holds one, and what stands in a document."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from whatsapp_hub.tenants.api_keys import ApiKey, KeyTable, make_key, read_api_key
from whatsapp_hub.tenants.table import Row, Table

PLAIN, KEY = make_key(b"abcdef", bytes(32))
OTHER_PLAIN, OTHER = make_key(b"ghijkl", bytes(32))


@pytest.fixture
def holders() -> KeyTable:
    holders = KeyTable()
    holders.add("a", [KEY])
    holders.add("b", [OTHER])
    return holders


def row(name: str, *numbers: str, keys: tuple[ApiKey, ...] = (), enabled: bool = True) -> Row:
    return Row(
        id=f"id-{name}",
        sub_domain=name,
        account_id=None,
        phone_number_ids=numbers,
        enabled=enabled,
        app_secrets=None,
        verify_tokens=None,
        api_keys=keys,
    )


@pytest.fixture
def table() -> Table:
    return Table(app_secrets=(), verify_token=None, nobodys_secret=b"nobody")


def test_key_carries_its_id_and_is_stored_as_a_hash_of_the_whole() -> None:
    assert (PLAIN[:17], len(PLAIN), KEY.id) == ("whk_616263646566_", 60, "616263646566")
    assert KEY.hash == hashlib.sha256(PLAIN.encode()).hexdigest()
    assert KEY.hash not in repr(KEY)


@pytest.mark.parametrize(("identity", "secret"), [(b"", bytes(32)), (bytes(6), bytes(31))])
def test_key_of_too_little_chance_is_refused(identity: bytes, secret: bytes) -> None:
    with pytest.raises(ValueError, match="32"):
        make_key(identity, secret)


def test_key_is_found_with_its_holder(holders: KeyTable) -> None:
    assert (holders.find(PLAIN), holders.find(OTHER_PLAIN)) == (("a", KEY.id), ("b", OTHER.id))


@pytest.mark.parametrize(
    "given",
    ["", "whk_", PLAIN[:-1], PLAIN + "A", PLAIN[:-1] + "B", PLAIN[:17] + OTHER_PLAIN[17:-1] + "B", KEY.hash, "\udcff"],
)
def test_anything_else_is_nobodys(holders: KeyTable, given: str) -> None:
    assert holders.find(given) is None


def test_key_that_two_businesses_have_is_nobodys(holders: KeyTable) -> None:
    holders.add("c", [KEY])
    assert holders.find(PLAIN) is None
    holders.remove("c", [KEY])
    assert holders.find(PLAIN) == ("a", KEY.id)


def test_revoked_key_is_nobodys(holders: KeyTable) -> None:
    holders.remove("a", [KEY])
    assert holders.find(PLAIN) is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "",
        PLAIN,
        {},
        {"id": KEY.id},
        {"id": KEY.id, "hash": ""},
        {"id": KEY.id, "hash": PLAIN},
        {"id": "x", "hash": KEY.hash},
    ],
)
def test_entry_that_is_no_key_is_none(entry: object) -> None:
    assert read_api_key(entry) is None
    assert read_api_key({"id": KEY.id, "hash": KEY.hash, "label": 7}) == KEY


def test_tenant_is_what_its_row_says(table: Table) -> None:
    table.update([row("a", "1", "2", keys=(KEY,))])
    tenant = table.api_tenant(PLAIN)
    assert tenant is not None
    assert (tenant.id, tenant.sub_domain, tenant.enabled, tenant.key_id) == ("id-a", "a", True, KEY.id)
    assert tenant.phone_number_ids == tenant.own_phone_number_ids == ("1", "2")
    assert table.api_tenant(OTHER_PLAIN) is None


def test_changed_and_removed_rows_change_and_remove_their_keys(table: Table) -> None:
    table.update([row("a", "1", keys=(KEY,))])
    table.update([row("a", "1", keys=(OTHER,))])
    assert (table.api_tenant(PLAIN) is None, table.api_tenant(OTHER_PLAIN) is None) == (True, False)
    table.replace([])
    assert table.api_tenant(OTHER_PLAIN) is None


def test_number_that_another_business_is_served_with_is_not_its_own(table: Table) -> None:
    table.update([row("a", "1")])
    table.update([row("b", "1", "2", keys=(KEY,))])
    tenant = table.api_tenant(PLAIN)
    assert tenant is not None
    assert (tenant.phone_number_ids, tenant.own_phone_number_ids) == (("1", "2"), ("2",))


def test_subdomain_that_two_businesses_have_is_the_path_of_neither(table: Table) -> None:
    table.update([row("a", "1", keys=(KEY,)), replace(row("a", "2"), id="id-other")])
    tenant = table.api_tenant(PLAIN)
    assert tenant is not None
    assert tenant.sub_domain is None


def test_business_that_is_off_keeps_its_key_and_has_no_number_to_send_from(table: Table) -> None:
    table.update([row("a", "1", keys=(KEY,), enabled=False)])
    tenant = table.api_tenant(PLAIN)
    assert tenant is not None
    assert (tenant.enabled, tenant.own_phone_number_ids) == (False, ())
