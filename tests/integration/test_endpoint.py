"""A business's own endpoint over real HTTPS: what it is asked, what may be answered, and where its URL may lead."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import os
import shutil
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.hub import until
from tests.tls import HOST, Names, client_context, make_certificate, server_context
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.assistants.base import CustomerMessage, PastTurn, Text, Turn
from whatsapp_hub.assistants.registry import Assistants, open_assistants
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = b"a plain secret of thirty bytes"


@dataclass
class Asked:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_signed(self) -> bool:
        """Whether it was signed with the right key, as a receiver would check it."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
        return hmac.compare_digest(self.headers["webhook-signature"], f"v1,{digest}")


@dataclass
class Shop:
    """A business's endpoint: says what it is told to, then repeats the last of it."""

    script: list[Handler] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/turns?shop=1"

    def say(self, *responses: Callable[[], web.Response]) -> None:
        def handler(make: Callable[[], web.Response]) -> Handler:
            async def handle(_request: web.Request) -> web.Response:
                return make()

            return handle

        self.script = [handler(make) for make in responses]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(str(request.rel_url), headers, await request.read()))
        if not self.script:
            return replies("Nine to five.")
        return await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(request)


def replies(*said: Any) -> web.Response:
    return web.json_response({"replies": list(said)})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    return client_context(certificate)


@pytest.fixture
async def shop(certificate: Path) -> AsyncIterator[Shop]:
    """The endpoint, over HTTPS."""
    shop = Shop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shop.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(ssl=server_context(certificate), shutdown_timeout=0.1)
    assert server.port
    shop.port = server.port
    yield shop
    await server.close()


def choose(shop: Shop, **changes: Any) -> AssistantChoice:
    values = {"kind": "http", "endpoint_url": shop.url, "secret": KEY.decode()}
    return AssistantChoice(**values | changes)


def make_turn(choice: AssistantChoice) -> Turn:
    return Turn(
        id="106:wamid.1",
        business_id="64a1",
        business_name="Acme",
        sub_domain="acme",
        phone_number_id="106",
        customer="4915112345678",
        customer_name="Ada",
        messages=(CustomerMessage(id="wamid.1", kind="text", text="When?", timestamp=1, raw=b'{"id":"wamid.1"}'),),
        history=(PastTurn(customer="Hello", reply="Hi."),),
        choice=choice,
    )


def open_for(
    trust: ssl.SSLContext,
    metrics: Metrics | None = None,
    *,
    names: Names | None = None,
    nets: str = "127.0.0.0/8",
    **settings: Any,
) -> AbstractAsyncContextManager[Assistants]:
    values: dict[str, Any] = {
        "assistant": "http",
        "assistant_allow_nets": nets,
        "ai_api_key": "the-environments-key",
        "ai_timeout_s": 2,
        "timing": {"assistant_retry_base_s": 0.001},
    }
    made = Settings.isolated(**values | settings)
    return open_assistants(made, metrics or Metrics(), resolver=names or Names("127.0.0.1"), tls=trust)


async def say(assistants: Assistants, choice: AssistantChoice) -> list[str]:
    said = await assistants.choose(choice).reply(make_turn(choice))
    return [reply.body for reply in said if isinstance(reply, Text)]


def count(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("whatsapp_hub_assistant_requests_total", {"outcome": outcome}) or 0


# What is asked


async def test_the_endpoint_gets_the_turn_signed(shop: Shop, trust: ssl.SSLContext) -> None:
    metrics = Metrics()
    async with open_for(trust, metrics) as assistants:
        assert await say(assistants, choose(shop)) == ["Nine to five."]
    (asked,) = shop.asked
    assert asked.path == "/turns?shop=1"
    assert asked.is_signed
    assert asked.headers["webhook-id"] == "106:wamid_1"
    assert abs(int(asked.headers["webhook-timestamp"]) - time.time()) < 10
    assert asked.headers["content-type"] == "application/json"
    assert not {"authorization", "cookie"} & asked.headers.keys()
    assert b"the-environments-key" not in asked.body
    body = orjson.loads(asked.body)
    assert (body["version"], body["id"]) == (1, "106:wamid_1")
    assert body["messages"][0]["raw"] == {"id": "wamid.1"}
    assert count(metrics, "answered") == 1


async def test_a_retry_is_the_same_request_signed_anew(shop: Shop, trust: ssl.SSLContext) -> None:
    shop.say(lambda: web.Response(status=503), lambda: replies("Nine to five."))
    async with open_for(trust) as assistants:
        assert await say(assistants, choose(shop)) == ["Nine to five."]
    first, second = shop.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.is_signed
    assert second.is_signed


# What it may answer


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: web.Response(status=204), []),
        (replies, []),
        (lambda: replies("One", {"type": "text", "text": {"body": "Two"}}), ["One", "Two"]),
    ],
)
async def test_answers_are_said_in_order(
    shop: Shop, trust: ssl.SSLContext, make: Callable[[], web.Response], said: list[str]
) -> None:
    shop.say(make)
    async with open_for(trust) as assistants:
        assert await say(assistants, choose(shop)) == said
    assert len(shop.asked) == 1


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"status": 200, "body": b""}, "the endpoint's answer is not JSON"),
        ({"status": 200, "body": b"<html>Ada said When?"}, "the endpoint's answer is not JSON"),
        (
            {"status": 200, "body": b'{"replies":["ok",{"Ada":"When?"}]}'},
            (
                "reply 2 of the endpoint's answer cannot be sent: type is none of text, image, video, audio, document,"
                " sticker, location, contacts, reaction, interactive, template"
            ),
        ),
        ({"status": 200, "body": b'{"replies":"When?"}'}, 'the endpoint\'s answer is not {"replies": [...]}'),
        ({"status": 200, "body": b"x" * (1024 * 1024 + 1)}, "the answer is larger than 1 MiB"),
        ({"status": 400, "body": b'{"error":{"code":"Ada"}}'}, "the server answered 400"),
        ({"status": 401, "body": b"When?"}, "the server answered 401"),
        (
            {"status": 302, "headers": {"Location": "https://model.example/"}},
            "the server answered 302, and redirects are not followed",
        ),
    ],
)
async def test_what_fails_for_good_gives_the_fallback_and_a_reason_that_quotes_nothing(
    shop: Shop, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture, response: dict[str, Any], reason: str
) -> None:
    metrics = Metrics()
    shop.say(lambda: web.Response(**response))
    with caplog.at_level(logging.INFO, logger="assistants"):
        async with open_for(trust, metrics) as assistants:
            assert await say(assistants, choose(shop, fallback_text="Later.")) == ["Later."]
    assert (len(shop.asked), count(metrics, "fallback")) == (1, 1)
    (record,) = caplog.records
    assert vars(record)["reason"] == reason
    assert not [word for word in ("When", "Ada", "4915112345678", KEY.decode()) if word in str(vars(record))]


