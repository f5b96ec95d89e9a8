"""What the console says is wrong, how a business stands, and what to do next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from whatsapp_hub.conversation.holds import Hold, HoldKind
from whatsapp_hub.http.console.held import MOST_TOLD, HeldNumber, read_held, tell_held
from whatsapp_hub.http.console.standing import Circumstances, describe
from whatsapp_hub.http.console.troubles import MOST_OF_A_KIND, Trouble, find_troubles
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.table import Contest, Problem

NOW = datetime(2027, 1, 31, tzinfo=UTC)
REFUSED = HeldNumber(
    phone_number_id="101", business="acme", kind="refused", reason="the token was refused", needs_token=True
)
ACME = Business(
    id="1",
    name="Acme",
    sub_domain="acme",
    account_id=None,
    phone_number_ids=("101",),
    enabled=True,
    access_token="a token",
)
NOTHING = Circumstances(held=(), contests=(), problems=(), expiries={})


def troubles(**changes: Any) -> list[Trouble]:
    nothing: dict[str, Any] = {"reasons": (), "held": (), "dead": {}, "problems": (), "expiries": {}, "now": NOW}
    return find_troubles(**nothing | changes)


def test_nothing_is_wrong() -> None:
    assert troubles(dead={"acme": 0}, expiries={"acme": NOW + timedelta(days=60)}) == []


def test_refused_token_asks_for_another() -> None:
    (trouble,) = troubles(held=[REFUSED])
    assert (trouble.level, trouble.what) == ("bad", "acme cannot send: the token was refused.")
    assert trouble.next.endswith("Enter a new token with:")
    assert trouble.command == "whatsapp-hub business set-token acme"


def test_what_is_worst_comes_first() -> None:
    found = troubles(
        reasons=["the database does not answer"],
        held=[REFUSED],
        dead={"acme": 2, "bakery": 5},
        problems=[Problem(business="bakery", reason="wabaId is none")],
        expiries={"acme": NOW + timedelta(days=3)},
    )
    assert [trouble.what for trouble in found] == [
        "Webhooks are refused: the database does not answer.",
        "acme cannot send: the token was refused.",
        "7 messages were given up: bakery 5, acme 2.",
        "bakery: wabaId is none.",
        "acme: the access token expires in 3 days, on 2027-02-03.",
    ]
    assert [trouble.level for trouble in found] == ["bad", "bad", "warn", "warn", "warn"]
    assert all(trouble.command or trouble.page for trouble in found)


def test_what_is_held_is_not_told_a_second_time() -> None:
    assert len(troubles(held=[REFUSED], problems=[Problem(business="acme", reason=REFUSED.reason)])) == 1


def test_hundreds_of_a_kind_are_counted() -> None:
    held = [replace(REFUSED, phone_number_id=str(n), business=f"b{n}") for n in range(300)]
    found = troubles(held=held)
    assert len(found) == MOST_OF_A_KIND + 1
    assert found[-1].what == "290 more numbers are held."


def test_number_that_nobody_has_asks_for_its_business() -> None:
    nobody = replace(REFUSED, kind="unserved", business="other", reason="no business has this phone number")
    (trouble,) = troubles(held=[nobody])
    assert trouble.what == "Messages to phone number id 101 wait: no business has this phone number."
    assert trouble.command == "whatsapp-hub business add"


def test_business_stands_as_its_circumstances_say() -> None:
    def state(business: Business = ACME, **changes: Any) -> tuple[str, str | None]:
        found = describe(business, replace(NOTHING, **changes))
        return found["state"], found["why"]

    contest = Contest(phone_number_id="101", sub_domains=("acme", "bakery"), kept_by=None)
    assert state() == ("serving", None)
    assert state(held=[REFUSED]) == ("held", "the token was refused")
    assert state(held=[replace(REFUSED, business="bakery")]) == ("serving", None)
    assert state(contests=[contest]) == ("contested", "phone number id 101 is claimed by acme, bakery")
    assert state(contests=[replace(contest, kept_by="acme")]) == ("serving", None)
    assert state(problems=[Problem(business="acme", reason="wrong")]) == ("faulty", "wrong")
    assert state(replace(ACME, fault="whatsappAccessToken is missing")) == ("faulty", "whatsappAccessToken is missing")
    assert state(replace(ACME, enabled=False), held=[REFUSED]) == ("off", None)


def test_nothing_of_a_secret_is_shown() -> None:
    assert "a token" not in str(describe(ACME, NOTHING))


def test_who_needs_somebody_is_found() -> None:
    known = Circumstances(
        held=[REFUSED],
        contests=[Contest(phone_number_id="9", sub_domains=("x", "y"), kept_by="x")],
        problems=[Problem(business="bakery", reason="wrong")],
        expiries={"soon": NOW + timedelta(days=6), "late": NOW + timedelta(days=8)},
    )
    assert known.in_need(NOW) == {"acme", "x", "y", "bakery", "soon"}


def test_processes_tell_each_other_what_they_hold() -> None:
    def hold(number: int, again_at: float | None = None) -> Hold:
        kind, token = HoldKind.REFUSED, "a token"
        return Hold(kind=kind, reason="why", sub_domain=f"b{number}", token=token, again_at=again_at)

    here, there = tell_held({"1": hold(1), "2": hold(2, 5.0)}), tell_held({"2": hold(2, 5.0), "3": hold(3)})
    found = read_held([here, there, None, "nonsense", [{"phone_number_id": "4", "of": "another version"}, 5]])
    assert [(held.phone_number_id, held.needs_token) for held in found] == [("1", True), ("2", False), ("3", True)]
    assert "a token" not in str(here)
    assert len(tell_held({str(n): hold(n) for n in range(1000)})) == MOST_TOLD
