"""A hub as a process of its own: started, killed, put to sleep and woken, stopped, and asked how it is."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.forked import run_hub
from tests.faults.history import Pause
from tests.hub import until
from whatsapp_hub.settings import VARIABLES

HOST: Final = "127.0.0.1"
#: Where hubs come from: an interpreter that has imported the program and done nothing else, which is most of a start.
FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["whatsapp_hub.commands.serve"])
READY_TIMEOUT_S: Final = 20.0
_THREAD_HEAP_BYTES: Final = 64 * 2**20  # HEAP_MAX_SIZE of glibc's arena.c
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
#: Neither where systems take the ports of outgoing connections, so that a port stays free over a restart, nor where the
#: databases take theirs.
_PORTS: Final = range(10_000, 20_000)


def choose_port() -> int:
    """Choose a port that nobody uses and that can be kept."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port


def end_with_parent(by: str = "KILL") -> tuple[str, ...]:
    """Return what to put before a command so that its process is not left behind when ours is killed."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", by) if setpriv else ()


def _inherited() -> dict[str, str]:
    """Return our environment without settings: what is set at this machine is not the laboratory's business."""
    ours = {*VARIABLES, "CREDENTIALS_DIRECTORY"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.removesuffix("_FILE") not in ours and not name.startswith("TIMING__")
    }


class _Executed:
    """A process that was executed and not forked, in the words of ``multiprocessing``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, folder: Path, log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*end_with_parent(), *command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.pid: Final = self._process.pid
        self.kill: Final = self._process.kill
        self.join: Final = self._process.wait

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def is_alive(self) -> bool:
        return self.exitcode is None


class HubProcess:
    """One ``whatsapp_hub serve``, whatever process it is at the moment. It keeps its port and its log.

    Forked, which is quick, or executed behind a ``prefix``: a command that ends in executing what follows it.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        *,
        folder: Path,
        client: aiohttp.ClientSession,
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port: Final = choose_port()
        self.url: Final = f"http://{HOST}:{self.port}"
        self.log_path: Final = folder / f"{name}.log"
        self.starts = 0
        self.pauses: list[Pause] = []  #: when it slept
        self._environment = {**_inherited(), **environment}
        self._folder = folder
        self._client = client
        self._prefix = prefix
        self._process: ForkServerProcess | _Executed | None = None
        self._paused_at: float | None = None

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None, f"{self.name} was never started"
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there is a process, asleep or awake."""
        return self._process is not None and self._process.is_alive()

    @property
    def paused(self) -> bool:
        """Whether it was put to sleep."""
        return self._paused_at is not None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        assert not self.alive, f"{self.name} runs"
        self.starts += 1
        arguments = ["serve", "--host", HOST, "--port", str(self.port)]
        self._process = self._execute(arguments) if self._prefix else self._fork(arguments)

    def kill(self) -> None:
        """End it as ``kill -9`` does, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._note_pause()

    def pause(self) -> None:
        """Put it to sleep: it does nothing, and its connections stay."""
        assert not self.paused
        os.kill(self.pid, signal.SIGSTOP)
        self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Wake it. Nothing happens if it is awake or was killed meanwhile."""
        if self.alive and self.paused:
            os.kill(self.pid, signal.SIGCONT)
        self._note_pause()

    def terminate(self) -> None:
        """Ask it to stop."""
        os.kill(self.pid, signal.SIGTERM)

    async def wait(self, timeout_s: float) -> int:
        """Wait until it has ended and return its exit status. Raises ``TimeoutError``."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            while (status := self._process.exitcode) is None:
                await asyncio.sleep(0.01)
        return status

    async def ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until it says that it can take webhooks. Raises ``TimeoutError``."""

        async def is_ready() -> bool:
            assert self.alive, f"{self.name} ended: {self.log_path.read_text(errors='replace')[-2000:]}"
            return (await self.get("/ready"))[0] == 200

        await until(is_ready, timeout_s)

    async def get(self, path: str) -> tuple[int, str]:
        """Get a page: its status (0: no answer) and its text."""
        try:
            async with self._client.get(self.url + path, timeout=_TIMEOUT) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError):
            return 0, ""

    async def sample(self, name: str, **labels: str) -> float:
        """Return what the samples of a metric with these labels, and perhaps others, add up to."""
        _, text = await self.get("/prometheus/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def rss_bytes(self) -> int:
        """Return how much memory it has in RAM."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def thread_heaps(self) -> int:
        """Return how many heaps the GNU library has made for threads: each has 64 MB for itself, the rest unused."""
        maps = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        unused = [line.split()[0].split("-") for line in maps if line.split()[1] == "---p"]
        ends = [int(end, 16) for begin, end in unused if int(end, 16) - int(begin, 16) > _THREAD_HEAP_BYTES // 2]
        return sum(end % _THREAD_HEAP_BYTES == 0 for end in ends)

    def cpu_s(self) -> float:
        """Return how much time of the processors it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Return how many files and connections it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _fork(self, arguments: Sequence[str]) -> ForkServerProcess:
        process = FORKS.Process(
            target=run_hub,
            args=(arguments, self._environment),
            kwargs={
                "folder": self._folder,
                "log": self.log_path,
                "priority": os.getpriority(os.PRIO_PROCESS, 0),  # what we start inherits ours
            },
        )
        process.start()
        return process

    def _execute(self, arguments: Sequence[str]) -> _Executed:
        command = [*self._prefix, sys.executable, "-m", "whatsapp_hub", *arguments]
        return _Executed(command, self._environment, folder=self._folder, log=self.log_path)

    def _note_pause(self) -> None:
        if self._paused_at is not None:
            self.pauses.append(Pause(began_at=self._paused_at, ended_at=time.monotonic()))
            self._paused_at = None
