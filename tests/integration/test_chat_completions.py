from __future__ import annotations

import asyncio
import gzip
import logging
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.tls import HOST, Names, client_context, make_certificate, server_context
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.assistants.base import CustomerMessage, PastTurn, Text, Turn
from whatsapp_hub.assistants.registry import Assistants, open_assistants
from whatsapp_hub.errors import AssistantFailed, SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(text: str = "Nine to five.", **more: object) -> web.Response:
    return web.json_response({"choices": [{"message": {"role": "assistant", "content": text}}], **more})


@dataclass
class Asked:
    """One request that arrived."""

    path: str
    authorization: str | None
    body: dict[str, Any]


@dataclass
class Model:
    """A server that speaks ``/chat/completions``: says what it is told to, then repeats the last of it."""

    script: list[Handler] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def https_url(self) -> str:
        return f"https://{HOST}:{self.port}/v1"

    def say(self, *responses: Callable[[], web.Response]) -> None:
        """Answer with these, one after the other."""

        def handler(make: Callable[[], web.Response]) -> Handler:
            async def handle(_request: web.Request) -> web.Response:
                return make()

            return handle

        self.script = [handler(make) for make in responses]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.asked.append(Asked(str(request.rel_url), request.headers.get("Authorization"), body))
        if not self.script:
            return answer()
        return await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(request)

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Model]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(ssl=tls, shutdown_timeout=0.1)
        assert server.port
        self.port = server.port
        try:
            yield self
        finally:
            await server.close()


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    """The environment's server, over plain HTTP."""
    async with Model().serve() as model:
        yield model


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key, for one host."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
async def other_model(certificate: Path) -> AsyncIterator[Model]:
    """A server that a business's document names, over HTTPS."""
    async with Model().serve(server_context(certificate)) as model:
        yield model


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    """Trusts that server."""
    return client_context(certificate)


def make_settings(model: Model, **more: object) -> Settings:
    values: dict[str, object] = {
        "assistant": "openai",
        "ai_base_url": model.url,
        "ai_api_key": "the-environments-key",
        "ai_model": "m-1",
        "ai_instructions": "Be brief.",
        "ai_timeout_s": 2,
        "timing": {"assistant_retry_base_s": 0.001},
    }
    return Settings.isolated(**values | more)


def make_turn(choice: AssistantChoice | None = None, *, business: str = "acme", text: str = "When?") -> Turn:
    return Turn(
        id="106:wamid.1",
        business_id=f"id-of-{business}",
        business_name="Acme",
        sub_domain=business,
        phone_number_id="106",
        customer="4915112345678",
        customer_name="Ada",
        messages=(CustomerMessage(id="wamid.1", kind="text", text=text, timestamp=1, raw=b"{}"),),
        history=(PastTurn(customer="Hello", reply="Hi."),),
        choice=choice,
    )


async def say(assistants: Assistants, choice: AssistantChoice | None = None, *, business: str = "acme") -> str:
    (reply,) = await assistants.choose(choice).reply(make_turn(choice, business=business))
    assert isinstance(reply, Text)
    return reply.body


def count(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("whatsapp_hub_assistant_requests_total", {"outcome": outcome}) or 0


def open_for(
    model: Model, metrics: Metrics | None = None, **settings: object
) -> AbstractAsyncContextManager[Assistants]:
    return open_assistants(make_settings(model, **settings), metrics or Metrics())


# What is asked, and what comes of it


async def test_the_model_is_asked_with_everything_it_needs(model: Model) -> None:
    async with open_for(model) as assistants:
        assert await say(assistants) == "Nine to five."
    (asked,) = model.asked
    assert asked == Asked(
        path="/v1/chat/completions",
        authorization="Bearer the-environments-key",
        body={
            "model": "m-1",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi."},
                {"role": "user", "content": "When?"},
            ],
        },
    )


