"""The client for Graph, over TCP: what every outcome is called, and how it shares its connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

from whatsapp_hub.cloud_api.client import MAX_KEPT_ALIVE, GraphClient, _Body, open_session
from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.cloud_api.outgoing import build_send, text_part
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.demo.graph import GraphStandIn, fingerprint, open_server
from whatsapp_hub.telemetry.metrics import Metrics

NUMBER = "100200300"
TOKEN = "EAAsecrettoken"
CUSTOMER = "491701234567"
TEXT = "the text of the message"
BODY = build_send(
    text_part(TEXT), customer=CUSTOMER, callback_data="hub1|0|1|491701234567|wamid.IN", reply_to="wamid.IN"
)
SHORT = aiohttp.ClientTimeout(total=0.15)


class Hub:
    """A client and what it counted."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        timeout: aiohttp.ClientTimeout | None = None,
        limit: int = 200,
    ) -> None:
        self.metrics = Metrics()
        self.client = GraphClient(
            session,
            base_url=url,
            version="v26.0",
            metrics=self.metrics,
            max_connections=limit,
            send_timeout=timeout or aiohttp.ClientTimeout(total=5),
        )

    async def send(self, *, token: str = TOKEN, allowed: bool = True, body: bytes = BODY) -> SendResult:
        return await self.client.send(phone_number_id=NUMBER, token=token, body=body, may_send=lambda: allowed)

    async def type(self) -> None:
        await self.client.show_typing(phone_number_id=NUMBER, token=TOKEN, message_id="wamid.IN")

    def counted(self, endpoint: str, outcome: str) -> float:
        labels = {"endpoint": endpoint, "outcome": outcome}
        return self.metrics.registry.get_sample_value("whatsapp_hub_graph_requests_total", labels) or 0.0


