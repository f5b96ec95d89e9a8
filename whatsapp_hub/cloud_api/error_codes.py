"""Meta's error codes: what each means, what follows from it, and whom it concerns (pure).

The codes are Meta's (support/error-codes); they come in the answer to a send, in a ``failed`` status, or in both. One
table serves both. ``docs/errors.md`` tells operators what to do about each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """What became of a send, by what to do next."""

    SENT = "sent"  #: Graph took it; that it cannot be delivered may still come as a ``failed`` status
    RETRY = "retry"  #: certainly not sent; try again
    HOLD = "hold"  #: certainly not sent, and nothing can be sent for this business until somebody acts
    DEAD = "dead"  #: certainly not sent, and trying again would not help
    UNKNOWN = "unknown"  #: may have been sent


class Scope(StrEnum):
    """Whose sends a limit slows."""

    PAIR = "pair"  #: those to this one customer: others are not affected
    NUMBER = "number"  #: those of this phone number
    ACCOUNT = "account"  #: those of all numbers of this WhatsApp Business Account
    APP = "app"  #: everybody's


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCode:
    """What one code means."""

    verdict: Verdict
    words: str  #: our own: Meta's can hold phone numbers
    #: How long Meta says that it takes, where the answer itself does not tell. With ``HOLD``: the same token may work
    #: again by then; None there: only another token will.
    wait_s: float | None = None
    scope: Scope | None = None  #: whom it slows beside the message that met it
    few_tries: bool = False  #: it says so little that it is tried a few times only
    steep: bool = False  #: Meta asks for 4^n seconds


HOUR_S: Final = 3600.0
#: A hold that may end without a new token is tried out again this often.
LOOK_AGAIN_S: Final = 300.0
_PERMISSION: Final = "permission missing or removed"
_PAYMENT: Final = "payment problem"
_NOT_REGISTERED: Final = "the number is not registered"


def _retry(
    words: str,
    *,
    wait_s: float | None = None,
    scope: Scope | None = None,
    few_tries: bool = False,
    steep: bool = False,
) -> ErrorCode:
    return ErrorCode(verdict=Verdict.RETRY, words=words, wait_s=wait_s, scope=scope, few_tries=few_tries, steep=steep)


def _hold(words: str, wait_s: float = LOOK_AGAIN_S) -> ErrorCode:
    return ErrorCode(verdict=Verdict.HOLD, words=words, wait_s=wait_s)


def _token(words: str) -> ErrorCode:
    return ErrorCode(verdict=Verdict.HOLD, words=words)


def _dead(words: str) -> ErrorCode:
    return ErrorCode(verdict=Verdict.DEAD, words=words)


CODES: Final[dict[int, ErrorCode]] = {
    0: _token("cannot authenticate"),
    1: _retry("unknown error or bad request", few_tries=True),
    2: _retry("service down or overloaded", steep=True),
    3: _hold(_PERMISSION),
    4: _retry("the app's call rate limit", scope=Scope.APP),
    10: _hold(_PERMISSION),
    # Nothing can be sent from this number until its document names the right one, which ends the hold too.
    33: _hold("the phone number id is deleted or wrong"),
    100: _dead("a parameter is wrong"),
    190: _token("the access token expired or is invalid"),
    368: _hold("blocked for policy violations"),
    613: _retry("call rate limit"),
    80007: _retry("the WhatsApp Business Account's rate limit", scope=Scope.ACCOUNT),
    130429: _retry("the number's throughput is reached", scope=Scope.NUMBER),
    130472: _dead("the customer is part of an experiment of Meta's"),
    130497: _dead("the business may not write to this country"),
    131000: _retry("something went wrong at Meta", few_tries=True),
    131005: _hold(_PERMISSION),
    131008: _dead("a parameter is missing"),
    131009: _dead("a parameter's value is invalid"),
    131016: _retry("service unavailable"),
    131020: _dead("the group has a single member"),
    131021: _dead("the recipient is the sender"),
    131026: _dead("undeliverable: no WhatsApp, blocked, or too old an app"),
    131030: _dead("the recipient is not on the test number's list"),
    131031: _hold("the account is locked"),
    # Of the number, not of the message: as dead letters all of its messages would pile up until Meta approves.
    131037: _hold("the number's display name is not approved"),
    131041: _dead("the group is not known"),
    131042: _hold(_PAYMENT),
    131044: _hold(_PAYMENT),
    131045: _hold(_NOT_REGISTERED),
    131047: _dead("over 24 hours since the customer's last message"),
    131048: _hold("the number's spam limit", HOUR_S),
    131049: _dead("held back by Meta for the health of its ecosystem"),
    131050: _dead("the customer stopped marketing messages"),
    131051: _dead("this kind of message is not supported"),
    131052: _dead("Meta could not fetch the media"),
    # Only what is uploaded anew could be sent, and that is another message.
    131053: _dead("the media cannot be used"),
    131056: _retry("too many messages to this customer", scope=Scope.PAIR, steep=True),
    # While a number's throughput is upgraded, for up to a minute, all of its sends are refused.
    131057: _retry("the account is under maintenance", wait_s=60.0, scope=Scope.NUMBER),
    131058: _dead("hello_world goes out from Meta's test numbers only"),
    131062: _dead("this message needs a phone number, not a business-scoped user id"),
    131063: _dead("marketing templates are disabled"),
    131064: _hold("messaging limit after template violations", HOUR_S),
    131208: _retry("the group's rate limit"),
    132069: _retry("the flow is throttled", wait_s=600.0),
    133004: _retry("server temporarily unavailable"),
    133008: _retry("too many wrong PINs", wait_s=600.0),
    133010: _hold(_NOT_REGISTERED),
    133015: _retry("the number was deleted a moment ago", wait_s=300.0),
    133016: _retry("registered or deregistered too often", wait_s=600.0),
    135000: _dead("generic error of the message"),
    137000: _dead("the customer's identity key does not match"),
}
RANGES: Final[tuple[tuple[range, ErrorCode], ...]] = (
    (range(200, 300), _hold(_PERMISSION)),
    (range(131200, 131300), _dead("group error")),
    (range(132000, 133000), _dead("template or flow error")),
    (range(133000, 134000), _hold("registration or PIN error")),
    (range(138000, 138100), _dead("calling error")),
)
#: What 190 says more exactly (developers.facebook.com/docs/graph-api/guides/error-handling).
_SUBCODES: Final = {
    458: "the access token is invalid: the app was removed",
    460: "the access token is invalid: the password was changed",
    463: "the access token expired",
    467: "the access token is invalid",
}
_TOKEN: Final = 190


def look_up(code: int) -> ErrorCode | None:
    """Return what a code means; None for one that is not known."""
    return CODES.get(code) or next((meaning for codes, meaning in RANGES if code in codes), None)


def describe(code: int, subcode: int | None = None) -> str:
    """Say what a code means, of an answer or of a ``failed`` status, in words that are safe to show."""
    if code == _TOKEN and subcode in _SUBCODES:
        return f"{code} {_SUBCODES[subcode]}"
    known = look_up(code)
    return f"{code} {known.words}" if known else f"{code} not a code that the hub knows"
