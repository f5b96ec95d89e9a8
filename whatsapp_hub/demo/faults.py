"""How the stand-ins can be told to fail: what goes wrong, for whom and how often."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aiohttp import web

BIG_BYTES: Final = 5 * 1024 * 1024
_SLOW_STEPS: Final = 10


class Effect(StrEnum):
    """What goes wrong with an answer."""

    NONE = "none"  #: nothing; for a fault that only changes the statuses
    ERROR = "error"  #: the server's own error form, with ``status``, ``code`` and ``retry_after``
    HANG = "hang"  #: nothing comes for ``delay_s``, then the connection ends
    CLOSE_BEFORE = "close_before"  #: the request is read, not accepted, and the connection ends
    CLOSE_AFTER = "close_after"  #: the request is accepted, and the connection ends without an answer
    CUT = "cut"  #: the connection ends in the middle of the answer
    TRUNCATED = "truncated"  #: a whole answer by HTTP, but half of its JSON
    GARBAGE = "garbage"  #: ``body`` as HTML with ``status``
    NO_ID = "no_id"  #: 200 with JSON that names no message
    SLOW_BODY = "slow_body"  #: the body trickles over ``delay_s``
    BIG = "big"  #: the model writes 5 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPlan:
    """Which statuses follow a message that was accepted, and when."""

    #: What comes, and how many seconds after the message was accepted.
    steps: tuple[tuple[str, float], ...] = (("sent", 0.0), ("delivered", 0.05), ("read", 0.1))
    copies: int = 1  #: of each
    failed_code: int = 131026  #: the error of a ``failed`` status


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. The filters that are set have to match; it is used up after ``times`` matches (None: never)."""

    effect: Effect = Effect.ERROR
    endpoint: str = "messages"  #: ``messages``, ``typing``, ``media`` or ``chat``
    times: int | None = 1
    token: str | None = field(default=None, repr=False)
    customer: str | None = None
    text: str | None = None  #: found somewhere in the text
    status: int | None = None
    code: int = 131000
    retry_after: str | None = None
    delay_s: float = 3600.0
    body: str = "<html><body>Bad Gateway</body></html>"
    accepted: bool | None = None  #: whether the message counts as taken all the same; None: what the effect suggests
    statuses: StatusPlan | None = None

    def __post_init__(self) -> None:
        """Take an effect by its name too."""
        object.__setattr__(self, "effect", Effect(self.effect))

    @property
    def accepts(self) -> bool:
        """Whether a message with this fault counts as taken."""
        if self.accepted is not None:
            return self.accepted
        if self.effect is Effect.GARBAGE:
            return self.status is not None and self.status < 300
        return self.effect not in (Effect.ERROR, Effect.HANG, Effect.CLOSE_BEFORE)

    def matches(self, endpoint: str, token: str, customer: str, text: str) -> bool:
        """Tell whether a request is meant."""
        return (
            self.endpoint == endpoint
            and self.token in (None, token)
            and self.customer in (None, customer)
            and (self.text is None or self.text in text)
        )


class Faults:
    """The faults that are armed; the first that matches a request has its effect."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._left: list[int | None] = []

    def arm(self, *faults: Fault) -> None:
        """Add faults behind those that are there."""
        self._armed.extend(faults)
        self._left.extend(fault.times for fault in faults)

    def clear(self) -> None:
        """Forget all faults."""
        self._armed.clear()
        self._left.clear()

    def take(self, *, endpoint: str, token: str, customer: str = "", text: str = "") -> Fault | None:
        """Return the fault of a request, if any, and count it as used."""
        for index, fault in enumerate(self._armed):
            left = self._left[index]
            if left != 0 and fault.matches(endpoint, token, customer, text):
                self._left[index] = None if left is None else left - 1
                return fault
        return None


async def misbehave(request: web.Request, fault: Fault, answer: bytes, error: bytes) -> web.StreamResponse:
    """Answer with what ``fault`` makes of ``answer``; ``error`` is the server's error form."""
    match fault.effect:
        case Effect.HANG | Effect.CLOSE_BEFORE | Effect.CLOSE_AFTER:
            await asyncio.sleep(fault.delay_s if fault.effect is Effect.HANG else 0)
            return _hang_up(request)
        case Effect.CUT | Effect.SLOW_BODY:
            return await _trickle(request, fault, answer)
        case Effect.GARBAGE:
            return web.Response(text=fault.body, status=fault.status or 502, content_type="text/html")
        case Effect.ERROR:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else None
            return json_answer(error, status=fault.status or 400, headers=headers)
        case Effect.TRUNCATED:
            answer = answer[: len(answer) // 2]
        case Effect.NO_ID:
            answer = b'{"messaging_product":"whatsapp","contacts":[],"messages":[]}'
        case Effect.NONE | Effect.BIG:
            pass
    return json_answer(answer)


def json_answer(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with JSON that is bytes already."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # goes nowhere


async def _trickle(request: web.Request, fault: Fault, answer: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(answer)
    await response.prepare(request)
    if fault.effect is Effect.CUT:
        await response.write(answer[: len(answer) // 2])
        _hang_up(request)
        return response
    size = -(-len(answer) // _SLOW_STEPS)
    for start in range(0, len(answer), size):
        await response.write(answer[start : start + size])
        await asyncio.sleep(fault.delay_s / _SLOW_STEPS)
    return response