# What fails for a moment


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_passing_errors_are_tried_again_three_times_at_most(
    shop: Shop, trust: ssl.SSLContext, status: int
) -> None:
    shop.say(lambda: web.Response(status=status))
    async with open_for(trust) as assistants:
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    assert len(shop.asked) == 3


async def test_it_waits_as_long_as_the_endpoint_asks_for_but_not_for_hours(shop: Shop, trust: ssl.SSLContext) -> None:
    def busy(seconds: str) -> Callable[[], web.Response]:
        return lambda: web.Response(status=429, headers={"Retry-After": seconds})

    async with open_for(trust) as assistants:
        shop.say(busy("0.04"), lambda: replies("Now."))
        began = time.monotonic()
        assert await say(assistants, choose(shop)) == ["Now."]
        assert time.monotonic() - began >= 0.04
        shop.say(busy("3600"), lambda: replies("Now."))
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]


async def test_an_endpoint_that_hangs_is_given_up_after_its_own_time(shop: Shop, trust: ssl.SSLContext) -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return replies()

    shop.script = [hang]
    async with open_for(trust, ai_timeout_s=60) as assistants:
        async with asyncio.timeout(5):
            assert await say(assistants, choose(shop, timeout_s=0.1)) == [FALLBACK_TEXT]
    assert len(shop.asked) == 2


# Where its URL may lead


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://model.example/", "has to begin with https://"),
        ("https://127.0.0.1:{port}/", "leads to an address that is not public"),
        ("https://[::1]:{port}/", "leads to an address that is not public"),
        ("https://[::ffff:127.0.0.1]:{port}/", "leads to an address that is not public"),
        ("https://[::ffff:7f00:1]:{port}/", "leads to an address that is not public"),
        ("https://[64:ff9b::127.0.0.1]:{port}/", "leads to an address that is not public"),
        ("https://[fe80::1]/", "leads to an address that is not public"),
        ("https://169.254.169.254/", "leads to an address that is not public"),
        ("https://10.1.2.3/", "leads to an address that is not public"),
        ("https://2130706433:{port}/", "leads to an address that is not public"),
        ("https://0x7f000001:{port}/", "leads to an address that is not public"),
        ("https://0x7f.1:{port}/", "leads to an address that is not public"),
        ("https://017700000001:{port}/", "leads to an address that is not public"),
        ("https://0177.0.0.1:{port}/", "leads to an address that is not public"),
        ("https://127.1:{port}/", "leads to an address that is not public"),
        ("https://user:pass@model.example/", "must not carry a user name or password"),
        ("https:///turns", "names no host"),
    ],
)
async def test_a_url_that_leads_inside_holds_the_business(
    shop: Shop, trust: ssl.SSLContext, url: str, words: str
) -> None:
    choice = choose(shop, endpoint_url=url.format(port=shop.port))
    async with open_for(trust, nets="") as assistants:
        assert assistants.find_fault(choice) == f"its assistant's endpointUrl {words}"
        with pytest.raises(AssistantFailed):
            assistants.choose(choice)
    assert shop.asked == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
async def test_a_name_that_leads_inside_is_not_connected_to(shop: Shop, trust: ssl.SSLContext, address: str) -> None:
    async with open_for(trust, names=Names(address), nets="") as assistants:
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    assert shop.asked == []


