"""The limits by address, over real HTTP, with a webhook that knows a verified request by its header."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from whatsapp_hub.http.answers import json_answer
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.keys import MAX_BODY_BYTES
from whatsapp_hub.http.limits import LARGE_BODY_BYTES, Limits
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import WebhookKeys

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]

ADMIN_TOKEN = "a-token-of-24-characters"
OPERATOR = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
VERIFIED = {"X-Verified": "yes"}
METER = web.AppKey("meter", Metrics)
READ_LIMITS = web.AppKey("read_limits", list)
FIRST, SECOND = "203.0.113.1", "203.0.113.2"


async def receive(request: web.Request) -> web.Response:
    """Stand in for the webhook: it reads the body, and then tells whether it was verified."""
    request.app[READ_LIMITS].append(request.get(MAX_BODY_BYTES))
    await request.read()
    verified = "X-Verified" in request.headers
    return web.Response(status=int(request.headers.get("X-Status", 200 if verified else 401)))


async def raise_refusal(_: web.Request) -> web.Response:
    raise web.HTTPForbidden


async def say_fine(_: web.Request) -> web.Response:
    return json_answer({"fine": True})


def make_app(keys: dict[str | None, WebhookKeys] | None = None, **values: object) -> web.Application:
    settings = Settings.isolated(**{"trusted_proxies": "127.0.0.1", "admin_token": ADMIN_TOKEN, **values})
    metrics = Metrics()
    known = keys or {None: WebhookKeys(app_secrets=(b"secret",), verify_token=None)}
    limits = Limits(settings, metrics, ClientAddresses(settings.trusted_proxies), known.get)
    app = web.Application(middlewares=[limits.middleware], client_max_size=4 << 20)
    app[METER] = metrics
    app[READ_LIMITS] = []
    for path, name in (("/hook", "webhook"), ("/hook/{subDomain}", "webhook.business")):
        resource = app.router.add_resource(path, name=name)
        resource.add_route("GET", raise_refusal)
        resource.add_route("POST", receive)
    for name in ("health", "ready", "metrics", "prometheus"):
        app.router.add_get(f"/{name}", say_fine, name=name)
    for name in ("admin.cache.clear", "admin.cache.warmup"):
        app.router.add_post(f"/{name}", say_fine, name=name)

    async def close(_: web.Application) -> None:
        await limits.close()

    app.on_cleanup.append(close)
    return app


@pytest.fixture(name="start")
async def _start() -> AsyncIterator[Start]:
    clients: list[Client] = []

    async def start(app: web.Application) -> Client:
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


async def post(client: Client, address: str = FIRST, path: str = "/hook", **options: object) -> ClientResponse:
    headers = {"X-Forwarded-For": address, **options.pop("headers", {})}  # type: ignore[dict-item]
    async with client.post(path, headers=headers, **options) as response:  # type: ignore[arg-type]
        await response.read()
    return response


async def get(client: Client, path: str, address: str = FIRST, **headers: str) -> ClientResponse:
    async with client.get(path, headers={"X-Forwarded-For": address, **headers}) as response:
        await response.read()
    return response


async def use_up(client: Client, count: int, address: str = FIRST) -> None:
    for _ in range(count):
        assert (await post(client, address)).status == 401


def refused(client: Client, route: str) -> float:
    return client.app[METER].registry.get_sample_value("whatsapp_hub_rate_limited_total", {"route": route}) or 0.0


def answered_429(client: Client) -> float | None:
    labels = {"business": "unverified", "status": "429"}
    return client.app[METER].registry.get_sample_value("webhook_requests_total", labels)


async def test_forged_webhooks_get_401_and_over_the_limit_429_with_retry_after(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="3/minute"))
    await use_up(client, 3)

    response = await post(client)

    assert response.status == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert "too many requests" in await response.text()
    assert refused(client, "webhook") == 1


async def test_verified_webhook_passes_from_an_address_over_its_limit(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1)
    assert (await post(client)).status == 429

    assert (await post(client, headers=VERIFIED)).status == 200
    assert (await post(client)).status == 429


async def test_verified_webhooks_are_not_counted(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="2/minute"))
    for _ in range(10):
        assert (await post(client, headers=VERIFIED)).status == 200

    await use_up(client, 2)
    assert (await post(client)).status == 429


@pytest.mark.parametrize("status", [400, 503])
async def test_answer_that_says_nothing_about_verification_is_not_counted(start: Start, status: int) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    for _ in range(5):
        assert (await post(client, headers={"X-Status": str(status)})).status == status

    await use_up(client, 1)


@pytest.mark.parametrize("status", [401, 403, 408, 413, 415])
async def test_every_answer_to_something_unverified_is_counted(start: Start, status: int) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))

    assert (await post(client, headers={"X-Status": str(status)})).status == status
    assert (await post(client, headers={"X-Status": str(status)})).status == 429


async def test_failed_handshake_counts_on_the_webhook(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="2/minute"))
    assert (await get(client, "/hook")).status == 403
    await use_up(client, 1)

    assert (await get(client, "/hook")).status == 429
    assert (await get(client, "/hook/bakery")).status == 429
    assert (await post(client, path="/hook/bakery")).status == 429


async def test_addresses_are_counted_apart(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1, FIRST)

    await use_up(client, 1, SECOND)


async def test_header_of_an_untrusted_peer_gives_no_new_allowance(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="3/minute", trusted_proxies=""))
    for number in range(3):
        assert (await post(client, f"203.0.113.{number}")).status == 401

    assert (await post(client, "203.0.113.99")).status == 429


async def test_what_the_client_wrote_left_of_its_address_gives_no_new_allowance(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="3/minute", trusted_proxies="127.0.0.1,10.0.0.0/8"))
    for number in range(3):
        assert (await post(client, f"198.51.100.{number}, {FIRST}, 10.1.2.3")).status == 401

    assert (await post(client, f"198.51.100.99, {FIRST}, 10.1.2.3")).status == 429
    assert (await post(client, f"{FIRST}, {SECOND}, 10.1.2.3")).status == 401


async def test_garbage_in_the_chain_counts_against_the_proxy(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="2/minute"))
    assert (await post(client, "nonsense")).status == 401
    assert (await post(client, f"{FIRST}, nonsense")).status == 401

    assert (await post(client, "other nonsense")).status == 429
    assert (await post(client, FIRST)).status == 401


async def test_ipv6_addresses_of_one_network_count_together(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="2/minute"))
    await use_up(client, 1, "2001:db8:1:2::1")
    await use_up(client, 1, "2001:db8:1:2:ffff:ffff:ffff:ffff")

    assert (await post(client, "2001:db8:1:2::3")).status == 429
    assert (await post(client, "2001:db8:1:3::1")).status == 401


async def test_ipv4_address_in_ipv6_clothes_is_the_same_address(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1, FIRST)

    assert (await post(client, f"::ffff:{FIRST}")).status == 429


async def exchange(client: Client, request: str) -> bytes:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(request.replace("\n", "\r\n").encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1)
    writer.close()
    await writer.wait_closed()
    return answer


def large_post(length: str) -> str:
    return f"POST /hook HTTP/1.1\nHost: hub\nX-Forwarded-For: {FIRST}\n{length}\n\n"


async def test_large_body_of_an_address_over_its_limit_is_not_even_read(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1)
    calls = len(client.app[READ_LIMITS])

    answer = await exchange(client, large_post(f"Content-Length: {LARGE_BODY_BYTES + 1}"))  # and no body

    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"connection: close" in answer.lower()
    assert b"retry-after: " in answer.lower()
    assert len(client.app[READ_LIMITS]) == calls
    assert refused(client, "webhook") == 1
    assert answered_429(client) == 1


async def test_large_body_passes_where_the_address_has_some_allowance_left(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="2/minute"))
    await use_up(client, 1)

    assert (await post(client, data=b"x" * (LARGE_BODY_BYTES + 1), headers=VERIFIED)).status == 200


async def test_large_body_passes_from_an_address_that_sent_something_verified(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1)
    large = b"x" * (LARGE_BODY_BYTES + 1)
    assert (await post(client, data=large, headers=VERIFIED)).status == 429
    assert (await post(client, headers=VERIFIED)).status == 200

    assert (await post(client, data=large, headers=VERIFIED)).status == 200

    monkeypatch.setattr("whatsapp_hub.http.limits.VERIFIED_FOR_S", 0.0)
    assert (await post(client, data=large, headers=VERIFIED)).status == 429


async def test_small_verified_body_passes_from_an_address_that_only_forged(start: Start) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    await use_up(client, 1)

    assert (await post(client, data=b"x" * LARGE_BODY_BYTES, headers=VERIFIED)).status == 200


async def test_body_of_unknown_length_is_capped_for_an_address_over_its_limit(start: Start) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    client = await start(make_app(rate_limit_webhook="1/minute"))
    assert (await post(client, data=chunks())).status == 401
    assert (await post(client, data=chunks())).status == 429
    assert (await post(client, data=chunks(), headers=VERIFIED)).status == 200
    assert (await post(client, data=chunks(), headers=VERIFIED)).status == 200

    assert client.app[READ_LIMITS] == [None, LARGE_BODY_BYTES, LARGE_BODY_BYTES, None]
    assert refused(client, "webhook") == 1


UNSIGNED: dict[str | None, WebhookKeys] = {None: WebhookKeys(app_secrets=(), verify_token=None)}


async def test_unsigned_mode_counts_every_request(start: Start) -> None:
    client = await start(make_app(UNSIGNED, rate_limit_webhook="2/minute", allow_unsigned_webhooks=True))
    for _ in range(2):
        assert (await post(client, headers=VERIFIED)).status == 200

    assert (await post(client, headers=VERIFIED)).status == 429
    assert len(client.app[READ_LIMITS]) == 2
    assert answered_429(client) == 1


async def test_unsigned_mode_counts_a_refused_request_once(start: Start) -> None:
    client = await start(make_app(UNSIGNED, rate_limit_webhook="2/minute", allow_unsigned_webhooks=True))

    await use_up(client, 2)


async def test_unsigned_mode_has_no_effect_where_a_secret_applies(start: Start) -> None:
    keys = UNSIGNED | {"bakery": WebhookKeys(app_secrets=(b"own",), verify_token=None)}
    client = await start(make_app(keys, rate_limit_webhook="1/minute", allow_unsigned_webhooks=True))
    for _ in range(3):
        assert (await post(client, path="/hook/bakery", headers=VERIFIED)).status == 200

    assert (await post(client, path="/hook/unknown")).status == 401
    assert (await post(client, path="/hook/unknown")).status == 429


async def test_routes_are_counted_apart(start: Start) -> None:
    client = await start(
        make_app(rate_limit_webhook="1/minute", rate_limit_health="1/minute", rate_limit_metrics="2/minute")
    )
    await use_up(client, 1)

    assert [(await get(client, path)).status for path in ("/health", "/ready", "/metrics", "/metrics")] == [200] * 4
    assert [(await get(client, path)).status for path in ("/health", "/ready", "/metrics")] == [429] * 3
    assert (await get(client, "/health", SECOND)).status == 200
    assert [refused(client, route) for route in ("webhook", "health", "ready", "metrics")] == [0, 1, 1, 1]


async def test_text_for_prometheus_is_not_limited(start: Start) -> None:
    client = await start(make_app(rate_limit_metrics="1/minute"))

    for _ in range(3):
        assert (await get(client, "/metrics", Accept="text/plain")).status == 200
        assert (await get(client, "/prometheus")).status == 200
    assert (await get(client, "/metrics")).status == 200


async def test_operator_may_do_each_thing_once_a_minute(start: Start) -> None:
    client = await start(make_app())

    assert (await post(client, path="/admin.cache.clear", headers=OPERATOR)).status == 200
    assert (await post(client, path="/admin.cache.warmup", headers=OPERATOR)).status == 200

    response = await post(client, path="/admin.cache.clear", headers=OPERATOR)
    assert response.status == 429
    assert int(response.headers["Retry-After"]) <= 60


async def test_wrong_tokens_are_limited_and_do_not_lock_the_operator_out(start: Start) -> None:
    client = await start(make_app())
    wrong = {"Authorization": "Bearer wrong"}

    assert (await post(client, path="/admin.cache.clear", headers=wrong)).status == 200  # nobody asks for it here
    assert (await post(client, path="/admin.cache.clear", headers=wrong)).status == 429
    assert (await post(client, path="/admin.cache.clear")).status == 429

    assert (await post(client, path="/admin.cache.clear", headers=OPERATOR)).status == 200


async def test_requests_at_the_same_time_do_not_slip_through(start: Start) -> None:
    client = await start(make_app(rate_limit_health="5/minute"))

    statuses = [response.status for response in await asyncio.gather(*(get(client, "/health") for _ in range(30)))]

    assert sorted(statuses) == [200] * 5 + [429] * 25


async def test_unknown_route_is_404_in_json_and_wrong_method_405(start: Start) -> None:
    client = await start(make_app())

    missing = await get(client, "/nothing")
    assert missing.status == 404
    assert await missing.json() == {"error": "there is nothing here"}

    wrong = await post(client, path="/health")
    assert wrong.status == 405
    assert "GET" in wrong.headers["Allow"]


async def test_nothing_is_logged_where_counting_works(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = await start(make_app(rate_limit_webhook="1/minute"))
    with caplog.at_level(logging.INFO, logger="webhook"):
        await use_up(client, 1)
        await post(client)

    assert not caplog.records
