"""What Graph's answer to a send means, and when to try again (pure).

The codes are Meta's (support/error-codes); build on the code, never on titles or HTTP statuses, which vary. Graph's own
messages can hold phone numbers, so what this module says about an error is in its own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from random import Random
from typing import Any, Final

import orjson


class Verdict(StrEnum):
    """What became of a send, by what to do next."""

    SENT = "sent"  #: Graph took it; that it cannot be delivered may still come as a ``failed`` status
    RETRY = "retry"  #: certainly not sent; try again
    HOLD = "hold"  #: certainly not sent, and nothing can be sent for this business until somebody acts
    DEAD = "dead"  #: certainly not sent, and trying again would not help
    UNKNOWN = "unknown"  #: may have been sent


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """The outcome of one send."""

    verdict: Verdict
    wamid: str | None = None  #: Meta's id of what was sent; None even for ``SENT`` where the answer could not be read
    code: int | None = None  #: Graph's error code
    reason: str = ""  #: why not, safe to log and to show
    #: Not before that. With ``HOLD``: the same token may work again by then; None there: only another token will.
    retry_after_s: float | None = None
    pair_limited: bool = False  #: too many messages to this one customer: others are not affected


MAX_RETRY_AFTER_S: Final = 3600.0
_LOOK_AGAIN_S: Final = 300.0
_PAIR_LIMIT: Final = 131056
_MAX_PAIR_EXPONENT: Final = 4  # 256 s: the longest burst that Meta allows is paid back in less
_MAX_CODE: Final = 2**31

_CODES: Final[dict[int, tuple[Verdict, str]]] = {
    0: (Verdict.HOLD, "cannot authenticate"),
    1: (Verdict.RETRY, "unknown error or bad request"),
    2: (Verdict.RETRY, "service down or overloaded"),
    3: (Verdict.HOLD, "permission missing or removed"),
    4: (Verdict.RETRY, "the app's call rate limit"),
    10: (Verdict.HOLD, "permission missing or removed"),
    33: (Verdict.HOLD, "the phone number id is deleted or wrong"),
    100: (Verdict.DEAD, "a parameter is wrong"),
    190: (Verdict.HOLD, "the access token expired or is invalid"),
    368: (Verdict.HOLD, "blocked for policy violations"),
    613: (Verdict.RETRY, "call rate limit"),
    80007: (Verdict.RETRY, "the WhatsApp Business Account's rate limit"),
    130429: (Verdict.RETRY, "the number's throughput is reached"),
    130472: (Verdict.DEAD, "the customer is part of an experiment of Meta's"),
    130497: (Verdict.DEAD, "the business may not write to this country"),
    131000: (Verdict.RETRY, "something went wrong at Meta"),
    131005: (Verdict.HOLD, "permission missing or removed"),
    131008: (Verdict.DEAD, "a parameter is missing"),
    131009: (Verdict.DEAD, "a parameter's value is invalid"),
    131016: (Verdict.RETRY, "service unavailable"),
    131020: (Verdict.DEAD, "the group has a single member"),
    131021: (Verdict.DEAD, "the recipient is the sender"),
    131026: (Verdict.DEAD, "undeliverable: no WhatsApp, blocked, or too old an app"),
    131030: (Verdict.DEAD, "the recipient is not on the test number's list"),
    131031: (Verdict.HOLD, "the account is locked"),
    131037: (Verdict.HOLD, "the number's display name is not approved"),
    131041: (Verdict.DEAD, "the group is not known"),
    131042: (Verdict.HOLD, "payment problem"),
    131044: (Verdict.HOLD, "payment problem"),
    131045: (Verdict.HOLD, "the number is not registered"),
    131047: (Verdict.DEAD, "over 24 hours since the customer's last message"),
    131048: (Verdict.HOLD, "the number's spam limit"),
    131049: (Verdict.DEAD, "held back by Meta for the health of its ecosystem"),
    131050: (Verdict.DEAD, "the customer stopped marketing messages"),
    131051: (Verdict.DEAD, "this kind of message is not supported"),
    131052: (Verdict.DEAD, "Meta could not fetch the media"),
    131053: (Verdict.DEAD, "the media cannot be used"),
    131056: (Verdict.RETRY, "too many messages to this customer"),
    131057: (Verdict.RETRY, "the account is under maintenance"),
    131062: (Verdict.DEAD, "this message needs a phone number, not a business-scoped user id"),
    131063: (Verdict.DEAD, "marketing templates are disabled"),
    131064: (Verdict.DEAD, "messaging limit after template violations"),
    131208: (Verdict.RETRY, "the group's rate limit"),
    132069: (Verdict.RETRY, "the flow is throttled"),
    133004: (Verdict.RETRY, "server temporarily unavailable"),
    133008: (Verdict.RETRY, "too many wrong PINs"),
    133010: (Verdict.HOLD, "the number is not registered"),
    133015: (Verdict.RETRY, "the number was deleted a moment ago"),
    133016: (Verdict.RETRY, "registered or deregistered too often"),
    135000: (Verdict.DEAD, "generic error of the message"),
    137000: (Verdict.DEAD, "the customer's identity key does not match"),
}
_RANGES: Final[tuple[tuple[range, Verdict, str], ...]] = (
    (range(200, 300), Verdict.HOLD, "permission missing or removed"),
    (range(131200, 131300), Verdict.DEAD, "group error"),
    (range(132000, 133000), Verdict.DEAD, "template or flow error"),
    (range(133000, 134000), Verdict.HOLD, "registration or PIN error"),
    (range(138000, 138100), Verdict.DEAD, "calling error"),
)
#: How long Meta says that it takes, where the answer itself does not tell.
_WAITS_S: Final = {131057: 60.0, 131048: MAX_RETRY_AFTER_S, 132069: 600.0, 133008: 600.0, 133015: 300.0, 133016: 600.0}
_TOKEN_CODES: Final = frozenset({0, 190})


def read_response(status: int, body: bytes, retry_after: str | None) -> SendResult:
    """Read Graph's answer to a send. ``body`` may be cut off, ``retry_after`` is the header.

    Any 2xx status line means sent, whatever is left of the body. An error in Graph's own form goes by its code.
    """
    if 200 <= status < 300:
        return SendResult(verdict=Verdict.SENT, wamid=_read_wamid(body))
    wait_s = _read_retry_after(retry_after)
    error = _read_error(body)
    code = _read_code(error)
    if error is None or code is None:
        return _judge_status(status, wait_s)
    verdict, words = _look_up(code) or _guess(status, transient=error.get("is_transient") is True)
    if wait_s is None:
        wait_s = _WAITS_S.get(code)
    if wait_s is None and verdict is Verdict.HOLD and code not in _TOKEN_CODES:
        wait_s = _LOOK_AGAIN_S
    return SendResult(
        verdict=verdict, code=code, reason=f"{code} {words}", retry_after_s=wait_s, pair_limited=code == _PAIR_LIMIT
    )


def describe(code: int) -> str:
    """Say what an error code means, of an answer or of a ``failed`` status, in words that are safe to show."""
    known = _look_up(code)
    return f"{code} {known[1]}" if known else f"{code} not a code that the hub knows"


def retry_delay_s(result: SendResult, attempt: int, rng: Random, *, base_s: float = 1.0, max_s: float = 60.0) -> float:
    """Return how long to wait after the ``attempt``-th try (from 1) failed with ``result``.

    Full jitter up to ``max_s``, on top of ``retry_after_s`` so that those who waited together do not come back
    together. For the limit of one pair Meta asks for 4^n seconds, n from 0: never less than that.
    """
    if result.pair_limited:
        backoff_s = base_s * 4.0 ** min(max(attempt, 1) - 1, _MAX_PAIR_EXPONENT) * rng.uniform(1, 1.25)
    else:
        backoff_s = rng.uniform(0, min(max_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 30)))
    return (result.retry_after_s or 0.0) + backoff_s


def _look_up(code: int) -> tuple[Verdict, str] | None:
    if known := _CODES.get(code):
        return known
    return next(((verdict, words) for codes, verdict, words in _RANGES if code in codes), None)


def _guess(status: int, *, transient: bool) -> tuple[Verdict, str]:
    """Judge a code that is not in the table: Graph did answer, so nothing was sent."""
    if status == 401:
        return Verdict.HOLD, "not a code that the hub knows, HTTP 401"
    retry = transient or status == 429 or status >= 500
    return (Verdict.RETRY if retry else Verdict.DEAD), f"not a code that the hub knows, HTTP {status}"


def _judge_status(status: int, wait_s: float | None) -> SendResult:
    """Judge an answer that is not Graph's own.

    A 5xx may come from a proxy that had passed the request on. A 3xx or 4xx refuses it, so nothing was sent; but it was
    something in front of Graph that refused (a proxy, a wrong base URL), which is no verdict on the message: try again.
    """
    if status >= 500:
        return SendResult(
            verdict=Verdict.UNKNOWN,
            reason=f"HTTP {status} without Graph's error: it may have been sent",
            retry_after_s=wait_s,
        )
    return SendResult(
        verdict=Verdict.RETRY,
        reason=f"HTTP {status} without Graph's error: check GRAPH_API_BASE_URL",
        retry_after_s=wait_s,
    )


def _read_wamid(body: bytes) -> str | None:
    try:
        wamid = orjson.loads(body)["messages"][0]["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return wamid if isinstance(wamid, str) and wamid else None


def _read_error(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else None


def _read_code(error: dict[str, Any] | None) -> int | None:
    code = error.get("code") if error else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < _MAX_CODE:
        return code
    return None


def _read_retry_after(header: str | None) -> float | None:
    """Read seconds; the other form, a date, is not to be had without a clock, and Graph does not send it."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER_S) if isfinite(seconds) and seconds > 0 else None
