"""What is beyond the subject: a model that speaks ``/chat/completions`` and Graph, on one port, as light as can be.

The driver runs it in its own process, so that one clock says when a webhook went out and when its reply arrived. The
stand-in of ``whatsapp_hub.demo`` checks what it gets and can fail; this one only counts, for a tenth of the CPU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol, cast

from bench.client import find_end
from bench.plan import Plan
from bench.webhooks import find_serials

_OK: Final = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Nov 2026 09:00:00 GMT\r\n"
    "Cache-Control: private, no-cache\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s"
)
_COMPLETION: Final = (
    '{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1762074000,"model":"bench",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"Your order %s is on its way and should arrive'
    ' tomorrow before noon. The address can be changed until this evening.","refusal":null,"annotations":[]},'
    '"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":28,"total_tokens":148},'
    '"service_tier":"default","system_fingerprint":"fp_bench"}'
)
_ACCEPTED: Final = (
    '{"messaging_product":"whatsapp","contacts":[{"input":"4915100000000","wa_id":"4915100000000"}],'
    '"messages":[{"id":"wamid.HBgNNDkxNTEwMDAwMDAwMBUCABEYEjBFM0I%012dAA=="}]}'
)
_READ: Final = '{"success":true}'


def build_answer(body: str) -> bytes:
    """Return a whole response with this body, which is ASCII."""
    return (_OK % (len(body), body)).encode()


class Books(Protocol):
    """Where replies are noted."""

    def answer(self, serials: Sequence[int], now: float, waited_s: float) -> None:
        """Note a reply, the messages that it answers, and how long the model and Graph took."""


class Upstream:
    """Answers the model's and Graph's calls, late if the plan says so, and notes what was sent to customers."""

    def __init__(self, plan: Plan, books: Books) -> None:
        self._plan = plan
        self._books = books
        self._rng = Random(plan.seed)
        self._model_took: dict[int, float] = {}  # by the first serial number of a turn
        self._sends = 0
        self._read_answer = build_answer(_READ)
        self.typings = 0
        self.on_send: Callable[[], None] = lambda: None

    async def listen(self) -> int:
        """Start to listen on a free port of loopback and return it."""
        server = await asyncio.get_running_loop().create_server(lambda: _Caller(self), "127.0.0.1", 0, backlog=2048)
        return int(server.sockets[0].getsockname()[1])

    def take(self, request: bytes, reply: Callable[[bytes], None]) -> None:
        """Answer one request."""
        began = time.perf_counter()
        if request.startswith(b"POST /v1/"):
            self._after(self._plan.model_s, self._complete, request, began, reply)
        elif b'"status":"read"' in request:
            self._after(self._plan.graph_s, self._mark_read, reply)
        else:
            self._after(self._plan.graph_s, self._accept, request, began, reply)

    def _after(self, span_s: tuple[float, float], call: Callable[..., None], *args: object) -> None:
        if span_s[1] > 0:
            asyncio.get_running_loop().call_later(self._rng.uniform(*span_s), call, *args)
        else:
            call(*args)

    def _complete(self, request: bytes, began: float, reply: Callable[[bytes], None]) -> None:
        serials = find_serials(request[max(request.rfind(b'"role":"user"'), 0) :])  # without the history
        if serials:
            # The clock and not the draw: timers and this process may be late.
            self._model_took[serials[0]] = self._model_took.get(serials[0], 0.0) + time.perf_counter() - began
        reply(build_answer(_COMPLETION % " ".join(f"#{serial}" for serial in serials)))

    def _mark_read(self, reply: Callable[[bytes], None]) -> None:
        self.typings += 1
        reply(self._read_answer)

    def _accept(self, request: bytes, began: float, reply: Callable[[bytes], None]) -> None:
        serials = find_serials(request)
        now = time.perf_counter()
        waited_s = now - began + (self._model_took.pop(serials[0], 0.0) if serials else 0.0)
        self._books.answer(serials, now, waited_s)
        self._sends += 1
        reply(build_answer(_ACCEPTED % self._sends))
        self.on_send()


class _Caller(asyncio.Protocol):
    """One connection of the subject, one request at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        if not find_end(data):
            self._partial = data
            return
        self._partial = b""
        self._upstream.take(data, self._reply)

    def _reply(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)
