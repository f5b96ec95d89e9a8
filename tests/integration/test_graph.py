"""The stand-in for Graph: its wire format, its statuses, its faults, and the process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan
from whatsapp_hub.demo.graph import GraphStandIn, fingerprint, open_server
from whatsapp_hub.demo.statuses import WebhookTarget

SECRET = b"app secret"
NOW = (("sent", 0.0), ("delivered", 0.02), ("read", 0.04))


class Receiver:
    """The hub's webhook, as far as the stand-in sees it."""

    def __init__(self) -> None:
        self.answers: list[int] = []  #: statuses of the next answers; 200 when there are none
        self.requests: list[tuple[str, bytes]] = []
        self._came = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers["X-Hub-Signature-256"], await request.read()))
        self._came.set()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    def statuses(self) -> list[dict[str, Any]]:
        """Return every status so far, in the order of arrival."""
        values = [
            change["value"]
            for _, body in self.requests
            for entry in orjson.loads(body)["entry"]
            for change in entry["changes"]
        ]
        return [status for value in values for status in value["statuses"]]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for webhooks that make the condition true."""
        async with asyncio.timeout(5):
            while not condition():
                self._came.clear()
                await self._came.wait()


class Caller:
    """Somebody who uses the Graph API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def post(
        self, body: object, *, token: str = "token", number: str = "100200300", path: str | None = None
    ) -> tuple[int, Any]:
        """Post to the messages of a number and return status and JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        address = f"{self.url}{path or f'/v26.0/{number}/messages'}"
        async with self.session.post(address, data=raw, headers=headers) as response:
            return response.status, orjson.loads(await response.read() or b"null")

    async def control(self, **change: object) -> int:
        """Change the stand-in from outside."""
        async with self.session.post(f"{self.url}/_control", data=orjson.dumps(change)) as response:
            return response.status


def text(body: str = "hello", **more: object) -> dict[str, object]:
    """Return a text message to a phone number."""
    return {"messaging_product": "whatsapp", "to": "49170", "type": "text", "text": {"body": body}, **more}


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def stand_in(receiver: Receiver) -> AsyncIterator[GraphStandIn]:
    app = web.Application()
    app.router.add_post("/whatsapp_response", receiver.handle)
    async with open_server(app) as url:
        stand_in = GraphStandIn(webhook=WebhookTarget(url=f"{url}/whatsapp_response", secret=SECRET))
        stand_in.control.plan = StatusPlan(steps=NOW)
        yield stand_in


@pytest.fixture
async def caller(stand_in: GraphStandIn) -> AsyncIterator[Caller]:
    async with open_server(stand_in.make_app()) as url, aiohttp.ClientSession() as session:
        yield Caller(session, url)


async def test_answer_to_a_message_is_metas(caller: Caller, stand_in: GraphStandIn) -> None:
    status, answer = await caller.post(text())

    [sent] = stand_in.log.accepted
    assert status == 200
    assert answer == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "49170", "wa_id": "49170"}],
        "messages": [{"id": sent.wamid}],
    }
    assert sent.wamid is not None
    assert sent.wamid.startswith("wamid.")


async def test_user_id_in_recipient_is_sent_and_in_to_is_dropped(caller: Caller, stand_in: GraphStandIn) -> None:
    message = {"messaging_product": "whatsapp", "type": "text", "text": {"body": "x"}}

    right, answer = await caller.post({**message, "recipient": "US.134"})
    wrong, _ = await caller.post({**message, "to": "US.134"})

    assert (right, wrong) == (200, 200)
    assert answer["contacts"] == [{"input": "US.134", "user_id": "US.134"}]
    assert [(send.to, send.recipient, send.accepted) for send in stand_in.log.sends] == [
        (None, "US.134", True),
        ("US.134", None, False),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 100),
        (b"[1]", 100),
        ({"to": "49170"}, 100),
        (text(to=""), 100),
        (text(to=49170), 100),
        (text(""), 100),
        (text("x" * 4097), 100),
        (text(recipient_type="business_scoped_user_id"), 100),
        (text(type="image"), 100),
        (text(biz_opaque_callback_data="x" * 513), 100),
        ({"messaging_product": "whatsapp", "status": "read"}, 100),
    ],
)
async def test_bad_message_is_refused(caller: Caller, stand_in: GraphStandIn, body: object, code: int) -> None:
    status, answer = await caller.post(body)

    assert (status, answer["error"]["code"]) == (400, code)
    assert [(send.code, send.accepted, send.wamid) for send in stand_in.log.sends] == [(code, False, None)]


async def test_longest_text_and_emoji_pass(caller: Caller) -> None:
    assert (await caller.post(text("😀" * 4096)))[0] == 200


async def test_only_the_right_token_passes(caller: Caller, stand_in: GraphStandIn) -> None:
    assert (await caller.post(text(), token=""))[0] == 401
    assert await caller.control(tokens={"100200300": "right"}) == 200

    answers = [
        await caller.post(text(), token="wrong"),
        await caller.post(text(), token="right"),
        await caller.post(text(), token="right", number="999"),
    ]

    assert [(status, answer.get("error", {}).get("code")) for status, answer in answers] == [
        (401, 190),
        (200, None),
        (400, 33),
    ]
    assert [send.token for send in stand_in.log.accepted] == [fingerprint("right")]
    assert "right" not in repr(stand_in.log.sends)


async def test_number_can_be_looked_up(caller: Caller) -> None:
    headers = {"Authorization": "Bearer token"}
    async with caller.session.get(f"{caller.url}/v26.0/100200300", headers=headers) as response:
        assert (await response.json())["id"] == "100200300"
    async with caller.session.get(f"{caller.url}/v26.0/100200300") as response:
        assert response.status == 401


async def test_reading_and_typing_are_noted(caller: Caller, stand_in: GraphStandIn) -> None:
    call = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.IN"}

    assert await caller.post(call) == (200, {"success": True})
    assert await caller.post({**call, "typing_indicator": {"type": "text"}}) == (200, {"success": True})

    assert [(typing.message_id, typing.shows_typing) for typing in stand_in.typings] == [
        ("wamid.IN", False),
        ("wamid.IN", True),
    ]
    assert stand_in.log.sends == []


async def test_statuses_are_signed_and_bring_the_callback_data_back(caller: Caller, receiver: Receiver) -> None:
    _, answer = await caller.post(text(biz_opaque_callback_data="mine"))
    await receiver.until(lambda: len(receiver.statuses()) == 3)

    for signature, body in receiver.requests:
        assert signature == "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    assert [status["status"] for status in receiver.statuses()] == ["sent", "delivered", "read"]
    for status in receiver.statuses():
        assert status["id"] == answer["messages"][0]["id"]
        assert status["biz_opaque_callback_data"] == "mine"
        assert status["recipient_id"] == "49170"
        assert status["timestamp"].isdigit()
    value = orjson.loads(receiver.requests[0][1])["entry"][0]["changes"][0]["value"]
    assert value["metadata"]["phone_number_id"] == "100200300"


async def test_statuses_are_batched_by_number(caller: Caller, receiver: Receiver, stand_in: GraphStandIn) -> None:
    stand_in.control.plan = StatusPlan(steps=(("sent", 0.05),))
    await asyncio.gather(*(caller.post(text(), number=str(1 + index % 2)) for index in range(10)))
    await receiver.until(lambda: len(receiver.statuses()) == 10)

    assert len(receiver.requests) < 10
    for _, body in receiver.requests:
        entries = orjson.loads(body)["entry"]
        assert len({entry["id"] for entry in entries}) == len(entries)


async def test_refused_webhook_comes_again(caller: Caller, receiver: Receiver, stand_in: GraphStandIn) -> None:
    receiver.answers = [503, 500, 401]
    stand_in.control.plan = StatusPlan(steps=(("sent", 0.0),))
    await caller.post(text())
    await receiver.until(lambda: len(receiver.requests) == 4)

    assert len({body for _, body in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        ({"steps": [["read", 0.0], ["sent", 0.03]]}, ["read", "sent"]),
        ({"steps": [["sent", 0.0]], "copies": 3}, ["sent", "sent", "sent"]),
        ({"steps": [["sent", 0.0], ["failed", 0.02]], "failed_code": 131026}, ["sent", "failed"]),
    ],
)
async def test_statuses_can_be_changed(
    caller: Caller, receiver: Receiver, plan: dict[str, Any], names: list[str]
) -> None:
    assert await caller.control(statuses=plan) == 200
    await caller.post(text())
    await receiver.until(lambda: len(receiver.statuses()) == len(names))

    assert [status["status"] for status in receiver.statuses()] == names
    errors = [status["errors"][0]["code"] for status in receiver.statuses() if status["status"] == "failed"]
    assert errors == [131026] * names.count("failed")


async def test_statuses_can_be_off_for_one_message(caller: Caller, receiver: Receiver, stand_in: GraphStandIn) -> None:
    stand_in.control.faults.arm(Fault(effect=Effect.NONE, text="quiet", statuses=StatusPlan(steps=())))
    stand_in.control.plan = StatusPlan(steps=(("sent", 0.01),))

    await caller.post(text("quiet please"))
    await caller.post(text("loud"))
    await receiver.until(lambda: len(receiver.statuses()) > 0)

    assert [status["id"] for status in receiver.statuses()] == [stand_in.log.accepted[1].wamid]


async def test_closed_after_accepting_counts_and_before_does_not(
    caller: Caller, stand_in: GraphStandIn, receiver: Receiver
) -> None:
    stand_in.control.faults.arm(Fault(effect=Effect.CLOSE_BEFORE), Fault(effect=Effect.CLOSE_AFTER))

    for _ in range(2):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.post(text())
    await receiver.until(lambda: len(receiver.statuses()) == 3)

    assert [send.accepted for send in stand_in.log.sends] == [False, True]
    assert {status["id"] for status in receiver.statuses()} == {stand_in.log.accepted[0].wamid}


async def test_fault_comes_from_outside_too_and_is_used_up(caller: Caller) -> None:
    fault = {"code": 80007, "status": 429, "retry_after": "3", "customer": "49170", "times": 2}
    assert await caller.control(faults=[fault]) == 200

    answers = [await caller.post(text(to=to)) for to in ("49999", "49170", "49170", "49170")]

    assert [status for status, _ in answers] == [200, 429, 429, 200]
    assert answers[1][1]["error"]["code"] == 80007
    assert await caller.control(faults=[fault], clear=True) == 200
    assert await caller.control(clear=True) == 200
    assert (await caller.post(text()))[0] == 200


@pytest.mark.parametrize(
    "change",
    [
        {"nonsense": 1},
        {"latency_s": 5},
        {"latency_s": ["a", "b"]},
        {"faults": [{"effect": "explode"}]},
        {"faults": [{"no_such_field": 1}]},
        {"template": "{unknown}"},
        {"webhook": {"url": "http://127.0.0.1"}},
    ],
)
async def test_bad_change_is_refused(caller: Caller, change: dict[str, Any]) -> None:
    assert await caller.control(**change) == 400


async def test_latency_is_drawn_from_its_range(caller: Caller) -> None:
    assert await caller.control(latency_s=[0.03, 0.04]) == 200
    loop = asyncio.get_running_loop()

    start = loop.time()
    await caller.post(text())

    assert loop.time() - start >= 0.03


async def test_checker_can_follow_the_sends(caller: Caller) -> None:
    for body in ("one", "two", "three"):
        await caller.post(text(body))

    async with caller.session.get(f"{caller.url}/_sends?since=1") as response:
        assert [send["text"] for send in await response.json()] == ["two", "three"]
    async with caller.session.get(f"{caller.url}/_sends?since=x") as response:
        assert response.status == 400


async def test_waiting_for_sends_ends_with_the_last_or_the_time(caller: Caller, stand_in: GraphStandIn) -> None:
    waiting = asyncio.create_task(stand_in.log.wait_for(2))
    await caller.post(text("one"))
    await caller.post(text("two"))

    assert [send.text for send in await waiting] == ["one", "two"]
    with pytest.raises(TimeoutError):
        await stand_in.log.wait_for(3, timeout_s=0.01)


async def test_process_of_its_own_keeps_a_log(tmp_path: Path) -> None:
    log = tmp_path / "sends.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "whatsapp_hub.demo.graph", "--log", str(log), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    try:
        async with aiohttp.ClientSession() as session:
            caller = Caller(session, url)
            await asyncio.gather(*(caller.post(text(f"message {number}")) for number in range(20)))
            await caller.post(text(""))
    finally:
        process.kill()
        await process.wait()

    sends = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert {send["text"] for send in sends if send["accepted"]} == {f"message {number}" for number in range(20)}
    assert len({send["wamid"] for send in sends if send["accepted"]}) == 20
    assert [send["code"] for send in sends if not send["accepted"]] == [100]
    assert set(sends[0]) >= {"phone_number_id", "token", "to", "recipient", "text", "callback", "wamid", "time"}
