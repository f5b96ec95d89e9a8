"""The real process: ``serve`` with its settings from every place, where it listens, what it logs, how it stops."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.hub import ENCRYPTION_SECRET, SECRET, text_message, until, webhook_of
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import Database

Line = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A process that serves, and where it logs."""

    process: asyncio.subprocess.Process
    url: str
    console: Path

    async def status(self, path: str, **options: Any) -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.request("POST" if options else "GET", self.url + path, **options) as response,
        ):
            return response.status

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            return await self.process.wait()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(folder: Path, port: int, **env: str) -> AsyncIterator[Served]:
    """Run ``serve`` in a folder until it is ready, with nothing of this process's environment but the path."""
    console = folder / "console"
    with console.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "whatsapp_hub", "serve"),
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **env},
            stderr=stderr,
        )
    served = Served(process, f"http://127.0.0.1:{port}", console)

    async def is_ready() -> bool:
        assert process.returncode is None, console.read_text()
        try:
            return await served.status("/ready") == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await until(is_ready, 20)
        yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def lines_of(path: Path) -> Iterator[Line]:
    return map(orjson.loads, path.read_bytes().splitlines())


async def find_line(path: Path, **wanted: str) -> Line:
    """Wait for a line with these values."""

    async def found() -> Line | None:
        return next((line for line in lines_of(path) if wanted.items() <= line.items()), None)

    return await until(found)


async def test_process_is_set_up_from_everywhere_logs_json_and_stops_cleanly(
    database: Database, mongodb_uri: str, tmp_path: Path, free_port: int
) -> None:
    """MONGODB_URI from a file, secrets from the credentials, some from ``.env``, the rest from the environment."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "encryption_secret").write_text(f"{ENCRYPTION_SECRET}\n")
    (credentials / "whatsapp_app_secret").write_text(f"{SECRET}\n")
    (tmp_path / "uri").write_text(f"{mongodb_uri}\n")
    (tmp_path / ".env").write_text("DRAIN_TIMEOUT_S=1\nASSISTANT=none\n#\nexport LOG_LEVEL=ERROR\n")
    log = tmp_path / "hub.log"
    settings = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "MONGODB_URI_FILE": str(tmp_path / "uri"),
        "MONGODB_DB_NAME": database.inbox.database.name,
        "HOST": "127.0.0.1",
        "PORT": str(free_port),
        "LOG_LEVELS": "hub=INFO, webhook=WARNING",
        "LOG_FILE": str(log),
    }
    async with serving(tmp_path, free_port, **settings) as served:
        body = orjson.dumps(webhook_of(text_message("hello", wamid="wamid.1"), number="101"))
        signature = {"X-Hub-Signature-256": sign(body, SECRET.encode())}
        assert await served.status("/whatsapp_response", data=body, headers=signature) == 200
        assert await database.inbox.count_documents({}) == 1
        assert await served.status("/whatsapp_response", data=body) == 401
        listening = await find_line(log, message="listening")
        assert listening["address"] == served.url
        refused = await find_line(log, message="webhooks refused")
        assert [*refused][:4] == ["time", "level", "name", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", refused["time"])
        assert (refused["level"], refused["name"]) == ("WARNING", "webhook")

        log.rename(tmp_path / "hub.log.1")
        served.process.send_signal(signal.SIGHUP)

        async def is_reopened() -> bool:
            return log.exists()

        await until(is_reopened)
        assert await served.stop() == 0
    assert {line["message"] for line in lines_of(log)} >= {"stopping", "stopped"}
    assert "listening" in {line["message"] for line in lines_of(tmp_path / "hub.log.1")}
    console = [*lines_of(served.console)]
    assert console == [*lines_of(tmp_path / "hub.log.1"), *lines_of(log)]
    quiet = {line["name"] for line in console} - {"hub", "webhook"}
    assert all(line["level"] in {"ERROR", "CRITICAL"} for line in console if line["name"] in quiet)
    assert "4917" not in served.console.read_text()


async def test_log_format_text_is_for_people_and_the_default_level_is_info(
    database: Database, mongodb_uri: str, tmp_path: Path, free_port: int
) -> None:
    settings = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": database.inbox.database.name,
        "ENCRYPTION_SECRET": ENCRYPTION_SECRET,
        "WHATSAPP_APP_SECRET": SECRET,
        "ASSISTANT": "echo",
        "HOST": "127.0.0.1",
        "PORT": str(free_port),
        "LOG_FORMAT": "text",
    }
    async with serving(tmp_path, free_port, **settings) as served:
        assert await served.stop() == 0
    text = served.console.read_text()
    assert re.search(r"^\S+Z INFO +hub: listening address=http://127\.0\.0\.1:\d+$", text, re.MULTILINE)
    assert re.search(r"^\S+Z INFO +business_service: cache is warm ", text, re.MULTILINE)
    assert "DEBUG" not in text
