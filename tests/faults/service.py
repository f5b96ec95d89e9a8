"""What systemd is to a hub: it holds the listening socket, starts the hub with it, and hears what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.hubs import HOST, end_with_parent
from tests.hub import until
from whatsapp_hub.systemd import FIRST_FD

BACKLOG: Final = 4096
MAX_WORDS_BYTES: Final = 4096
HEARD_WITHIN_S: Final = 20.0
#: A process of its own, so that the id for which the socket is meant is the one that the hub has.
_START: Final = f"""
import os, sys
os.dup2(int(sys.argv[1]), {FIRST_FD})
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "whatsapp_hub", "serve"])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One thing that the hub said."""

    words: tuple[str, ...]
    at: float


class Service:
    """A hub as systemd runs it."""

    def __init__(
        self, environment: Mapping[str, str], listener: socket.socket, mouth: socket.socket, folder: Path, log: Path
    ) -> None:
        self.listener = listener
        self.heard: list[Heard] = []
        self.log = log
        self._environment = environment
        self._mouth = mouth
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where its webhooks go, if it listens at a port."""
        return f"http://{HOST}:{self.listener.getsockname()[1]}"

    async def start(self, *, watchdog_s: float | None = None) -> None:
        """Start it and wait until it says that it is ready."""
        began_at = time.monotonic()
        watched = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1_000_000))}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(*end_with_parent(), sys.executable, "-S", "-c", _START, str(self.listener.fileno())),
                cwd=self._folder,
                env={**self._environment, **watched, "NOTIFY_SOCKET": str(self._mouth.getsockname())},
                pass_fds=(self.listener.fileno(),),
                stdout=output,
                stderr=output,
            )
        await self.hear("READY=1", after=began_at)

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, timeout_s: float) -> int:
        """Wait until it has ended and return its exit status. Raises ``TimeoutError``."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def stop(self) -> int:
        """Stop it and wait until it has ended; its socket stays open."""
        self.send(signal.SIGTERM)
        return await self.wait(HEARD_WITHIN_S)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def hear(self, word: str, *, after: float) -> Heard:
        """Wait until it has said something that begins like this, and return all that it said with it."""

        async def has_said() -> Heard | None:
            said = (heard for heard in self.heard if heard.at > after)
            found = next((heard for heard in said if any(one.startswith(word) for one in heard.words)), None)
            has_ended = self._process is not None and self._process.returncode is not None
            assert found or not has_ended, self.log.read_text()[-2000:]
            return found

        return await until(has_said, HEARD_WITHIN_S)

    def times_of(self, word: str) -> list[float]:
        """Return when it said this."""
        return [heard.at for heard in self.heard if word in heard.words]

    async def listen(self) -> None:
        """Hear what it says, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            words = await loop.sock_recv(self._mouth, MAX_WORDS_BYTES)
            self.heard.append(Heard(words=tuple(words.decode().split("\n")), at=time.monotonic()))


@asynccontextmanager
async def open_service(
    environment: Mapping[str, str], folder: Path, *, log: Path | None = None, unix_path: Path | None = None
) -> AsyncIterator[Service]:
    """Hold a socket for a hub, which is still to be started, at a port or at ``unix_path``."""
    mouth_path = folder / "notify"
    with (
        _bind(unix_path) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth,
    ):
        mouth.bind(os.fspath(mouth_path))
        mouth.setblocking(False)
        service = Service(environment, listener, mouth, folder, log or folder / "service.log")
        listening = asyncio.create_task(service.listen())
        try:
            yield service
        finally:
            service.kill()
            listening.cancel()
            await asyncio.wait([listening])


def _bind(unix_path: Path | None) -> socket.socket:
    if unix_path is None:
        return socket.create_server((HOST, 0), backlog=BACKLOG)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(unix_path))
    listener.listen(BACKLOG)
    return listener
