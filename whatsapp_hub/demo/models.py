"""A stand-in for a server that speaks OpenAI's ``/chat/completions``."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson
from aiohttp import web

from whatsapp_hub.demo.faults import BIG_BYTES, Effect, Fault, Faults, json_answer, misbehave
from whatsapp_hub.demo.speech import SpeechStandIn

MAX_REQUESTS: Final = 100_000  # kept in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question that was asked."""

    time: float  #: unix seconds
    authorization: str | None = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    answer: str | None = field(repr=False)  #: what the model said, None where it failed


class ModelStandIn:
    """Answers every question with ``template``.

    In it ``{last}`` is the last message of the user, ``{turn}`` all of them since the model last spoke, ``{nonce}`` a
    word that is never the same twice.
    """

    def __init__(self, faults: Faults, rng: Random) -> None:
        self.template = "echo: {last}"
        self.latency_s = (0.0, 0.0)
        self.requests: list[ModelRequest] = []
        self.sees = True  #: False: pictures are refused
        self.speech = SpeechStandIn(faults)
        self._faults = faults
        self._rng = rng

    def add_routes(self, app: web.Application) -> None:
        """Add the routes that assistants use."""
        self.speech.add_routes(app)
        app.router.add_post("/v1/chat/completions", self._complete)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = _read_question(await request.read())
        authorization = request.headers.get("Authorization")
        if body is None:
            return json_answer(_error("messages is missing", "invalid_request_error", None), status=400)
        if not self.sees and _shows_pictures(body["messages"]):
            return json_answer(_error("image_url is not supported", "invalid_request_error", None), status=400)
        turn = _user_texts(body["messages"])
        fault = self._faults.take(
            endpoint="chat", token=(authorization or "").removeprefix("Bearer "), text="\n".join(turn)
        )
        await asyncio.sleep(self._rng.uniform(*self.latency_s))
        text = self._say(turn, fault)
        self._record(authorization, body, None if fault and not fault.accepts else text)
        answer = _completion(str(body.get("model", "")), text)
        if fault is None:
            return json_answer(answer)
        return await misbehave(request, fault, answer, _error("told to fail", "server_error", fault.code))

    def _say(self, turn: list[str], fault: Fault | None) -> str:
        if fault is not None and fault.effect is Effect.BIG:
            return "x" * BIG_BYTES
        return self.template.format(last=turn[-1] if turn else "", turn="\n".join(turn), nonce=secrets.token_hex(4))

    def _record(self, authorization: str | None, body: dict[str, Any], answer: str | None) -> None:
        if len(self.requests) < MAX_REQUESTS:
            self.requests.append(ModelRequest(time=time.time(), authorization=authorization, body=body, answer=answer))


def _read_question(body: bytes) -> dict[str, Any] | None:
    try:
        question = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    match question:
        case {"messages": [*_]}:
            return dict(question)
    return None


def _user_texts(messages: list[Any]) -> list[str]:
    """Return what the user said since the model last spoke."""
    texts: list[str] = []
    for message in messages:
        match message:
            case {"role": "assistant"}:
                texts = []
            case {"role": "user", "content": str(text)}:
                texts.append(text)
            case {"role": "user", "content": [*pieces]}:
                texts.append("".join(str(piece.get("text", "")) for piece in pieces if isinstance(piece, dict)))
    return texts


def _shows_pictures(messages: list[Any]) -> bool:
    pieces = [piece for message in messages for piece in message["content"] if isinstance(piece, dict)]
    return any(piece.get("type") == "image_url" for piece in pieces)


def _completion(model: str, text: str) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return orjson.dumps(
        {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
            "service_tier": "default",
            "system_fingerprint": "fp_stand_in",
        }
    )


def _error(message: str, kind: str, code: int | None) -> bytes:
    return orjson.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": None if code is None else str(code)}}
    )
