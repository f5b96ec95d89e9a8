from __future__ import annotations

import random
from dataclasses import replace

import pytest

from whatsapp_hub.tenants.business import WebhookKeys
from whatsapp_hub.tenants.table import Contest, Problem, Row, Table

NOBODYS = b"nobody knows this"


@pytest.fixture
def table() -> Table:
    return Table(app_secrets=(b"shared", b"rotated"), verify_token="fallback", nobodys_secret=NOBODYS)


def row(name: str, *numbers: str, own: bytes | None = None, enabled: bool = True) -> Row:
    return Row(
        id=f"id-{name}",
        sub_domain=name,
        account_id=f"waba-{name}",
        phone_number_ids=numbers,
        enabled=enabled,
        app_secrets=None if own is None else (own,),
        verify_tokens=None,
    )


def numbers_of(table: Table, sub_domain: str) -> set[str]:
    keys = table.keys(sub_domain)
    assert keys is not None
    assert keys.only_phone_number_ids is not None
    return set(keys.only_phone_number_ids)


def test_shared_path_takes_the_shared_secrets(table: Table) -> None:
    assert table.keys(None) == WebhookKeys(app_secrets=(b"shared", b"rotated"), verify_token="fallback")


def test_business_without_an_own_secret_takes_the_shared_ones(table: Table) -> None:
    table.update([row("a", "1")])

    assert table.keys("a") == WebhookKeys(app_secrets=(b"shared", b"rotated"), verify_token="fallback", sub_domain="a")


def test_own_secret_counts_alone_and_only_for_own_numbers(table: Table) -> None:
    table.update([row("a", "1", "2", own=b"mine"), row("b", "3", own=b"theirs")])

    assert table.keys("a") == WebhookKeys(
        app_secrets=(b"mine",),
        verify_token="fallback",
        only_phone_number_ids=frozenset({"1", "2"}),
        only_account_id="waba-a",
        sub_domain="a",
    )
    assert table.keys("b") == WebhookKeys(
        app_secrets=(b"theirs",),
        verify_token="fallback",
        only_phone_number_ids=frozenset({"3"}),
        only_account_id="waba-b",
        sub_domain="b",
    )


@pytest.mark.parametrize("sub_domain", ["", "nobody", "A"])
def test_unknown_subdomain_has_no_keys(table: Table, sub_domain: str) -> None:
    table.update([row("a", "1"), replace(row("x", "9"), sub_domain=None)])

    assert table.keys(sub_domain) is None


def test_unreadable_own_secret_leaves_nothing_that_verifies(table: Table) -> None:
    """Nor may it look as if no secret were set: an unsigned hub would let everything pass."""
    table.update([replace(row("a", "1"), app_secrets=())])
    keys = table.keys("a")

    assert keys is not None
    assert keys.app_secrets == (NOBODYS,)


def test_own_verify_token_wins_and_an_unreadable_one_closes_the_handshake(table: Table) -> None:
    table.update([replace(row("a"), verify_tokens=("mine",)), replace(row("b"), verify_tokens=())])

    assert [keys.verify_token for keys in map(table.keys, "ab") if keys] == ["mine", None]


def test_switched_off_business_keeps_its_keys(table: Table) -> None:
    table.update([row("a", "1", own=b"mine", enabled=False)])

    assert numbers_of(table, "a") == {"1"}


def test_own_secret_does_not_sign_for_a_number_that_another_is_served_with(table: Table) -> None:
    table.update([row("a", "1", own=b"mine", enabled=False), row("b", "1", own=b"theirs")])

    assert numbers_of(table, "a") == set()
    assert numbers_of(table, "b") == {"1"}


def test_who_had_a_number_alone_keeps_it_when_another_claims_it(table: Table) -> None:
    table.update([row("a", "1", own=b"mine")])
    table.update([row("b", "1", "2", own=b"theirs")])

    assert table.owner("1") == "id-a"
    assert numbers_of(table, "b") == {"2"}


def test_claims_that_were_read_together_have_no_keeper(table: Table) -> None:
    table.replace([row("a", "1", own=b"mine"), row("b", "1", own=b"theirs")])

    assert table.owner("1") is None
    assert numbers_of(table, "a") == numbers_of(table, "b") == {"1"}
    assert table.contests() == [Contest(phone_number_id="1", sub_domains=("a", "b"), kept_by=None)]