async def test_a_document_may_choose_model_instructions_temperature_and_key(model: Model) -> None:
    choice = AssistantChoice(
        kind="openai", model="m-2", instructions="Rhyme.", temperature=0.5, api_key="the-businesss-key"
    )
    async with open_for(model) as assistants:
        await say(assistants, choice)
    (asked,) = model.asked
    assert asked.authorization == "Bearer the-businesss-key"
    assert (asked.body["model"], asked.body["temperature"]) == ("m-2", 0.5)
    assert asked.body["messages"][0] == {"role": "system", "content": "Rhyme."}


async def test_a_document_without_a_kind_refines_the_environments_choice(model: Model) -> None:
    async with open_for(model) as assistants:
        await say(assistants, AssistantChoice(kind=None, model="m-2"))
    assert model.asked[0].body["model"] == "m-2"


async def test_a_query_in_the_base_url_is_kept(model: Model) -> None:
    async with open_for(model, ai_base_url=f"{model.url}/de%20ploy?api-version=1") as assistants:
        await say(assistants)
    assert model.asked[0].path == "/v1/de%20ploy/chat/completions?api-version=1"


async def test_tokens_are_counted_for_the_business(model: Model) -> None:
    metrics = Metrics()
    model.say(lambda: answer(usage={"prompt_tokens": 12, "completion_tokens": 3}))
    async with open_for(model, metrics) as assistants:
        await say(assistants)
        await say(assistants)
    read = metrics.registry.get_sample_value
    labels = {"business": "acme"}
    assert read("whatsapp_hub_assistant_tokens_total", labels | {"direction": "input"}) == 24
    assert read("whatsapp_hub_assistant_tokens_total", labels | {"direction": "output"}) == 6
    assert count(metrics, "answered") == 2


# What fails for a moment


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_passing_errors_are_tried_again(model: Model, status: int) -> None:
    metrics = Metrics()
    model.say(lambda: web.Response(status=status), lambda: web.Response(status=status), answer)
    async with open_for(model, metrics) as assistants:
        assert await say(assistants) == "Nine to five."
    assert (len(model.asked), count(metrics, "retried"), count(metrics, "answered")) == (3, 2, 1)


async def test_it_is_asked_three_times_at_most(model: Model) -> None:
    metrics = Metrics()
    model.say(lambda: web.Response(status=503))
    async with open_for(model, metrics) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
    assert (len(model.asked), count(metrics, "retried"), count(metrics, "fallback")) == (3, 2, 1)


async def test_it_waits_as_long_as_the_server_asks_for(model: Model) -> None:
    model.say(lambda: web.Response(status=429, headers={"Retry-After": "0.04"}), answer)
    async with open_for(model) as assistants:
        began = asyncio.get_running_loop().time()
        assert await say(assistants) == "Nine to five."
        assert asyncio.get_running_loop().time() - began >= 0.04


async def test_it_does_not_wait_for_a_server_that_asks_for_too_long(model: Model) -> None:
    model.say(lambda: web.Response(status=429, headers={"Retry-After": "3600"}), answer)
    async with open_for(model) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
    assert len(model.asked) == 1


async def test_a_connection_that_breaks_is_tried_again(model: Model) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport
        request.transport.abort()
        return response

    async def recover(_request: web.Request) -> web.Response:
        return answer()

    model.script = [hang_up, break_off, recover]
    async with open_for(model) as assistants:
        assert await say(assistants) == "Nine to five."


async def test_a_server_that_is_not_there_gives_the_fallback(unused_tcp_port: int) -> None:
    async with open_for(Model(port=unused_tcp_port)) as assistants:
        assert await say(assistants) == FALLBACK_TEXT


async def test_a_server_that_hangs_is_asked_once_more_and_given_up(model: Model) -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return answer()

    model.script = [hang]
    async with open_for(model, ai_timeout_s=0.05) as assistants:
        async with asyncio.timeout(1):
            assert await say(assistants) == FALLBACK_TEXT
    assert len(model.asked) == 2


