"""ALERT_WEBHOOK_URL: what is posted there, how often, and that a receiver that fails disturbs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.contract.conftest import Failing
from tests.hub import ENCRYPTION_SECRET, SECRET, Hub, StartHub, business, until
from whatsapp_hub import __version__
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox import census

FIELDS = {"kind", "business", "reason", "count", "time", "host", "instance", "version", "text"}
PATH = "/hook/key-of-the-operator"
CUSTOMER = "491700000001"
SOON: Mapping[str, Any] = {"whatsappTokenExpiresAt": datetime.now(UTC) + timedelta(days=6, hours=1)}


@dataclass(kw_only=True)
class Receiver:
    """Who is told."""

    url: str = ""
    status: int = 200
    lines: list[bytes] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.lines.append(await request.read())
        await self.may_answer.wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"} if self.status == 302 else {})

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.lines]

    async def first(self, kind: str, business: str | None) -> dict[str, Any]:
        """Wait for an alert."""

        async def found() -> dict[str, Any] | None:
            return next((a for a in self.alerts if (a["kind"], a["business"]) == (kind, business)), None)

        return await until(found)

    def count(self, kind: str, business: str | None) -> int:
        return sum((alert["kind"], alert["business"]) == (kind, business) for alert in self.alerts)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A server that takes alerts."""
    receiver = Receiver()
    receiver.may_answer.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    receiver.url = str(server.make_url(PATH))
    yield receiver
    receiver.may_answer.set()
    await server.close()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "EVERY_S", 0.05)


async def start(
    start_hub: StartHub, database: Database, url: str, *, outage_s: float = 30.0, **documents: Mapping[str, Any]
) -> Hub:
    """Start a hub that tells ``url``, with businesses by subdomain; a busy machine is no outage."""
    if documents:
        await database.businesses.insert_many(business(name.removeprefix("b"), **c) for name, c in documents.items())
    return await start_hub(ALERT_WEBHOOK_URL=url, timing={"alert_look_s": 0.05, "alert_outage_s": outage_s})


async def let_die(hub: Hub, number: str, *wamids: str) -> None:
    """Have Graph refuse the replies to these messages for good."""
    for wamid in wamids:
        hub.graph.control.faults.arm(Fault(token=f"token-{number}", code=131047, status=400))
        await hub.say(number, "a text of the customer", wamid)
        await hub.row_where(number, wamid, state="dead")


@pytest.mark.deadlines  # an outage of so many seconds, on a machine that has nothing else to do
async def test_each_kind_is_told_in_the_shape_of_the_contract(
    start_hub: StartHub, database: Database, receiver: Receiver, failing: Failing
) -> None:
    documents: dict[str, Any] = {"b101": SOON, "b102": {"whatsappAccessToken": "damaged"}, "b103": {}}
    hub = await start(start_hub, database, receiver.url, outage_s=1.0, **documents)
    await hub.say("102", "hello", "wamid.1")
    await let_die(hub, "103", "wamid.1")
    told = [
        await receiver.first("token_expires", "b101"),
        await receiver.first("business_held", "b102"),
        await receiver.first("dead_letter", "b103"),
    ]
    with failing("find", "update", "insert", "aggregate"):
        told.append(await receiver.first("database_down", None))
    assert "expires in 6 days" in told[0]["reason"]
    assert told[2]["count"] == 1
    assert told[3]["reason"] == "the database does not answer"
    assert all(set(alert) == FIELDS for alert in told)
    assert all(alert["version"] == __version__ and alert["host"] and alert["instance"] for alert in told)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in receiver.lines)
    assert await hub.sample("whatsapp_hub_alerts_total", outcome="sent") >= 4


async def test_what_happens_again_within_the_hour_is_not_told(
    start_hub: StartHub, database: Database, receiver: Receiver
) -> None:
    hub = await start(start_hub, database, receiver.url, b101={}, b102={})
    await let_die(hub, "101", "wamid.1")
    await receiver.first("dead_letter", "b101")
    await let_die(hub, "101", "wamid.2", "wamid.3")
    await let_die(hub, "102", "wamid.1")
    await receiver.first("dead_letter", "b102")  # seen in a later look than the other two
    assert receiver.count("dead_letter", "b101") == 1