def test_keeper_that_the_database_names_is_heard(table: Table) -> None:
    table.replace([row("a", "1", own=b"mine"), row("b", "1", own=b"theirs")])
    assert numbers_of(table, "a") == {"1"}
    assert table.sub_domain_of("1") == "a"

    table.set_keeper("1", "id-b")

    assert table.sub_domain_of("1") == "b"
    assert table.contests() == [Contest(phone_number_id="1", sub_domains=("a", "b"), kept_by="b")]
    assert numbers_of(table, "a") == set()
    assert numbers_of(table, "b") == {"1"}


def test_contest_ends_with_the_claim(table: Table) -> None:
    table.replace([row("a", "1"), row("b", "1")])
    table.set_keeper("1", "id-b")
    table.update([row("b", "1", enabled=False)])

    assert table.contests() == []
    assert table.owner("1") == "id-a"


def test_change_touches_old_and_new_numbers_and_names(table: Table) -> None:
    table.update([row("a", "1", "2")])
    touched = table.update([replace(row("a", "2", "3"), sub_domain="renamed")])

    assert touched.phone_number_ids == {"1", "2", "3"}
    assert touched.sub_domains == {"a", "renamed"}
    assert table.keys("a") is None
    assert table.keys("renamed") is not None


def test_removal_takes_keys_and_claims_away(table: Table) -> None:
    table.update([row("a", "1")])
    assert table.keys("a") is not None

    touched = table.update((), removed=["id-a", "id-unknown"])

    assert touched.phone_number_ids == {"1"}
    assert table.keys("a") is None
    assert table.claimants("1") == []
    assert len(table) == 0


def test_replacing_touches_only_what_differs(table: Table) -> None:
    table.replace([row("a", "1"), row("b", "2"), row("c", "3")])
    touched = table.replace([row("a", "1"), row("b", "4"), row("d", "5")])

    assert touched.phone_number_ids == {"2", "4", "3", "5"}
    assert touched.sub_domains == {"b", "c", "d"}


def test_subdomain_of_two_businesses_is_closed_and_reported(table: Table) -> None:
    table.update([row("a", "1", own=b"mine"), replace(row("b", "2", own=b"theirs"), sub_domain="a")])

    assert table.keys("a") is None
    assert table.problems() == {
        Problem(business="a", reason="several businesses have this subdomain: its path is closed")
    }

    table.update((), removed=["id-b"])

    assert table.keys("a") is not None
    assert table.problems() == frozenset()


def test_subdomain_of_one_switched_on_business_is_open(table: Table) -> None:
    table.update([row("a", "1", own=b"mine"), replace(row("b", "2", enabled=False), sub_domain="a")])

    assert numbers_of(table, "a") == {"1"}
    assert table.problems() == frozenset()


def test_problems_name_faults_and_contests(table: Table) -> None:
    table.update([replace(row("a", "1"), faults=("broken",)), row("b", "1")])

    assert {(problem.business, problem.reason.partition(":")[0]) for problem in table.problems()} == {
        ("a", "broken"),
        ("a, b", "phone number id 1 is claimed by several businesses (a, b)"),
    }


@pytest.mark.parametrize("seed", range(20))
def test_any_way_to_the_same_rows_gives_the_same_keys(seed: int) -> None:
    """Updates, removals and whole replacements in any order leave nothing behind."""
    rng = random.Random(seed)
    names, numbers = "abcd", "12345"

    def some_row(name: str) -> Row:
        made = row(
            name,
            *rng.sample(numbers, rng.randint(0, 3)),
            own=rng.choice([None, name.encode()]),
            enabled=rng.random() < 0.7,
        )
        return replace(made, sub_domain=rng.choice([name, "e"]), faults=rng.choice([(), ("broken",)]))

    def make() -> Table:
        return Table(app_secrets=(b"s",), verify_token=None, nobodys_secret=NOBODYS)

    walked, rows = make(), dict[str, Row]()
    for _ in range(60):
        name = rng.choice(names)
        if rng.random() < 0.3:
            rows.pop(f"id-{name}", None)
            walked.update((), removed=[f"id-{name}"])
        else:
            rows[f"id-{name}"] = made = some_row(name)
            walked.update([made])
        walked.keys(rng.choice(names))
        walked.sub_domain_of(rng.choice(numbers))
    fresh = make()
    fresh.replace(rows.values())
    for number in numbers:
        for each in (walked, fresh):
            each.set_keeper(number, None)

    assert [walked.keys(name) for name in (*names, "e")] == [fresh.keys(name) for name in (*names, "e")]
    assert [*map(walked.sub_domain_of, numbers)] == [*map(fresh.sub_domain_of, numbers)]
    assert walked.problems() == fresh.problems()
    assert walked.contests() == fresh.contests()