async def test_a_server_that_drips_is_given_up(model: Model) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    model.script = [drip]
    async with open_for(model, ai_timeout_s=0.05) as assistants:
        async with asyncio.timeout(1):
            assert await say(assistants) == FALLBACK_TEXT


# What fails for good


@pytest.mark.parametrize("status", [300, 302, 307, 400, 401, 403, 404, 413, 422])
async def test_final_errors_are_not_tried_again(model: Model, status: int) -> None:
    model.say(lambda: web.Response(status=status, headers={"Location": model.url}))
    async with open_for(model) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": ""}}]}', b"\xff\xfe"],
)
async def test_garbage_gives_the_fallback(model: Model, body: bytes) -> None:
    model.say(lambda: web.Response(body=body))
    async with open_for(model) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
    assert len(model.asked) == 1


async def test_an_answer_without_end_is_cut_off(model: Model) -> None:
    cut_off = asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65_536)
        finally:
            cut_off.set()

    model.script = [flood]
    async with open_for(model) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
        async with asyncio.timeout(5):
            await cut_off.wait()
    assert len(model.asked) == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_answer_of_five_megabytes_is_refused(model: Model, encoding: str) -> None:
    text = orjson.dumps({"choices": [{"message": {"content": "x" * 5_000_000}}]})
    body, headers = (gzip.compress(text) if encoding == "gzip" else text), {"Content-Encoding": encoding}
    model.say(lambda: web.Response(body=body, headers=headers), answer)
    async with open_for(model) as assistants:
        assert await say(assistants) == FALLBACK_TEXT
        assert await say(assistants) == "Nine to five."


async def test_a_business_may_have_its_own_fallback(model: Model) -> None:
    model.say(lambda: web.Response(status=400))
    async with open_for(model) as assistants:
        assert await say(assistants, AssistantChoice(kind="openai", fallback_text="Einen Moment.")) == "Einen Moment."


