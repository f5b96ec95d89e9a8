"""The webhook over real HTTP: handshake, signature, tenants, and 200 only for what is durable."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, web

from whatsapp_hub.cloud_api.messages import Webhook
from whatsapp_hub.cloud_api.payload import Item, read_webhook
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.routes import add_routes
from whatsapp_hub.http.webhook import Webhooks, own_items
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import WebhookKeys
from whatsapp_hub.tenants.table import Row, Table

SAMPLES = Path(__file__).parents[1] / "samples"
SHARED, OLDER, OWN = b"shared-secret", b"older-secret", b"bakery-secret"
SHARED_NUMBER, BAKERY_NUMBER, CAFE_NUMBER = "106540352242922", "200", "300"
PATH, BAKERY, CAFE, UNKNOWN = (
    "/whatsapp_response",
    "/whatsapp_response/bakery",
    "/whatsapp_response/cafe",
    "/whatsapp_response/nobody",
)


def make_row(sub_domain: str, number: str, *, secret: bytes | None = None, token: str | None = None) -> Row:
    return Row(
        id=f"id-{sub_domain}",
        sub_domain=sub_domain,
        account_id=f"account-{sub_domain}",
        phone_number_ids=(number,),
        enabled=True,
        app_secrets=None if secret is None else (secret,),
        verify_tokens=None if token is None else (token,),
    )


ROWS = [
    make_row("florist", SHARED_NUMBER),
    make_row("bakery", BAKERY_NUMBER, secret=OWN, token="bakery-token"),
    make_row("cafe", CAFE_NUMBER),
]


class Tenants:
    """The table of the directory, without the database that fills it."""

    def __init__(self, app_secrets: tuple[bytes, ...], verify_token: str | None, *, loaded: bool) -> None:
        self.loaded = loaded
        self._table = Table(app_secrets=app_secrets, verify_token=verify_token, nobodys_secret=b"nobody")
        self._table.update(ROWS if loaded else ())

    def webhook_keys(self, sub_domain: str | None) -> WebhookKeys | None:
        return self._table.keys(sub_domain)

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        numbers = {number: row.sub_domain for row in ROWS for number in row.phone_number_ids}
        return numbers.get(phone_number_id)


@dataclass
class Inbox:
    """A journal that only remembers."""

    accepted: list[Webhook] = field(default_factory=list)
    durable: asyncio.Event = field(default_factory=asyncio.Event)
    available: bool = True
    fault: Exception | None = None

    async def accept(self, webhook: Webhook) -> None:
        await self.durable.wait()
        if not self.available:
            raise StoreUnavailable
        if self.fault:
            raise self.fault
        self.accepted.append(webhook)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def read_answer(response: ClientResponse) -> Answer:
    return Answer(response.status, dict(response.headers), await response.read())


@dataclass
class Hub:
    client: ClientSession
    port: int
    inbox: Inbox
    metrics: Metrics

    async def post(self, body: bytes, path: str = PATH, *, secret: bytes | None = SHARED, **headers: str) -> int:
        return (await self.exchange(body, path, secret=secret, **headers)).status

    async def exchange(self, body: bytes, path: str = PATH, *, secret: bytes | None = SHARED, **headers: str) -> Answer:
        if secret is not None:
            headers["X-Hub-Signature-256"] = sign(body, secret)
        async with self.client.post(path, data=body, headers=headers) as response:
            return await read_answer(response)

    async def greet(self, path: str = PATH, **query: str) -> Answer:
        names = {"mode": "subscribe", "challenge": "1158201444"} | query
        params = {f"hub.{name}": value for name, value in names.items()}
        async with self.client.get(path, params=params) as response:
            return await read_answer(response)

    def counted(self, business: str, status: int) -> float:
        labels = {"business": business, "status": str(status)}
        return self.metrics.registry.get_sample_value("webhook_requests_total", labels) or 0.0

    def ignored(self, kind: str) -> float:
        labels = {"kind": kind, "outcome": "ignored"}
        return self.metrics.registry.get_sample_value("whatsapp_hub_items_total", labels) or 0.0


@asynccontextmanager
async def serving(
    *,
    app_secrets: tuple[bytes, ...] = (SHARED, OLDER),
    verify_token: str | None = "shared-token",
    allow_unsigned: bool = False,
    loaded: bool = True,
) -> AsyncIterator[Hub]:
    inbox, metrics = Inbox(), Metrics()
    inbox.durable.set()
    tenants = Tenants(app_secrets, verify_token, loaded=loaded)
    app = web.Application()
    app[keys.WEBHOOKS] = Webhooks(tenants, inbox, metrics, allow_unsigned=allow_unsigned, body_timeout_s=1)
    add_routes(app)
    # As in production; aiohttp's test server would cancel the handler of a client that left.
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, lingering_time=0.1, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            yield Hub(client, port, inbox, metrics)
    finally:
        await runner.cleanup()


@pytest.fixture(name="hub")
async def _hub() -> AsyncIterator[Hub]:
    async with serving() as hub:
        yield hub


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def make_body(*numbers: str, account: str = "account-bakery", **more: Any) -> bytes:
    """Write a payload with a message for each number."""
    changes = [
        {
            "field": "messages",
            "value": {
                "metadata": {"phone_number_id": number},
                "messages": [{"id": f"wamid.{number}", "from": "15551234567", "type": "text"}],
                **more,
            },
        }
        for number in numbers
    ]
    return json.dumps({"entry": [{"id": account, "changes": changes}]}).encode()


async def test_the_handshake_echoes_the_bare_challenge(hub: Hub) -> None:
    response = await hub.greet(verify_token="shared-token")

    assert (response.status, response.body) == (200, b"1158201444")
    assert response.headers["Content-Type"] == "text/plain"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_challenge_is_never_taken_for_a_page(hub: Hub) -> None:
    response = await hub.greet(verify_token="shared-token", challenge="<script>alert('é')</script>")

    assert response.body.decode() == "<script>alert('é')</script>"
    assert response.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"verify_token": ""},
        {"verify_token": "shared-toke"},
        {"verify_token": "SHARED-TOKEN"},
        {"verify_token": "é\U0001f600"},
        {"verify_token": "shared-token", "mode": ""},
        {"verify_token": "shared-token", "mode": "unsubscribe"},
    ],
)
async def test_a_handshake_that_does_not_fit_is_refused(hub: Hub, query: dict[str, str]) -> None:
    response = await hub.greet(**query)

    assert response.status == 403
    assert b"1158201444" not in response.body


async def test_a_handshake_without_a_challenge_is_refused(hub: Hub) -> None:
    query = "?hub.mode=subscribe&hub.verify_token=shared-token"
    async with hub.client.get(PATH + query) as response:
        assert response.status == 403


@pytest.mark.parametrize("token", [None, ""])
async def test_an_unset_token_never_passes(token: str | None) -> None:
    async with serving(verify_token=token) as hub:
        assert (await hub.greet()).status == 403
        assert (await hub.greet(verify_token="")).status == 403


async def test_each_path_has_its_own_token(hub: Hub) -> None:
    assert (await hub.greet(BAKERY, verify_token="bakery-token")).status == 200
    assert (await hub.greet(BAKERY, verify_token="shared-token")).status == 403
    assert (await hub.greet(PATH, verify_token="bakery-token")).status == 403
    assert (await hub.greet(CAFE, verify_token="shared-token")).status == 200
    assert (await hub.greet(UNKNOWN, verify_token="shared-token")).status == 403


async def test_other_methods_are_not_allowed(hub: Hub) -> None:
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS"):
        async with hub.client.request(method, PATH) as response:
            assert response.status == 405


async def test_a_webhook_is_answered_only_when_it_is_durable(hub: Hub) -> None:
    hub.inbox.durable.clear()
    answer = asyncio.create_task(hub.exchange(sample("batch")))
    await asyncio.sleep(0.05)
    assert not answer.done()

    hub.inbox.durable.set()
    response = await answer

    assert (response.status, response.body) == (200, b"")
    (webhook,) = hub.inbox.accepted
    assert (len(webhook.messages), len(webhook.statuses), len(webhook.others)) == (3, 1, 2)


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json")))
async def test_everything_that_meta_sends_is_accepted(hub: Hub, name: str) -> None:
    assert await hub.post(sample(name)) == 200
    assert len(hub.inbox.accepted[0]) >= 1


async def test_what_cannot_be_stored_is_to_come_again(hub: Hub) -> None:
    hub.inbox.available = False

    response = await hub.exchange(sample("text"))

    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    assert hub.counted("florist", 503) == 1


async def test_both_shared_secrets_count_during_rotation(hub: Hub) -> None:
    assert await hub.post(sample("text"), secret=SHARED) == 200
    assert await hub.post(sample("text"), secret=OLDER) == 200


async def test_a_forged_webhook_is_refused_and_never_read(hub: Hub) -> None:
    assert await hub.post(sample("text"), secret=b"guessed") == 401
    assert await hub.post(sample("text"), secret=None) == 401
    assert await hub.post(b"{", secret=b"guessed") == 401
    assert hub.inbox.accepted == []
    assert hub.counted("unverified", 401) == 3


async def test_the_signature_is_over_the_bytes_on_the_wire(hub: Hub) -> None:
    body = json.dumps({"text": "é \U0001f600 /"}).encode()
    same_json = json.dumps({"text": "é \U0001f600 /"}, ensure_ascii=False).encode()

    assert await hub.post(body) == 200
    assert await hub.post(same_json, secret=None, **{"X-Hub-Signature-256": sign(body, SHARED)}) == 401


async def test_two_signatures_are_none(hub: Hub) -> None:
    body = sample("text")
    headers = [("X-Hub-Signature-256", sign(body, SHARED)), ("X-Hub-Signature-256", sign(body, SHARED))]
    async with hub.client.post(PATH, data=body, headers=headers) as response:
        assert response.status == 401


async def test_an_own_secret_counts_on_its_own_path_only(hub: Hub) -> None:
    body = make_body(BAKERY_NUMBER)

    assert await hub.post(body, BAKERY, secret=OWN) == 200
    assert await hub.post(body, PATH, secret=OWN) == 401
    assert await hub.post(body, CAFE, secret=OWN) == 401
    assert await hub.post(body, BAKERY, secret=SHARED) == 401


async def test_a_business_without_a_secret_of_its_own_uses_the_shared_one(hub: Hub) -> None:
    assert await hub.post(make_body(CAFE_NUMBER), CAFE, secret=SHARED) == 200
    assert hub.counted("cafe", 200) == 1


async def test_an_own_secret_speaks_for_its_own_numbers_only(hub: Hub) -> None:
    statuses = [{"id": "wamid.CAFE", "status": "read"}]
    body = make_body(BAKERY_NUMBER, CAFE_NUMBER, "unknown", statuses=statuses, weather="fine")

    assert await hub.post(body, BAKERY, secret=OWN) == 200

    (webhook,) = hub.inbox.accepted
    items: tuple[Item, ...] = (*webhook.messages, *webhook.statuses, *webhook.others)
    assert len(items) == 3
    assert {item.phone_number_id for item in items} == {BAKERY_NUMBER}
    assert [hub.ignored(kind) for kind in ("message", "status", "other")] == [2, 2, 2]
    assert hub.counted("bakery", 200) == 1


@pytest.mark.parametrize(
    ("entry", "accepted"),
    [
        ({"id": "account-bakery"}, 1),
        ({"id": "account-cafe"}, 0),
        ({}, 0),
        ({"id": ""}, 0),
        ({"id": None}, 0),
    ],
)
async def test_where_no_number_is_named_the_account_has_to_be_its_own(
    hub: Hub, entry: dict[str, object], accepted: int
) -> None:
    change = {"field": "account_update", "value": {"event": "DISABLED_UPDATE"}}
    body = json.dumps({"entry": [entry | {"changes": [change]}]}).encode()

    assert await hub.post(body, BAKERY, secret=OWN) == 200

    assert sum(map(len, hub.inbox.accepted)) == accepted
    assert hub.ignored("other") == 1 - accepted


async def test_a_business_without_an_account_does_not_speak_for_items_without_one() -> None:
    webhook = read_webhook(b'{"entry":[{"changes":[{"field":"account_update","value":{}}]}]}', now=1, new_id=None)
    applying = WebhookKeys(app_secrets=(OWN,), verify_token=None, only_phone_number_ids=frozenset())

    assert len(webhook) == 1
    assert len(own_items(webhook, applying)) == 0


async def test_what_an_own_secret_signs_is_refused_where_it_cannot_be_taken_apart(hub: Hub) -> None:
    body = b'{"entry":' + b"[" * 100 + b"]" * 100 + b"}"

    assert await hub.post(body, BAKERY, secret=OWN) == 200
    assert sum(map(len, hub.inbox.accepted)) == 0
    assert await hub.post(body, PATH) == 200
    assert hub.inbox.accepted[-1].others[0].item == body


async def test_a_subdomain_that_nobody_has_looks_like_a_forged_signature(hub: Hub) -> None:
    unknown = await hub.exchange(sample("text"), UNKNOWN)
    forged = await hub.exchange(sample("text"), BAKERY)

    assert unknown == forged
    assert unknown.status == 401
    async with hub.client.post(UNKNOWN, data=BytesIO(b"x" * 5_000_000)) as response:
        assert response.status == 413


async def test_before_the_businesses_are_loaded_their_paths_have_to_wait() -> None:
    async with serving(loaded=False) as hub:
        assert await hub.post(sample("text"), BAKERY, secret=OWN) == 503
        assert await hub.post(sample("text"), PATH) == 200
        assert (await hub.greet(BAKERY, verify_token="bakery-token")).status == 403


async def test_without_a_secret_nothing_is_accepted_unless_it_is_asked_for() -> None:
    async with serving(app_secrets=()) as hub:
        assert await hub.post(sample("text"), secret=None) == 401
        assert await hub.post(sample("text"), secret=b"") == 401


async def test_unsigned_mode_takes_the_load_test_of_the_guide() -> None:
    async with serving(app_secrets=(), allow_unsigned=True) as hub:
        for _ in range(2):
            assert await hub.post(sample("load_test"), secret=None) == 200
        assert await hub.post(sample("text"), secret=b"whatever") == 200
        assert await hub.post(sample("text"), UNKNOWN, secret=None) == 401

        first, second = (webhook.messages[0] for webhook in hub.inbox.accepted[:2])
        assert first.id != second.id
        assert first.conversation == second.conversation == "123456789:15551234567"


async def test_unsigned_mode_has_no_effect_where_a_secret_applies() -> None:
    async with serving(app_secrets=(), allow_unsigned=True) as hub:
        assert await hub.post(make_body(BAKERY_NUMBER), BAKERY, secret=None) == 401
        assert await hub.post(make_body(BAKERY_NUMBER), BAKERY, secret=OWN) == 200
    async with serving(allow_unsigned=True) as hub:
        assert await hub.post(sample("text"), secret=None) == 401
        assert await hub.post(sample("load_test")) == 200
        assert hub.inbox.accepted[0].messages == ()


@pytest.mark.parametrize(
    ("numbers", "label"),
    [
        ([SHARED_NUMBER], "florist"),
        ([SHARED_NUMBER, SHARED_NUMBER], "florist"),
        ([SHARED_NUMBER, CAFE_NUMBER], "several"),
        ([SHARED_NUMBER, "unknown"], "several"),
        (["unknown"], "other"),
    ],
)
async def test_webhooks_are_counted_by_business(hub: Hub, numbers: list[str], label: str) -> None:
    assert await hub.post(make_body(*numbers)) == 200

    assert hub.counted(label, 200) == 1
    assert hub.metrics.registry.get_sample_value("webhook_request_duration_seconds_count") == 1


async def test_what_is_no_object_is_counted_as_nobodys(hub: Hub) -> None:
    assert await hub.post(b"[]") == 400
    assert await hub.post(b"[]", BAKERY, secret=OWN) == 400

    assert (hub.counted("other", 400), hub.counted("bakery", 400)) == (1, 1)


async def test_a_client_that_leaves_is_no_error(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\nabc".encode())
    await asyncio.sleep(0.05)
    writer.close()
    async with asyncio.timeout(2):
        while not hub.counted("unverified", 499):
            await asyncio.sleep(0.01)

    assert caplog.records == []
    assert await hub.post(sample("text")) == 200


async def test_an_error_of_our_own_is_counted(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    hub.inbox.fault = RuntimeError("broken")

    assert await hub.post(sample("text")) == 500
    assert hub.counted("unverified", 500) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_nothing_of_a_webhook_is_logged(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = make_body(BAKERY_NUMBER, CAFE_NUMBER)
    for path, secret in ((PATH, SHARED), (PATH, b"guessed"), (BAKERY, OWN), (UNKNOWN, OWN)):
        await hub.post(body, path, secret=secret)
    await hub.greet(verify_token="guessed-token")

    logged = " ".join(str(record.__dict__) for record in caplog.records if record.name == "webhook")

    assert "items of others refused" in logged
    for secret_word in ("15551234567", "secret", "guessed", "wamid", "sha256=", "nobody"):
        assert secret_word not in logged
