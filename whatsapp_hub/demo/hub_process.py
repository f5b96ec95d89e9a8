"""The hub as a process of its own: started, watched, killed on demand, and started again on the same socket.

The socket belongs to the demo and is handed over, as systemd would, so that connections wait in its backlog while the
hub is away.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import orjson

from whatsapp_hub.errors import HubError

RESTART_DELAY_S: Final = 0.2


class DemoFailed(HubError):
    """The demo could not do what it should."""


class HubProcess:
    """Its first process is started with it, so that its imports are done while the database starts.

    ``keep_running`` gives it its settings and starts it again whenever it dies.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Take a socket that listens."""
        self.listener = listener
        self.deaths = 0
        self.is_ready = False
        self.ready_at = 0.0  #: unix seconds, of the present or last process
        self.on_change: Callable[[], None] = lambda: None
        self._ready = asyncio.Event()
        self._process = self._spawn()

    def __enter__(self) -> Self:
        """Nothing is left to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process at once: what it worked on goes with the demo."""
        self.kill()
        self._process.wait()
        self._close_pipes()

    @property
    def address(self) -> str:
        """Where it can be reached from this machine: who listens everywhere is found on loopback."""
        host, port = self.listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - looked up, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def pid(self) -> int:
        """Of the present process, or of the last one."""
        return self._process.pid

    def kill(self) -> None:
        """End the process with ``kill -9``."""
        self._process.kill()

    async def wait_ready(self) -> None:
        """Wait until it listens."""
        await self._ready.wait()

    async def keep_running(
        self, settings: Mapping[str, Any], *, environ: Mapping[str, str], playground: str | None
    ) -> None:
        """Run it, again and again, until cancelled.

        Args:
            settings: of the hub, as JSON can say them.
            environ: for the assistant, which is an operator's own.
            playground: where its ``/playground`` leads.

        Raises:
            DemoFailed: it ended before it was ever ready.

        """
        handover = orjson.dumps({"settings": settings, "environ": environ, "playground": playground}) + b"\n"
        while True:
            status = await self._run_once(handover)
            self.deaths += 1
            self._set_ready(ready=False)
            if not self.ready_at:
                raise DemoFailed(f"the hub ended at its start with exit status {status}: the log above says why.")
            await asyncio.sleep(RESTART_DELAY_S)
            self._close_pipes()
            self._process = self._spawn()

    async def _run_once(self, handover: bytes) -> int:
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        words = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(words), process.stdout
        )
        try:
            with suppress(BrokenPipeError):  # dead already, as the end of its words tells
                process.stdin.write(handover)
                process.stdin.flush()
            while await words.readline():
                self._set_ready(ready=True)
        finally:
            transport.close()
        return await asyncio.to_thread(process.wait)

    def _set_ready(self, *, ready: bool) -> None:
        self.is_ready = ready
        if ready:
            self.ready_at = time.time()
            self._ready.set()
        else:
            self._ready.clear()
        self.on_change()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        file = self.listener.fileno()
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "whatsapp_hub.demo.hub_main", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_clean_environment(),
            pass_fds=(file,),
            process_group=0,  # Ctrl-C is for the demo
        )


def _clean_environment() -> dict[str, str]:
    """Leave out what systemd says to the demo: none of it is for the hub."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))
    }