async def test_a_failure_is_logged_and_counted_without_words_of_anybody(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    body = {"error": {"code": "context_length_exceeded", "message": "You said: When? (4915112345678)"}}
    model.say(lambda: web.json_response(body, status=400))
    with caplog.at_level(logging.INFO, logger="assistants"):
        async with open_for(model, metrics) as assistants:
            await say(assistants)
    (record,) = caplog.records
    logged = str(vars(record))
    assert (record.getMessage(), vars(record)["business"]) == ("assistant gave no answer, the fallback is sent", "acme")
    assert vars(record)["reason"] == "the server answered 400 context_length_exceeded"
    assert not [word for word in ("When", "4915112345678", "key", "Sorry") if word in logged]
    assert count(metrics, "fallback") == 1


async def test_a_cancelled_turn_gives_its_connection_back(model: Model) -> None:
    arrived = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return answer()

    model.script = [hang]
    async with open_for(model, ai_max_connections=1) as assistants:
        turn = asyncio.create_task(say(assistants))
        await arrived.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        model.script = []
        assert await say(assistants) == "Nine to five."


# Whose key goes where


@pytest.mark.parametrize(("own_key", "sent"), [(None, None), ("", None), ("its-own-key", "Bearer its-own-key")])
async def test_the_environments_key_never_goes_to_a_documents_server(
    model: Model, other_model: Model, trust: ssl.SSLContext, own_key: str | None, sent: str | None
) -> None:
    settings = make_settings(model, assistant_allow_nets="127.0.0.0/8")
    choice = AssistantChoice(kind="openai", base_url=other_model.https_url, api_key=own_key)
    async with open_assistants(settings, Metrics(), resolver=Names("127.0.0.1"), tls=trust) as assistants:
        assert await say(assistants, choice) == "Nine to five."
    assert ([asked.authorization for asked in other_model.asked], model.asked) == ([sent], [])


async def test_no_cookie_is_carried_to_another_turn(model: Model) -> None:
    seen: list[str | None] = []

    async def bake(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = answer()
        response.set_cookie("who", "acme")
        return response

    model.script = [bake]
    # A jar keeps no cookies of bare addresses, so the server is asked by name.
    async with open_for(model, ai_base_url=f"http://localhost:{model.port}/v1") as assistants:
        await say(assistants)
        await say(assistants)
    assert seen == [None, None]


async def test_proxies_of_the_environment_are_not_used(
    model: Model, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
    async with open_for(model) as assistants:
        assert await say(assistants) == "Nine to five."


# Where a document's URL may lead


@pytest.mark.parametrize(
    "url",
    [
        "http://model.example/v1",
        "https://127.0.0.1:{port}/v1",
        "https://[::1]:{port}/v1",
        "https://[::ffff:127.0.0.1]:{port}/v1",
        "https://169.254.169.254/v1",
        "https://2130706433:{port}/v1",
        "https://0x7f000001:{port}/v1",
        "https://127.1:{port}/v1",
        "https://user:pass@model.example/v1",
    ],
)
async def test_a_url_that_leads_inside_holds_the_business(
    model: Model, other_model: Model, trust: ssl.SSLContext, url: str
) -> None:
    choice = AssistantChoice(kind="openai", base_url=url.format(port=other_model.port))
    async with open_assistants(make_settings(model), Metrics(), tls=trust) as assistants:
        fault = assistants.find_fault(choice)
        assert fault is not None
        assert fault.startswith("its assistant's baseUrl ")
        with pytest.raises(AssistantFailed):
            assistants.choose(choice)
    assert other_model.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_a_name_that_leads_inside_is_not_connected_to(
    model: Model, other_model: Model, trust: ssl.SSLContext, address: str
) -> None:
    choice = AssistantChoice(kind="openai", base_url=other_model.https_url)
    async with open_assistants(make_settings(model), Metrics(), resolver=Names(address), tls=trust) as assistants:
        assert await say(assistants, choice) == FALLBACK_TEXT
    assert other_model.asked == []


async def test_localhost_of_the_systems_own_resolver_is_not_connected_to(
    model: Model, other_model: Model, trust: ssl.SSLContext
) -> None:
    choice = AssistantChoice(kind="openai", base_url=f"https://localhost:{other_model.port}/v1")
    async with open_assistants(make_settings(model), Metrics(), tls=trust) as assistants:
        assert await say(assistants, choice) == FALLBACK_TEXT
    assert other_model.asked == []


async def test_a_name_is_connected_to_where_it_was_checked(
    model: Model, other_model: Model, trust: ssl.SSLContext
) -> None:
    """Whoever answers the first look with a good address and the next with a bad one gains nothing by it."""
    names = Names("127.0.0.2", "127.0.0.1")  # the first is allowed here, and nobody listens there
    settings = make_settings(model, assistant_allow_nets="127.0.0.2/32")
    choice = AssistantChoice(kind="openai", base_url=other_model.https_url)
    async with open_assistants(settings, Metrics(), resolver=names, tls=trust) as assistants:
        assert await say(assistants, choice) == FALLBACK_TEXT
    assert other_model.asked == []


async def test_a_redirect_to_the_inside_is_not_followed(
    model: Model, other_model: Model, trust: ssl.SSLContext
) -> None:
    other_model.say(lambda: web.Response(status=307, headers={"Location": f"{model.url}/chat/completions"}))
    settings = make_settings(model, assistant_allow_nets="127.0.0.0/8")
    choice = AssistantChoice(kind="openai", base_url=other_model.https_url)
    async with open_assistants(settings, Metrics(), resolver=Names("127.0.0.1"), tls=trust) as assistants:
        assert await say(assistants, choice) == FALLBACK_TEXT
    assert (len(other_model.asked), model.asked) == (1, [])


async def test_a_server_with_a_strange_certificate_is_not_asked(model: Model, other_model: Model) -> None:
    settings = make_settings(model, assistant_allow_nets="127.0.0.0/8")
    choice = AssistantChoice(kind="openai", base_url=other_model.https_url)
    async with open_assistants(settings, Metrics(), resolver=Names("127.0.0.1")) as assistants:
        assert await say(assistants, choice) == FALLBACK_TEXT
    assert other_model.asked == []


# Fair shares


async def test_a_busy_business_does_not_keep_the_others_waiting(model: Model) -> None:
    """A thousand turns of one business wait for ten connections; another's turn is among the next to be asked."""
    order: list[str] = []
    full, go_on = asyncio.Event(), asyncio.Event()

    async def work(_request: web.Request) -> web.Response:
        order.append(model.asked[-1].body["messages"][-1]["content"])
        if len(order) == 10:
            full.set()
        await go_on.wait()
        return answer()

    model.script = [work]
    async with open_for(model, ai_max_connections=10) as assistants, asyncio.TaskGroup() as turns:
        chat = assistants.choose(None)
        for _ in range(1000):
            turns.create_task(chat.reply(make_turn(business="busy", text="busy")))
        await full.wait()
        turns.create_task(chat.reply(make_turn(business="quiet", text="quiet")))
        await asyncio.sleep(0)
        go_on.set()
    assert len(order) == 1001
    assert order.index("quiet") < 25


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may: a thousand connections have two thousand ends here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_connections_are_used_at_once_and_no_more(model: Model) -> None:
    inside = most = 0
    go_on = asyncio.Event()

    async def work(_request: web.Request) -> web.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 1000:
            go_on.set()
        await go_on.wait()
        inside -= 1
        return answer()

    model.script = [work]
    async with open_for(model, ai_timeout_s=20) as assistants, asyncio.TaskGroup() as turns:
        for place in range(1200):
            turns.create_task(say(assistants, business=f"b{place % 50}"))
    assert (most, len(model.asked)) == (1000, 1200)


async def test_a_slow_server_of_one_business_leaves_connections_to_the_others(
    model: Model, other_model: Model, trust: ssl.SSLContext
) -> None:
    arrived = asyncio.Semaphore(0)

    async def hang_but_for_quiet(_request: web.Request) -> web.Response:
        if other_model.asked[-1].body["model"] == "slow":
            arrived.release()
            await asyncio.Event().wait()
        return answer()

    other_model.script = [hang_but_for_quiet]
    settings = make_settings(model, assistant_allow_nets="127.0.0.0/8", ai_max_connections=20)
    slow, quiet = (AssistantChoice(kind="openai", base_url=other_model.https_url, model=name) for name in ("slow", "q"))
    async with open_assistants(settings, Metrics(), resolver=Names("127.0.0.1"), tls=trust) as assistants:
        waiting = [asyncio.create_task(say(assistants, slow, business="acme")) for _ in range(40)]
        await arrived.acquire()
        await arrived.acquire()
        assert await say(assistants, quiet, business="quiet") == "Nine to five."
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    assert [asked.body["model"] for asked in other_model.asked] == ["slow", "slow", "q"]


# What is wrong before anybody asks


async def test_openais_own_server_is_not_chosen_without_a_key() -> None:
    settings = Settings.isolated(assistant="openai", ai_model="m-1")
    with pytest.raises(SettingsInvalid, match="OpenAI's server needs a key"):
        async with open_assistants(settings, Metrics()):
            pass


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (AssistantChoice(kind="openai"), "no model is named"),
        (AssistantChoice(kind="openai", model="m", api_key="line\nbreak"), "has characters that no key has"),
        (AssistantChoice(kind="openai", model="m", api_key="schlüssel"), "has characters that no key has"),
    ],
)
async def test_a_document_that_cannot_be_served_is_told_from_one_that_can(
    model: Model, choice: AssistantChoice, words: str
) -> None:
    async with open_for(model, assistant="echo", ai_model=None) as assistants:
        assert words in (assistants.find_fault(choice) or "")
        assert assistants.find_fault(AssistantChoice(kind="openai", model="m")) is None
