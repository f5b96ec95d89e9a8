"""The database servers of a world: one or three, each of which can be killed, put to sleep and woken."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.hub import until
from whatsapp_hub.demo.database_server import DatabaseServer
from whatsapp_hub.demo.embedded import Embedded, embedded, replica_set

Result = TypeVar("Result")

PARAMETERS: Final = {"enableTestCommands": 1, "ttlMonitorSleepSecs": 1}
PRIMARY_TIMEOUT_S: Final = 30.0


class Servers:
    """The servers, by index. They are started by one thread that lives as long as they may: they end with it."""

    def __init__(self, running: Embedded, thread: ThreadPoolExecutor) -> None:
        self.uri: Final = running.uri
        self.all: Final[tuple[DatabaseServer, ...]] = running.servers
        self.paused: set[int] = set()
        self._thread = thread

    async def start(self, index: int = 0) -> None:
        """Start a server again, on its data."""
        await _on(self._thread, self.all[index].start)

    async def kill(self, index: int = 0) -> None:
        """End a server at once."""
        self.paused.discard(index)
        await _on(self._thread, self.all[index].kill)

    def pause(self, index: int = 0) -> None:
        """Put a server to sleep."""
        self._signal(index, signal.SIGSTOP)
        self.paused.add(index)

    def resume(self, index: int = 0) -> None:
        """Wake a server. Nothing happens if it is awake or was killed meanwhile."""
        if index in self.paused:
            self.paused.discard(index)
            self._signal(index, signal.SIGCONT)

    async def primary(self) -> int:
        """Wait until there is a primary that answers, and return its index. Raises ``TimeoutError``."""

        async def found() -> tuple[int] | None:
            for index, server in enumerate(self.all):
                if server.pid is not None and index not in self.paused:
                    hello = await self.command({"hello": 1}, index)
                    if hello is not None and hello.get("isWritablePrimary"):
                        return (index,)
            return None

        return (await until(found, PRIMARY_TIMEOUT_S))[0]

    async def command(self, command: Mapping[str, Any], index: int = 0) -> Mapping[str, Any] | None:
        """Give a server an administrator's command; None where it does not take it."""
        uri = self.all[index].uri

        def run() -> Mapping[str, Any] | None:
            with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=2000, timeoutMS=5000) as client:
                try:
                    answer: Mapping[str, Any] = client.admin.command(dict(command))
                except PyMongoError:
                    return None
                return answer

        return await asyncio.to_thread(run)

    def _signal(self, index: int, number: int) -> None:
        pid = self.all[index].pid
        assert pid is not None, f"database server {index} does not run"
        os.kill(pid, number)


@asynccontextmanager
async def open_servers(count: int, folder: Path | None = None) -> AsyncIterator[Servers]:
    """Run a replica set of so many servers, which takes the commands for tests too; a single one may have a folder."""
    opening = replica_set(count, parameters=PARAMETERS) if count > 1 else embedded(folder, parameters=PARAMETERS)
    with ThreadPoolExecutor(1, "database-servers") as thread:
        running = await _on(thread, opening.__enter__)
        try:
            yield Servers(running, thread)
        finally:
            await _on(thread, lambda: opening.__exit__(None, None, None))


async def _on(thread: ThreadPoolExecutor, action: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(thread, action)
