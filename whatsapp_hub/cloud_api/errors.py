"""What Graph's answer to a send means, and when to try again (pure).

Build on the code, never on titles or HTTP statuses, which vary; what each code means stands in ``error_codes``. Graph's
own messages can hold phone numbers, so what is said about an error is in our words.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from random import Random
from typing import Any, Final

import orjson

from whatsapp_hub.cloud_api.error_codes import (
    HOUR_S,
    LOOK_AGAIN_S,
    ErrorCode,
    Scope,
    Verdict,
    describe,
    look_up,
)

__all__ = ["Scope", "SendResult", "Verdict", "describe", "read_failure", "read_response", "retry_delay_s"]


_UNKNOWN_FAILURE: Final = ErrorCode(verdict=Verdict.DEAD, words="")


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """The outcome of one send."""

    verdict: Verdict
    wamid: str | None = None  #: Meta's id of what was sent; None even for ``SENT`` where the answer could not be read
    code: int | None = None  #: Graph's error code
    reason: str = ""  #: why not, safe to log and to show
    #: Not before that. With ``HOLD``: the same token may work again by then; None there: only another token will.
    retry_after_s: float | None = None
    scope: Scope | None = None  #: whom it slows beside this message
    few_tries: bool = False  #: it says so little that it is tried a few times only
    steep: bool = False  #: Meta asks for 4^n seconds


MAX_RETRY_AFTER_S: Final = HOUR_S
_MAX_STEEP_EXPONENT: Final = 4  # 256 s: the longest burst that Meta allows to one customer is paid back in less
_MAX_CODE: Final = 2**31
_MAX_DEPTH: Final = 3


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
    known = look_up(code)
    if known is not None:
        return _result_of(known, describe(code, _read_subcode(error)), code, wait_s)
    if code == status:
        # The form is Graph's, but no code of Meta's: proxies and gateways put the status there.
        return _judge_status(status, wait_s)
    guess = _guess(status, transient=error.get("is_transient") is True)
    return _result_of(guess, f"{code} {guess.words}", code, wait_s)


def read_failure(code: int) -> SendResult:
    """Read the code of a ``failed`` status, which means the same as in an answer."""
    return _result_of(look_up(code) or _UNKNOWN_FAILURE, describe(code), code, None)


def retry_delay_s(result: SendResult, attempt: int, rng: Random, *, base_s: float = 1.0, max_s: float = 60.0) -> float:
    """Return how long to wait after the ``attempt``-th try (from 1) failed with ``result``.

    Full jitter up to ``max_s``, on top of ``retry_after_s`` so that those who waited together do not come back
    together. Where Meta asks for 4^n seconds, n from 0, never less than that; but while its service is down ``max_s``
    bounds that too, so that nobody waits for minutes when it is up again.
    """
    if result.steep:
        backoff_s = base_s * 4.0 ** min(max(attempt, 1) - 1, _MAX_STEEP_EXPONENT)
        if result.scope is not Scope.PAIR:
            backoff_s = min(backoff_s, max_s)
        backoff_s *= rng.uniform(1, 1.25)
    else:
        backoff_s = rng.uniform(0, min(max_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 30)))
    return (result.retry_after_s or 0.0) + backoff_s


def _result_of(meaning: ErrorCode, reason: str, code: int, wait_s: float | None) -> SendResult:
    return SendResult(
        verdict=meaning.verdict,
        code=code,
        reason=reason,
        retry_after_s=meaning.wait_s if wait_s is None else wait_s,
        scope=meaning.scope,
        few_tries=meaning.few_tries,
        steep=meaning.steep,
    )


def _guess(status: int, *, transient: bool) -> ErrorCode:
    """Judge a code that is not in the table: Graph did answer, so nothing was sent."""
    words = f"not a code that the hub knows, HTTP {status}"
    if status == 401:
        return ErrorCode(verdict=Verdict.HOLD, words=words, wait_s=LOOK_AGAIN_S)
    retry = transient or status == 429 or status >= 500
    return ErrorCode(verdict=Verdict.RETRY if retry else Verdict.DEAD, words=words)


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
    """Find the error, also in a list or a further ``error``: gateways have been seen to wrap it."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    for _ in range(_MAX_DEPTH):
        if isinstance(found, list):
            found = found[0] if found else None
        if not isinstance(found, dict):
            return None
        inner = found.get("error", found.get("errors"))
        if inner is None:
            return None
        if isinstance(inner, list):
            inner = inner[0] if inner else None
        if isinstance(inner, dict) and _read_code(inner) is not None:
            return inner
        found = inner
    return None


def _read_code(error: dict[str, Any] | None) -> int | None:
    return _read_number(error.get("code")) if error else None


def _read_subcode(error: dict[str, Any]) -> int | None:
    return _read_number(error.get("error_subcode"))


def _read_number(code: object) -> int | None:
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
