"""Graph's answers, read."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_hub.cloud_api.error_codes import CODES
from whatsapp_hub.cloud_api.errors import (
    Scope,
    SendResult,
    Verdict,
    describe,
    read_failure,
    read_response,
    retry_delay_s,
)

GOOD = b'{"messaging_product":"whatsapp","contacts":[{"input":"49","wa_id":"49"}],"messages":[{"id":"wamid.A"}]}'


def graph_error(code: object, **more: object) -> bytes:
    return orjson.dumps(
        {"error": {"message": "+49 170 1234567 is wrong", "type": "OAuthException", "code": code, **more}}
    )


@pytest.mark.parametrize(
    ("status", "body", "wamid"),
    [
        (200, GOOD, "wamid.A"),
        (201, GOOD, "wamid.A"),
        (200, GOOD[:40], None),
        (200, b"", None),
        (200, b"<html>", None),
        (200, b"[]", None),
        (200, b'{"messages":[]}', None),
        (200, b'{"messages":[{"id":5}]}', None),
        (200, b'{"messages":"text"}', None),
        (200, graph_error(190), None),
    ],
)
def test_any_2xx_means_sent(status: int, body: bytes, wamid: str | None) -> None:
    assert read_response(status, body, None) == SendResult(verdict=Verdict.SENT, wamid=wamid)


@pytest.mark.parametrize(
    ("status", "code", "verdict", "wait_s"),
    [
        (401, 0, Verdict.HOLD, None),
        (401, 190, Verdict.HOLD, None),
        (403, 10, Verdict.HOLD, 300.0),
        (403, 200, Verdict.HOLD, 300.0),
        (403, 299, Verdict.HOLD, 300.0),
        (400, 131005, Verdict.HOLD, 300.0),
        (403, 368, Verdict.HOLD, 300.0),
        (403, 131031, Verdict.HOLD, 300.0),
        (400, 131048, Verdict.HOLD, 3600.0),
        (400, 33, Verdict.HOLD, 300.0),
        (503, 2, Verdict.RETRY, None),
        (400, 4, Verdict.RETRY, None),
        (429, 80007, Verdict.RETRY, None),
        (400, 130429, Verdict.RETRY, None),
        (500, 131000, Verdict.RETRY, None),
        (500, 131057, Verdict.RETRY, 60.0),
        (400, 131208, Verdict.RETRY, None),
        (400, 131207, Verdict.DEAD, None),
        (400, 100, Verdict.DEAD, None),
        (400, 131026, Verdict.DEAD, None),
        (400, 131047, Verdict.DEAD, None),
        (404, 132001, Verdict.DEAD, None),
    ],
)
def test_graphs_error_goes_by_its_code(status: int, code: int, verdict: Verdict, wait_s: float | None) -> None:
    result = read_response(status, graph_error(code), None)

    assert (result.verdict, result.code, result.retry_after_s) == (verdict, code, wait_s)


@pytest.mark.parametrize(
    ("status", "transient", "verdict"),
    [
        (401, False, Verdict.HOLD),
        (429, False, Verdict.RETRY),
        (500, False, Verdict.RETRY),
        (400, True, Verdict.RETRY),
        (400, False, Verdict.DEAD),
    ],
)
def test_unknown_code_goes_by_the_status(status: int, *, transient: bool, verdict: Verdict) -> None:
    assert read_response(status, graph_error(999_999, is_transient=transient), None).verdict is verdict


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (500, b"<html>oops</html>", Verdict.UNKNOWN),
        (502, b"", Verdict.UNKNOWN),
        (503, graph_error(2)[:30], Verdict.UNKNOWN),
        (500, b'{"error":"a string"}', Verdict.UNKNOWN),
        (500, graph_error(None), Verdict.UNKNOWN),
        (500, graph_error(2**40), Verdict.UNKNOWN),
        (500, graph_error(True), Verdict.UNKNOWN),
        (302, b"", Verdict.RETRY),
        (403, b"blocked by the firewall", Verdict.RETRY),
        (404, b"", Verdict.RETRY),
        (429, b"", Verdict.RETRY),
    ],
)
def test_answer_that_is_not_graphs_is_no_verdict_on_the_message(status: int, body: bytes, verdict: Verdict) -> None:
    result = read_response(status, body, None)

    assert (result.verdict, result.code) == (verdict, None)


def test_code_may_be_a_string() -> None:
    assert read_response(401, graph_error("190"), None).code == 190


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        (131056, Scope.PAIR),
        (130429, Scope.NUMBER),
        (131057, Scope.NUMBER),
        (80007, Scope.ACCOUNT),
        (4, Scope.APP),
        (131016, None),
        (190, None),
    ],
)
def test_limit_names_whom_it_slows(code: int, scope: Scope | None) -> None:
    assert read_response(400, graph_error(code), None).scope is scope
    assert read_failure(code).scope is scope


@pytest.mark.parametrize(
    ("subcode", "reason"),
    [
        (463, "190 the access token expired"),
        ("467", "190 the access token is invalid"),
        (460, "190 the access token is invalid: the password was changed"),
        (99, "190 the access token expired or is invalid"),
        (None, "190 the access token expired or is invalid"),
        ({}, "190 the access token expired or is invalid"),
    ],
)
def test_subcode_says_what_became_of_the_token(subcode: object, reason: str) -> None:
    result = read_response(401, graph_error(190, error_subcode=subcode), None)

    assert (result.verdict, result.reason, result.retry_after_s) == (Verdict.HOLD, reason, None)


def test_error_data_may_be_a_text() -> None:
    body = graph_error(131047, error_data="More than 24 hours have passed", error_user_msg=None)

    assert read_response(400, body, None) == read_response(400, graph_error(131047), None)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda error: [error],
        lambda error: {"error": error},
        lambda error: {"error": [error["error"]]},
        lambda error: {"errors": [error["error"]]},
        lambda error: [{"error": {"message": "upstream", "error": error["error"]}}],
    ],
)
def test_error_that_something_wrapped_is_found(wrap: Callable[[Any], Any]) -> None:
    body = orjson.dumps(wrap(orjson.loads(graph_error(131056))))

    assert read_response(500, body, None).code == 131056


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_that_speaks_in_graphs_form_is_not_graph(status: int) -> None:
    result = read_response(status, graph_error(status), None)

    assert (result.verdict, result.code) == (Verdict.UNKNOWN, None)


def test_code_of_a_failed_status_means_what_it_means_in_an_answer() -> None:
    for code in CODES:
        assert read_failure(code) == read_response(400, graph_error(code), None)
    assert read_failure(7) == SendResult(
        verdict=Verdict.DEAD, code=7, reason="7 not a code that the hub knows", retry_after_s=None
    )


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), (" 2.5 ", 2.5), ("0", None), ("-3", None), ("nan", None), ("inf", None), ("999999", 3600.0)],
)
def test_retry_after_is_read(header: str, wait_s: float | None) -> None:
    assert read_response(429, graph_error(4), header).retry_after_s == wait_s
    assert read_response(429, b"", header).retry_after_s == wait_s


def test_retry_after_as_a_date_is_passed_over() -> None:
    assert read_response(429, graph_error(4), "Wed, 21 Oct 2026 07:28:00 GMT").retry_after_s is None


def test_graphs_own_words_are_not_repeated() -> None:
    result = read_response(400, graph_error(131047), None)

    assert "1234567" not in repr(result)
    assert result.reason == "131047 over 24 hours since the customer's last message"
    assert describe(131047) == result.reason
    assert describe(7) == "7 not a code that the hub knows"


@given(st.integers(0, 999), st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_every_answer_is_read(status: int, body: bytes, retry_after: str | None) -> None:
    result = read_response(status, body, retry_after)

    assert (result.verdict is Verdict.SENT) == (200 <= status < 300)


@given(st.integers(0, 2000), st.integers(0, 100))
def test_delay_stays_within_full_jitter(attempt: int, seed: int) -> None:
    result = SendResult(verdict=Verdict.RETRY)

    delay_s = retry_delay_s(result, attempt, Random(seed))

    assert 0 <= delay_s <= min(60.0, 2.0 ** min(max(attempt - 1, 0), 10))


@pytest.mark.parametrize(("attempt", "least_s"), [(1, 1), (2, 4), (3, 16), (4, 64), (9, 256)])
def test_pair_limit_waits_four_to_the_nth(attempt: int, least_s: float) -> None:
    result = read_failure(131056)

    assert least_s <= retry_delay_s(result, attempt, Random(1)) <= least_s * 1.25
    assert 0.01 * least_s <= retry_delay_s(result, attempt, Random(1), base_s=0.01) <= 0.0125 * least_s


@pytest.mark.parametrize(("attempt", "least_s"), [(1, 1), (2, 4), (3, 16), (4, 60), (9, 60)])
def test_service_that_is_down_is_given_four_to_the_nth_up_to_a_minute(attempt: int, least_s: float) -> None:
    assert least_s <= retry_delay_s(read_failure(2), attempt, Random(1)) <= least_s * 1.25


def test_retry_after_is_respected_and_spread() -> None:
    result = SendResult(verdict=Verdict.RETRY, retry_after_s=30.0)

    delays_s = {retry_delay_s(result, 3, Random(seed)) for seed in range(20)}

    assert min(delays_s) >= 30.0
    assert max(delays_s) <= 34.0
    assert len(delays_s) == 20
