"""A hub as systemd runs it: the socket that it is handed, what it says, what the watchdog sees, SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
import click
import orjson
import pytest

from tests.faults.driver import PATH, Driver
from tests.faults.outages import deliveries, talking
from tests.faults.service import Service, open_service
from tests.faults.world import open_world
from tests.hub import SECRET, text_message, until, webhook_of
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.demo.statuses import WebhookTarget
from whatsapp_hub.server import STOP_S

RESTARTS: Final = 2
PATIENT: Final = {"ack_timeout_s": 4.0}  #: how fast the database of a busy machine is, is not what is tested
SLACK_S: Final = 1.0  #: what the driver and the database of a busy machine take
WATCHDOG_S: Final = 0.8
BLOCKED_S: Final = 1.2
#: An operator's code at its worst.
ASSISTANT: Final = f"""
import time

class Blocking:
    async def reply(self, turn):
        time.sleep({BLOCKED_S})
        return "done"
"""


@asynccontextmanager
async def serving(
    folder: Path, *, unix_path: Path | None = None, without: str = "", **own: str
) -> AsyncIterator[Service]:
    """Hold a socket for a hub that is still to be started, in a world of its own."""
    async with open_world(start=False, environment=own) as world:
        environment = {name: value for name, value in world.hubs[0]._environment.items() if name != without}
        async with open_service(environment, folder, unix_path=unix_path) as service:
            yield service


@pytest.mark.deadlines
@pytest.mark.timeout(60)
async def test_a_restart_under_load_refuses_no_connection_and_answers_nothing_but_200() -> None:
    """F24.

    The client opens a connection for each webhook. On one that is kept open and idle a request can meet its end.
    """
    connector = aiohttp.TCPConnector(force_close=True)
    async with open_world(start=False, timing=PATIENT) as world, aiohttp.ClientSession(connector=connector) as client:
        hub = world.hubs[0]
        world.driver = Driver(client)
        async with open_service(hub._environment, world.folder, log=hub.log_path) as service:
            world.driver.urls = [service.url]
            world.graph.statuses.target = WebhookTarget(url=service.url + PATH, secret=SECRET.encode())
            await service.start()
            took_s: list[float] = []
            async with talking(world, for_s=5, rate_per_s=60):
                for _ in range(RESTARTS):
                    await asyncio.sleep(0.5)
                    began_at = time.monotonic()
                    assert await service.stop() == 0
                    await service.start()
                    took_s.append(time.monotonic() - began_at)
            acks_s = [one.acked_at - one.sent_at for one in world.driver.messages if one.acked_at is not None]
            restarts = " and ".join(f"{one:.2f}" for one in took_s)
            click.echo(f"F24: {len(acks_s)} webhooks, restarts took {restarts} s, the longest ack {max(acks_s):.2f} s")
            assert {one.status for one in deliveries(world)} == {200}
            assert max(acks_s) > 0.2, "nobody had to wait"
            assert max(acks_s) <= max(took_s) + SLACK_S
            await world.assert_holds()
            assert await service.stop() == 0


@pytest.mark.deadlines
async def test_what_a_hub_tells_systemd_and_that_a_blocked_loop_feeds_no_watchdog(tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(ASSISTANT)
    code = {"ASSISTANTS": "blocking=blocking:Blocking", "ASSISTANT": "blocking", "DRAIN_TIMEOUT_S": "7"}
    path = tmp_path / "hub.sock"
    async with serving(tmp_path, unix_path=path, PYTHONPATH=find_code(tmp_path), **code) as service:
        await service.start(watchdog_s=WATCHDOG_S)
        await service.hear("STATUS=takes webhooks", after=0)
        await until(lambda: is_fed(service, 4))
        fed = service.times_of("WATCHDOG=1")
        assert max(later - earlier for earlier, later in pairwise(fed)) < WATCHDOG_S
        assert await post(path, text_message("hello", wamid="wamid.1")) == 200
        await until(lambda: is_fed(service, len(fed) + 3))
        assert max(later - earlier for earlier, later in pairwise(service.times_of("WATCHDOG=1"))) >= BLOCKED_S
        stopped_at = time.monotonic()
        assert await service.stop() == 0
        said = await service.hear("STOPPING=1", after=stopped_at)
        assert f"EXTEND_TIMEOUT_USEC={int((7 + STOP_S) * 1e6)}" in said.words
        assert path.is_socket(), "it was not the hub's to take away"


async def test_sighup_reads_the_levels_again_and_names_what_waits_for_a_restart(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    async with serving(tmp_path, without="LOG_LEVEL") as service:
        await service.start()

        async def reload(settings: str, *, says: str) -> dict[str, Any]:
            dotenv.write_text(settings)
            seen, began_at = len(read_lines(service.log)), time.monotonic()
            service.send(signal.SIGHUP)
            reloading = await service.hear("RELOADING=1", after=began_at)
            assert any(word.startswith("MONOTONIC_USEC=") for word in reloading.words)
            await service.hear("READY=1", after=began_at)
            return await find_line(service.log, seen, says)

        waiting = await reload("LOG_LEVEL=ERROR\nHISTORY_TURNS=3\n", says="settings that wait for a restart")
        assert waiting["settings"] == ["HISTORY_TURNS"]
        changed = await find_line(service.log, 0, "settings reloaded")
        assert changed["changed"] == ["LOG_LEVEL"]
        wrong = await reload("LOG_LEVEL=LOUD\n", says="settings not reloaded, the old ones stay")
        assert wrong["level"] == "ERROR"
        assert "LOG_LEVEL" in wrong["faults"][0]
        changed = await reload("LOG_LEVEL=INFO\n", says="settings reloaded")
        assert changed["changed"] == ["LOG_LEVEL"]
        assert await service.stop() == 0
    messages = [line["message"] for line in read_lines(service.log)]
    assert messages[-1] == "stopped"


def test_something_passed_that_does_not_listen_is_a_wrong_setting(tmp_path: Path) -> None:
    start = 'exec 3</dev/null && LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -m whatsapp_hub serve'
    settings = {
        "MONGODB_URI": "mongodb://127.0.0.1:1",
        "MONGODB_DB_NAME": "hub",
        "ENCRYPTION_SECRET": "secret",
        "WHATSAPP_APP_SECRET": "secret",
        "ASSISTANT": "echo",
    }
    result = subprocess.run(
        ["sh", "-c", start, sys.executable],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": find_code(tmp_path), **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "LISTEN_FDS: what was passed does not listen" in result.stderr
    assert "Traceback" not in result.stderr


def find_code(folder: Path) -> str:
    """Return a path on which both the operator's code and the program are found."""
    return os.pathsep.join([str(folder), str(Path(__file__).parents[2])])


async def is_fed(service: Service, times: int) -> bool:
    return len(service.times_of("WATCHDOG=1")) >= times


async def find_line(log: Path, after: int, message: str) -> dict[str, Any]:
    """Wait until something is logged behind the first ``after`` lines, and return it."""

    async def found() -> dict[str, Any] | None:
        return next((line for line in read_lines(log)[after:] if line["message"] == message), None)

    return await until(found)


def read_lines(log: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.read_bytes().rpartition(b"\n")[0].splitlines()]


async def post(path: Path, message: Mapping[str, Any]) -> int:
    """Post a signed webhook to a Unix socket and return the status of its answer."""
    body = orjson.dumps(webhook_of(dict(message), number="101"))
    headers = {"X-Hub-Signature-256": sign(body, SECRET.encode())}
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
        client.post(f"http://hub{PATH}", data=body, headers=headers) as response,
    ):
        return response.status