class Graph:
    """A server whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.arrived = 0
        self.paths: list[str] = []
        self.open = asyncio.Event()
        self.status = 200
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.arrived += 1
        self.paths.append(request.path_qs)
        await self.open.wait()
        return web.json_response({"messages": [{"id": "wamid.OUT"}]}, status=self.status, headers=self.headers)

    def make_app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


@pytest.fixture
def stand_in() -> GraphStandIn:
    return GraphStandIn()


@pytest.fixture
async def url(stand_in: GraphStandIn) -> AsyncIterator[str]:
    async with open_server(stand_in.make_app()) as url:
        yield url


async def until(condition: object, *, tries: int = 400) -> None:
    """Wait for a condition that is made true by somebody else."""
    assert callable(condition)
    for _ in range(tries):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


async def test_message_is_sent_with_its_businesss_token(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str
) -> None:
    hub = Hub(session, url)

    result = await hub.send()

    [sent] = stand_in.log.accepted
    assert result == SendResult(verdict=Verdict.SENT, wamid=sent.wamid)
    assert (sent.phone_number_id, sent.token, sent.to, sent.text) == (NUMBER, fingerprint(TOKEN), CUSTOMER, TEXT)
    assert (sent.callback, sent.reply_to) == ("hub1|0|1|491701234567|wamid.IN", "wamid.IN")
    assert hub.counted("messages", "sent") == 1


@pytest.mark.parametrize(
    ("fault", "verdict", "code"),
    [
        (Fault(code=131000, status=500), Verdict.RETRY, 131000),
        (Fault(code=131056), Verdict.RETRY, 131056),
        (Fault(code=4, status=429, retry_after="7"), Verdict.RETRY, 4),
        (Fault(code=190, status=401), Verdict.HOLD, 190),
        (Fault(code=131047), Verdict.DEAD, 131047),
        (Fault(effect=Effect.GARBAGE, status=500), Verdict.UNKNOWN, None),
        (Fault(effect=Effect.GARBAGE, status=404), Verdict.RETRY, None),
        (Fault(effect=Effect.GARBAGE, status=500, body="x" * 1_000_000), Verdict.UNKNOWN, None),
        (Fault(effect=Effect.CLOSE_BEFORE), Verdict.UNKNOWN, None),
        (Fault(effect=Effect.CLOSE_AFTER), Verdict.UNKNOWN, None),
        (Fault(effect=Effect.HANG), Verdict.UNKNOWN, None),
    ],
    ids=lambda value: str(value.effect) if isinstance(value, Fault) else str(value),
)
async def test_failure_has_its_verdict(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str, fault: Fault, verdict: Verdict, code: int | None
) -> None:
    hub = Hub(session, url, timeout=SHORT)
    stand_in.control.faults.arm(fault)

    result = await hub.send()

    assert (result.verdict, result.code, result.wamid) == (verdict, code, None)
    assert hub.counted("messages", verdict) == 1


@pytest.mark.parametrize(
    ("fault", "names_it"),
    [
        (Fault(effect=Effect.TRUNCATED), False),
        (Fault(effect=Effect.NO_ID), False),
        (Fault(effect=Effect.CUT), False),
        (Fault(effect=Effect.GARBAGE, status=200), False),
        (Fault(effect=Effect.GARBAGE, status=200, body='{"messages":[{"id":"wamid.OUT"}]}'), True),
        (
            Fault(
                effect=Effect.GARBAGE, status=200, body=f'{{"messages":[{{"id":"wamid.OUT"}}],"x":"{"x" * 65_536}"}}'
            ),
            False,
        ),
        (Fault(effect=Effect.SLOW_BODY, delay_s=5.0), False),
        (Fault(effect=Effect.SLOW_BODY, delay_s=0.05), True),
    ],
    ids=lambda value: str(value.effect) if isinstance(value, Fault) else str(value),
)
async def test_200_means_sent_whatever_the_body_says(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str, fault: Fault, *, names_it: bool
) -> None:
    hub = Hub(session, url, timeout=SHORT)
    stand_in.control.faults.arm(fault)

    result = await hub.send()

    assert result.verdict is Verdict.SENT
    assert (result.wamid is not None) is names_it


async def test_retry_after_is_handed_on(session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str) -> None:
    stand_in.control.faults.arm(Fault(code=80007, status=429, retry_after="7"))

    assert (await Hub(session, url).send()).retry_after_s == 7.0


@contextmanager
def listener(backlog: int | None) -> Iterator[tuple[socket.socket, str]]:
    """Bind a port; with ``backlog`` listen there too, and never accept anything."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if backlog is not None:
            sock.listen(backlog)
        yield sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_refused_connection_is_not_sent(session: aiohttp.ClientSession) -> None:
    with listener(None) as (_, url):
        result = await Hub(session, url).send()

    assert (result.verdict, result.reason) == (Verdict.RETRY, "no connection: ClientConnectorError")


async def test_connection_that_is_never_made_is_not_sent(session: aiohttp.ClientSession) -> None:
    with listener(0) as (sock, url), socket.socket() as first, socket.socket() as second:
        for filler in (first, second):  # the queue is full then, and the next one gets no answer
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        result = await Hub(session, url, timeout=aiohttp.ClientTimeout(total=5, sock_connect=0.1)).send()

    assert (result.verdict, result.reason) == (Verdict.RETRY, "no connection: ConnectionTimeoutError")


class Resolver(AbstractResolver):
    """Answers with one address after the other; None fails, and after the last one it hangs."""

    def __init__(self, *addresses: str | None) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not self.addresses:
            await asyncio.Event().wait()
        if (address := self.addresses.pop(0)) is None:
            raise OSError(None, "no such name")
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def session_with(resolver: Resolver) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(resolver=resolver, ttl_dns_cache=300)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def test_dead_name_is_not_sent() -> None:
    async with session_with(Resolver(None)) as session:
        result = await Hub(session, "http://graph.example").send()

    assert (result.verdict, result.reason) == (Verdict.RETRY, "no connection: ClientConnectorDNSError")