async def test_processes_tell_once_between_them_and_not_again_after_a_restart(
    start_hub: StartHub, database: Database, receiver: Receiver
) -> None:
    hub = await start(start_hub, database, receiver.url, b101=SOON, b102={}, b103={})
    other = await start(start_hub, database, receiver.url)
    await receiver.first("token_expires", "b101")
    await other.stop()
    again = await start(start_hub, database, receiver.url)
    for number in ("102", "103"):
        await let_die(again, number, "wamid.1")
        await receiver.first("dead_letter", f"b{number}")
    await hub.stop()
    assert [receiver.count("token_expires", "b101"), receiver.count("dead_letter", "b102")] == [1, 1]


async def test_letter_that_died_while_the_hub_stopped_is_told(
    start_hub: StartHub, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "EVERY_S", 600)  # after the first count
    hub = await start(start_hub, database, receiver.url, b101=SOON)

    async def is_counted() -> bool:
        return await hub.sample("whatsapp_hub_token_expires_seconds") > 0

    await until(is_counted)
    await let_die(hub, "101", "wamid.1")
    assert receiver.count("dead_letter", "b101") == 0
    await hub.stop()
    assert receiver.count("dead_letter", "b101") == 1


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_receiver_that_refuses_is_told_when_it_takes_alerts_again(
    start_hub: StartHub, database: Database, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    hub = await start(start_hub, database, receiver.url, b101=SOON, b102={})

    async def was_refused() -> bool:
        return await hub.sample("whatsapp_hub_alerts_total", outcome="failed") >= 1

    await until(was_refused)
    await hub.say("102", "hello", "wamid.1")
    await hub.row_where("102", "wamid.1", state="done")
    receiver.status = 200

    async def was_told() -> bool:
        return await hub.sample("whatsapp_hub_alerts_total", outcome="sent") == 1

    await until(was_told)
    assert {alert["business"] for alert in receiver.alerts} == {"b101"}


async def test_receiver_that_is_dead_or_hangs_disturbs_nothing(
    start_hub: StartHub, database: Database, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.may_answer.clear()
    dead = f"http://127.0.0.1:1{PATH}"
    for url, number in ((dead, "102"), (receiver.url, "103")):
        named: dict[str, Any] = {f"b{number}": SOON}
        hub = await start(start_hub, database, url, **named)
        if url != dead:
            await receiver.first("token_expires", "b102")  # and now it hangs
        await hub.say(number, "hello", "wamid.1")
        await hub.row_where(number, "wamid.1", state="done")
        assert (await hub.exchange("GET", "/ready")).status == 200
        async with asyncio.timeout(4):
            await hub.stop()
    assert "alert not delivered" in caplog.text
    assert [record for record in caplog.records if "key-of-the-operator" in repr(vars(record))] == []


async def test_nothing_secret_is_told(start_hub: StartHub, database: Database, receiver: Receiver) -> None:
    both = [business("104", subDomain=name) for name in (CUSTOMER, "shop")]  # named in the reason
    await database.businesses.insert_many(both)
    hub = await start(start_hub, database, receiver.url, b101=SOON, b102={"whatsappAccessToken": "damaged"}, b103={})
    for number in ("102", "104"):
        await hub.say(number, "a text of the customer", "wamid.1")
    await let_die(hub, "103", "wamid.1")
    for kind, name in (("token_expires", "b101"), ("business_held", "b102"), ("dead_letter", "b103")):
        await receiver.first(kind, name)
    assert "claimed by several" in (await receiver.first("business_held", "other"))["reason"]
    everything = b"".join(receiver.lines).decode()
    secrets = (SECRET, ENCRYPTION_SECRET, "token-10", CUSTOMER, "a text of the customer", "key-of-the-operator")
    assert [secret for secret in secrets if secret in everything] == []


async def test_nothing_is_posted_without_the_variable(
    start_hub: StartHub, database: Database, receiver: Receiver
) -> None:
    await database.businesses.insert_one(business("101", **SOON))
    hub = await start_hub(timing={"alert_look_s": 0.05})
    await let_die(hub, "101", "wamid.1")
    await hub.stop()
    assert receiver.lines == []