async def test_a_name_is_connected_to_where_it_was_checked(shop: Shop, trust: ssl.SSLContext) -> None:
    """Whoever answers the first look with a good address and the next with a bad one gains nothing by it."""
    names = Names("127.0.0.2", "127.0.0.1")  # the first is allowed here, and nobody listens there
    async with open_for(trust, names=names, nets="127.0.0.2/32") as assistants:
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    assert shop.asked == []


async def test_a_redirect_is_not_followed(shop: Shop, trust: ssl.SSLContext) -> None:
    shop.say(lambda: web.Response(status=307, headers={"Location": "/elsewhere"}), lambda: replies("Elsewhere."))
    async with open_for(trust) as assistants:
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    assert [asked.path for asked in shop.asked] == ["/turns?shop=1"]


async def test_an_endpoint_with_a_strange_certificate_is_not_asked(shop: Shop) -> None:
    async with open_for(ssl.create_default_context()) as assistants:
        assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    assert shop.asked == []


# What is wrong before anybody asks


async def test_a_document_that_cannot_be_served_says_why(shop: Shop, trust: ssl.SSLContext) -> None:
    async with open_for(trust) as assistants:
        for choice, words in [
            (None, "it has no assistant.endpointUrl, which its assistant's kind http needs"),
            (AssistantChoice(kind=None), "it has no assistant.endpointUrl, which its assistant's kind http needs"),
            (choose(shop, secret=None), "it has no assistant.secret, with which requests to its endpoint are signed"),
            (choose(shop, secret="short"), "its assistant's secret has to have 24 to 64 bytes, and has 5"),
        ]:
            assert assistants.find_fault(choice) == words
        assert assistants.find_fault(replace(choose(shop), kind=None)) is None


# The examples of the manual

MANUAL = Path(__file__).parents[2] / "docs" / "assistants.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the reference libraries' tests
EXAMPLES = [
    pytest.param("python", [sys.executable], id="python"),
    pytest.param(
        "javascript",
        ["node"],
        id="node",
        marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    ),
]


def example(language: str) -> str:
    """Return the endpoint that the manual shows in a language."""
    text = MANUAL.read_text("utf-8").partition("## An endpoint of the business's own")[2]
    return text.partition(f"```{language}\n")[2].partition("```")[0]


@pytest.mark.parametrize(("language", "command"), EXAMPLES)
async def test_the_example_of_the_manual_answers_what_is_signed_and_nothing_else(
    shop: Shop, trust: ssl.SSLContext, tmp_path: Path, unused_tcp_port: int, language: str, command: list[str]
) -> None:
    """The example as it stands, behind what speaks TLS for it."""
    source = tmp_path / "endpoint"
    source.write_text(example(language))
    environment = {"PATH": os.environ["PATH"], "HUB_SECRET": SECRET, "PORT": str(unused_tcp_port)}
    process = await asyncio.create_subprocess_exec(*command, str(source), env=environment, cwd=tmp_path)
    statuses: list[int] = []
    try:
        async with aiohttp.ClientSession() as client:
            await until(partial(listens, unused_tcp_port))

            async def pass_on(request: web.Request) -> web.Response:
                headers = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
                url = f"http://127.0.0.1:{unused_tcp_port}/"
                async with client.post(url, data=shop.asked[-1].body, headers=headers) as answer:
                    statuses.append(answer.status)
                    return web.Response(status=answer.status, body=await answer.read())

            shop.script = [pass_on]
            async with open_for(trust) as assistants:
                assert await say(assistants, choose(shop, secret=SECRET)) == ["You said: When?"]
                assert await say(assistants, choose(shop)) == [FALLBACK_TEXT]
    finally:
        process.kill()
        await process.wait()
    assert statuses == [200, 401]


async def listens(port: int) -> bool:
    """Whether somebody listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def test_the_examples_are_about_twenty_lines() -> None:
    assert [len(example(language).splitlines()) <= 26 for language in ("python", "javascript")] == [True, True]


# Fair shares


async def test_a_slow_endpoint_leaves_connections_to_the_others(shop: Shop, trust: ssl.SSLContext) -> None:
    arrived = asyncio.Semaphore(0)

    async def hang(request: web.Request) -> web.Response:
        if "slow" in request.path:
            arrived.release()
            await asyncio.Event().wait()
        return replies("Quick.")

    shop.script = [hang]
    slow = choose(shop, endpoint_url=f"https://{HOST}:{shop.port}/slow")

    @asynccontextmanager
    async def busy(assistants: Assistants) -> AsyncIterator[None]:
        turns = [asyncio.create_task(say(assistants, slow)) for _ in range(40)]
        await arrived.acquire()
        await arrived.acquire()
        yield
        for turn in turns:
            turn.cancel()
        await asyncio.wait(turns)

    async with open_for(trust, ai_max_connections=20) as assistants, busy(assistants):
        turn = replace(make_turn(choose(shop)), business_id="another")
        (reply,) = await assistants.choose(turn.choice).reply(turn)
        assert reply == Text(body="Quick.")
    assert [asked.path for asked in shop.asked] == ["/slow", "/slow", "/turns?shop=1"]