async def test_name_that_hangs_until_the_timeout_is_not_sent() -> None:
    async with session_with(Resolver()) as session:
        result = await Hub(session, "http://graph.example", timeout=SHORT).send()

    assert (result.verdict, result.reason) == (Verdict.RETRY, "no connection: TimeoutError")


async def test_dead_address_is_not_kept(stand_in: GraphStandIn, url: str) -> None:
    port = url.rpartition(":")[2]
    async with session_with(Resolver("127.0.0.9", "127.0.0.1")) as session:
        hub = Hub(session, f"http://graph.example:{port}")

        assert (await hub.send()).verdict is Verdict.RETRY
        assert (await hub.send()).verdict is Verdict.SENT


async def test_closed_session_is_not_sent(url: str) -> None:
    async with open_session() as session:
        hub = Hub(session, url)

    assert (await hub.send()).verdict is Verdict.RETRY


async def test_kept_connection_that_the_server_closed_is_not_used(
    session: aiohttp.ClientSession, stand_in: GraphStandIn
) -> None:
    app = stand_in.make_app()
    runner = web.AppRunner(app, shutdown_timeout=0.1, keepalive_timeout=0.02)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hub = Hub(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    assert (await hub.send()).verdict is Verdict.SENT
    server = runner.server
    assert server is not None
    await until(lambda: not server.connections)
    await asyncio.sleep(0.01)

    assert (await hub.send()).verdict is Verdict.SENT
    await runner.cleanup()


async def test_connection_that_closed_before_the_first_byte_is_not_sent() -> None:
    body = _Body(BODY, lambda: pytest.fail("asked too early"))
    loop = asyncio.get_running_loop()

    with pytest.raises(aiohttp.ClientConnectionResetError):
        await body.write_with_length(StreamWriter(BaseProtocol(loop), loop), None)

    assert not body.written


async def test_lease_is_checked_when_the_connection_is_had(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str
) -> None:
    hub = Hub(session, url)

    result = await hub.send(allowed=False)

    assert (result.verdict, result.reason) == (Verdict.RETRY, "lease lost")
    assert stand_in.log.sends == []
    assert (await hub.send()).verdict is Verdict.SENT


async def test_lease_lost_while_connecting_is_noticed(stand_in: GraphStandIn, url: str) -> None:
    lease = [True]

    class SlowResolver(Resolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            lease[0] = False
            return await super().resolve(host, port, family)

    async with session_with(SlowResolver("127.0.0.1")) as session:
        hub = Hub(session, f"http://graph.example:{url.rpartition(':')[2]}")
        result = await hub.client.send(phone_number_id=NUMBER, token=TOKEN, body=BODY, may_send=lambda: lease[0])

    assert result.reason == "lease lost"
    assert stand_in.log.sends == []


async def test_cancelled_send_lets_its_place_go(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    async with open_server(graph.make_app()) as url:
        hub = Hub(session, url, limit=1)
        sending = asyncio.create_task(hub.send())
        await until(lambda: graph.arrived == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        graph.open.set()

        assert (await hub.send()).verdict is Verdict.SENT


async def test_200_requests_at_a_time_and_the_others_wait() -> None:
    graph = Graph()
    async with open_server(graph.make_app()) as url, open_session(max_connections=400) as session:
        hub = Hub(session, url, timeout=aiohttp.ClientTimeout(total=5))
        sends = [asyncio.create_task(hub.send()) for _ in range(230)]
        await until(lambda: graph.arrived == 200)
        await asyncio.sleep(0.05)
        arrived = graph.arrived
        graph.open.set()
        results = await asyncio.gather(*sends)

    assert arrived == 200
    assert {result.verdict for result in results} == {Verdict.SENT}


async def test_waiting_for_a_place_is_no_part_of_the_timeout(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    async with open_server(graph.make_app()) as url:
        hub = Hub(session, url, timeout=aiohttp.ClientTimeout(total=0.2), limit=1)
        first = asyncio.create_task(hub.send())
        await until(lambda: graph.arrived == 1)
        second = asyncio.create_task(hub.send())
        results = [(await first).verdict]
        assert graph.arrived == 1
        graph.open.set()
        results.append((await second).verdict)

    assert results == [Verdict.UNKNOWN, Verdict.SENT]


async def test_100_connections_are_kept(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    runner = web.AppRunner(graph.make_app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    server = runner.server
    assert server is not None
    hub = Hub(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    sends = [asyncio.create_task(hub.send()) for _ in range(150)]
    await until(lambda: graph.arrived == 150)
    graph.open.set()
    await asyncio.gather(*sends)

    await until(lambda: len(server.connections) == MAX_KEPT_ALIVE)
    await asyncio.gather(*(hub.send() for _ in range(50)))

    assert len(server.connections) == MAX_KEPT_ALIVE
    await runner.cleanup()


async def test_typing_is_shown(session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str) -> None:
    hub = Hub(session, url)

    await hub.type()

    [typing] = stand_in.typings
    assert (typing.phone_number_id, typing.message_id, typing.shows_typing) == (NUMBER, "wamid.IN", True)
    assert hub.counted("typing", "sent") == 1


async def test_typing_gives_way_to_sends(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    async with open_server(graph.make_app()) as url:
        hub = Hub(session, url, limit=8)
        sends = [asyncio.create_task(hub.send()) for _ in range(6)]
        await until(lambda: graph.arrived == 6)
        await hub.type()
        graph.open.set()
        await asyncio.gather(*sends)
        await hub.type()

    assert graph.arrived == 7
    assert hub.counted("typing", "skipped") == 1
    assert hub.counted("typing", "sent") == 1


async def test_typing_takes_at_most_a_quarter(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    async with open_server(graph.make_app()) as url:
        hub = Hub(session, url, limit=8)
        typings = [asyncio.create_task(hub.type()) for _ in range(5)]
        await until(lambda: graph.arrived == 2)
        graph.open.set()
        await asyncio.gather(*typings)

    assert graph.arrived == 2
    assert hub.counted("typing", "skipped") == 3


async def test_typing_that_fails_is_nobodys_trouble(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str
) -> None:
    hub = Hub(session, url)
    stand_in.control.faults.arm(Fault(endpoint="typing", code=131000, status=500))

    await hub.type()

    assert stand_in.typings == []
    assert hub.counted("typing", "retry") == 1


@pytest.mark.parametrize("token", ["", "with\r\nnewline", "tokén", "tab\t"])
async def test_token_that_is_none_holds_the_business(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str, token: str
) -> None:
    result = await Hub(session, url).send(token=token)

    assert result.verdict is Verdict.HOLD
    assert stand_in.log.sends == []


async def test_redirect_is_not_followed(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    graph.open.set()
    graph.status, graph.headers = 307, {"Location": "/elsewhere"}
    async with open_server(graph.make_app()) as url:
        result = await Hub(session, url).send()

    assert result.verdict is Verdict.RETRY
    assert graph.paths == [f"/v26.0/{NUMBER}/messages"]


async def test_phone_number_id_cannot_name_another_path(session: aiohttp.ClientSession) -> None:
    graph = Graph()
    graph.open.set()
    async with open_server(graph.make_app()) as url:
        hub = Hub(session, url)
        await hub.client.send(phone_number_id="../me?x=1#", token=TOKEN, body=BODY, may_send=lambda: True)

    assert graph.paths == ["/v26.0/..%2Fme%3Fx%3D1%23/messages"]


async def test_no_secret_in_results_or_logs(
    session: aiohttp.ClientSession, stand_in: GraphStandIn, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub = Hub(session, url, timeout=SHORT)
    stand_in.control.faults.arm(*(Fault(effect=effect) for effect in Effect), Fault(endpoint="typing"))

    seen = "".join([repr(await hub.send()) for _ in Effect])
    await hub.type()
    seen += "".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name == "cloud_api"
    )

    assert "typing not shown" in seen
    for secret in (TOKEN, CUSTOMER, TEXT):
        assert secret not in seen
