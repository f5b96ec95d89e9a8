"""The demo's server in the tests' process: its answers, its words, and why an answer may not come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import click
import pytest

from whatsapp_hub.database import Database
from whatsapp_hub.demo.embedded import Embedded
from whatsapp_hub.demo.faults import Fault, StatusPlan
from whatsapp_hub.demo.hub_process import DemoFailed, HubProcess
from whatsapp_hub.demo.once import ask_once
from whatsapp_hub.demo.running import Demo, open_demo
from whatsapp_hub.demo.samples import SAMPLES
from whatsapp_hub.demo.welcome import describe, print_replies


@pytest.fixture
async def demo(database: Database, mongodb_uri: str) -> AsyncIterator[Demo]:
    async with open_on("127.0.0.1", database, mongodb_uri) as running:
        yield running


@asynccontextmanager
async def open_on(host: str, database: Database, mongodb_uri: str) -> AsyncIterator[Demo]:
    with closing(socket.create_server((host, 0))) as listener, HubProcess(listener) as hub:
        async with open_demo(mongodb_uri, hub, database_name=database.inbox.database.name) as running:
            yield running


async def test_each_business_is_answered_with_its_own_token(demo: Demo) -> None:
    """The stand-in for Graph takes no other."""
    answers = await ask_once(demo)
    assert [(answer.business, answer.reply) for answer in answers] == [(s.sub_domain, s.question) for s in SAMPLES]
    assert all(answer.ack_ms > 0 and answer.reply_ms > 0 for answer in answers)
    assert len({send.token for send in demo.graph.log.accepted}) == 3


async def test_every_reply_that_does_not_come_has_its_reason(demo: Demo) -> None:
    demo.graph.control.faults.arm(
        Fault(code=131026, times=None, customer=SAMPLES[0].customer), Fault(code=100, customer=SAMPLES[2].customer)
    )
    with pytest.raises(DemoFailed) as caught:
        await ask_once(demo)
    first, second = str(caught.value).splitlines()
    assert first.startswith("bakery: no reply: 131026 ")
    assert second.startswith("dentist: no reply: 100 ")


async def test_reply_that_is_not_delivered_is_no_success(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whatsapp_hub.demo.once.DELIVERY_TIMEOUT_S", 0.5)
    demo.graph.control.plan = StatusPlan(steps=(("sent", 0.0),))
    with pytest.raises(DemoFailed, match=r"bikes: stored, but no reply was delivered .* \(its message is done\)"):
        await ask_once(demo)


async def test_webhook_that_is_refused_is_told(demo: Demo) -> None:
    with pytest.raises(DemoFailed, match="answered 401 instead of 200"):
        await ask_once(replace(demo, app_secret="another"))
    with pytest.raises(DemoFailed, match="was not answered"):
        await ask_once(replace(demo, address="http://127.0.0.1:1"))


async def test_replies_are_printed_as_they_come_with_numbers_masked(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    printing = asyncio.create_task(print_replies(demo))
    await ask_once(demo)
    await asyncio.sleep(0)
    printing.cancel()
    await asyncio.wait([printing])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"{s.sub_domain} -> ***{s.customer[-4:]}: {s.question}" for s in SAMPLES)


async def test_welcome_says_what_to_try(demo: Demo) -> None:
    database = Embedded(uri="mongodb://x", kind="mongod", version="6.0", origin="on the PATH")
    lines = [click.unstyle(line) for line in describe(demo, database)]
    assert lines[0] == f"WhatsApp Hub demo at {demo.address}, on mongod 6.0 (on the PATH)"
    assert all(any(sample.phone_number_id in line for line in lines) for sample in SAMPLES)
    assert sum(line.startswith("curl ") for line in lines) == 1
    for words in ("/health", "/ready", "/metrics", "Ctrl-C", demo.app_secret):
        assert any(words in line for line in lines)


async def test_demo_that_listens_everywhere_is_reached_on_loopback(database: Database, mongodb_uri: str) -> None:
    async with open_on("0.0.0.0", database, mongodb_uri) as running:
        assert running.address.startswith("http://127.0.0.1:")
        assert len(await ask_once(running)) == 3
