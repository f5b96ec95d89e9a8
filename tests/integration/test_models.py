"""The stand-in for a server that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from whatsapp_hub.demo.faults import BIG_BYTES, Effect, Fault
from whatsapp_hub.demo.graph import GraphStandIn, open_server

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "old"},
    {"role": "assistant", "content": "older"},
    {"role": "user", "content": "one"},
    {"role": "user", "content": [{"type": "text", "text": "two"}]},
]


@pytest.fixture
def stand_in() -> GraphStandIn:
    return GraphStandIn()


@pytest.fixture
async def url(stand_in: GraphStandIn) -> AsyncIterator[str]:
    async with open_server(stand_in.make_app()) as url:
        yield f"{url}/v1/chat/completions"


async def ask(url: str, body: object) -> tuple[int, str | None, Any]:
    """Ask and return status, Retry-After and JSON."""
    headers = {"Authorization": "Bearer key"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=orjson.dumps(body), headers=headers) as response,
    ):
        return response.status, response.headers.get("Retry-After"), orjson.loads(await response.read())


async def test_last_message_is_echoed(url: str, stand_in: GraphStandIn) -> None:
    status, _, answer = await ask(url, {"model": "m", "messages": MESSAGES})

    assert (status, answer["object"], answer["model"]) == (200, "chat.completion", "m")
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", "echo: two")
    assert answer["usage"]["total_tokens"] == 30
    [request] = stand_in.model.requests
    assert (request.authorization, request.answer, request.body["messages"]) == ("Bearer key", "echo: two", MESSAGES)
    assert "key" not in repr(request)


async def test_template_can_show_the_turn_and_a_nonce(url: str, stand_in: GraphStandIn) -> None:
    stand_in.model.template = "{turn} {nonce}"

    answers = [(await ask(url, {"messages": MESSAGES}))[2]["choices"][0]["message"]["content"] for _ in range(2)]

    assert [answer[:8] for answer in answers] == ["one\ntwo ", "one\ntwo "]
    assert answers[0] != answers[1]


async def test_braces_of_a_customer_are_only_text(url: str) -> None:
    _, _, answer = await ask(url, {"messages": [{"role": "user", "content": "{nonce} {0}"}]})

    assert answer["choices"][0]["message"]["content"] == "echo: {nonce} {0}"


@pytest.mark.parametrize("body", [[], {}, {"messages": "x"}])
async def test_bad_question_is_refused(url: str, body: object) -> None:
    status, _, answer = await ask(url, body)

    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


async def test_model_can_be_overloaded(url: str, stand_in: GraphStandIn) -> None:
    stand_in.control.faults.arm(Fault(endpoint="chat", status=429, retry_after="2"), Fault(endpoint="chat", status=500))

    answers = [await ask(url, {"messages": MESSAGES}) for _ in range(3)]

    assert [(status, retry_after) for status, retry_after, _ in answers] == [(429, "2"), (500, None), (200, None)]
    assert [request.answer for request in stand_in.model.requests] == [None, None, "echo: two"]


async def test_model_can_write_5_mb(url: str, stand_in: GraphStandIn) -> None:
    stand_in.control.faults.arm(Fault(endpoint="chat", effect=Effect.BIG))

    _, _, answer = await ask(url, {"messages": MESSAGES})

    assert len(answer["choices"][0]["message"]["content"]) == BIG_BYTES


async def test_model_can_hang_up(url: str, stand_in: GraphStandIn) -> None:
    stand_in.control.faults.arm(Fault(endpoint="chat", effect=Effect.HANG, delay_s=0.01))

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(url, {"messages": MESSAGES})


async def test_model_can_talk_garbage(url: str, stand_in: GraphStandIn) -> None:
    stand_in.control.faults.arm(Fault(endpoint="chat", effect=Effect.GARBAGE, status=200))

    with pytest.raises(orjson.JSONDecodeError):
        await ask(url, {"messages": MESSAGES})
