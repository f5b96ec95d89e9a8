"""The playground's site by itself, and the hub's process beside it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import orjson
import pytest

from whatsapp_hub.database import Database
from whatsapp_hub.demo.browser import has_browser
from whatsapp_hub.demo.hub_process import DemoFailed, HubProcess
from whatsapp_hub.demo.once import ask_once
from whatsapp_hub.demo.playground.playground import Playground
from whatsapp_hub.demo.playground.site import open_site
from whatsapp_hub.demo.running import Demo, open_demo
from whatsapp_hub.demo.samples import SAMPLES

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        yield bound


@pytest.fixture
async def page(listener: socket.socket) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a playground without a demo."""
    playground = Playground(listener, None)
    async with open_site(playground), aiohttp.ClientSession(playground.page) as client:
        yield client


# --- The site ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/assets/main.js", "/events", "/picture.png"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_foreign_host_or_origin_gets_nothing(
    page: aiohttp.ClientSession, path: str, headers: dict[str, str]
) -> None:
    async with page.get(path, headers=headers) as answer:
        assert answer.status == 403
        assert "WhatsApp" not in await answer.text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**JSON, "Origin": "http://evil.example"}, 403),
        ({**JSON, "Host": "evil.example"}, 403),
        (FORM, 415),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
async def test_other_sites_cannot_press_a_button(
    page: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    async with page.post("/actions/kill", data=b'{"when":"now"}', headers=headers) as answer:
        assert answer.status == status


async def test_page_may_load_nothing_from_elsewhere(page: aiohttp.ClientSession) -> None:
    for path in ("/", "/assets/phone.css", "/assets/main.js", "/assets/nothing.js"):
        async with page.get(path) as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "http" not in (await answer.text()).replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("nonsense", b"{}", 404),
        ("say", b"", 400),
        ("say", b"[]", 400),
        ("say", b'{"chat":"bakery"}', 400),
        ("graph", b'{"to":"nonsense"}', 400),
        ("kill", b'{"when":["now"]}', 400),
    ],
)
async def test_bad_input_is_told(page: aiohttp.ClientSession, action: str, body: bytes, status: int) -> None:
    async with page.post(f"/actions/{action}", data=body, headers=JSON) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]


async def test_files_beside_the_page_are_not_served(page: aiohttp.ClientSession) -> None:
    for path in ("/assets/..%2fsite.py", "/assets/%2e%2e%2f__init__.py", "/assets/site.py"):
        async with page.get(path) as answer:
            assert answer.status == 404


# --- The hub's process ------------------------------------------------------------------------------------------------


@pytest.fixture
async def demo(listener: socket.socket, database: Database, mongodb_uri: str) -> AsyncIterator[Demo]:
    with HubProcess(listener) as hub:
        async with open_demo(mongodb_uri, hub, database_name=database.inbox.database.name) as running:
            yield running


async def test_hub_that_was_killed_comes_back_and_connections_wait_for_it(demo: Demo) -> None:
    killed = demo.hub.pid
    demo.hub.kill()
    assert len(await ask_once(demo)) == len(SAMPLES)
    assert demo.hub.pid != killed
    assert demo.hub.deaths == 1


async def test_hub_that_cannot_start_is_told_and_not_tried_again(listener: socket.socket) -> None:
    with HubProcess(listener) as hub, pytest.raises(DemoFailed, match="exit status 1"):
        await hub.keep_running({"no_such_setting": 1}, environ={}, playground=None)


async def test_playground_is_found_by_way_of_the_hub(
    listener: socket.socket, database: Database, mongodb_uri: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as page, HubProcess(listener) as hub:
        playground = Playground(page, None)
        async with (
            open_demo(mongodb_uri, hub, database_name=database.inbox.database.name, extras=playground) as demo,
            playground.running(demo),
            open_site(playground),
            aiohttp.ClientSession() as client,
            client.get(f"{demo.address}/playground") as answer,
        ):
            assert answer.url.port == page.getsockname()[1]
            assert "playground" in await answer.text()


def test_hub_ends_with_the_demo_that_is_killed(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "whatsapp_hub", "demo", "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # nobody is left to clean up
    )
    assert demo.stdout is not None
    with demo:
        url = next(found[1] for line in demo.stdout if (found := re.match(r"Playground: +(\S+) ", line)))
        with urllib.request.urlopen(f"{url}events", timeout=10) as events:
            pid = orjson.loads(events.readline().removeprefix(b"data: "))["hub"]["pid"]
        assert _is_alive(pid)
        demo.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


# --- The browser ------------------------------------------------------------------------------------------------------


def test_no_browser_is_opened_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_browser({"DISPLAY": ":0"})  # the output of tests is no terminal
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setattr(sys, "stdout", _Terminal())
    monkeypatch.setattr(sys, "platform", "linux")
    assert has_browser({"DISPLAY": ":0"})
    assert not has_browser({})
    assert not has_browser({"DISPLAY": ":0", "SSH_CONNECTION": "192.0.2.1"})
    assert not has_browser({"DISPLAY": ":0", "CI": "true"})


class _Terminal:
    def isatty(self) -> bool:
        return True
