"""One database program as a process of its own on loopback: start, stop, kill, start again on the same data."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pymongo import MongoClient

from whatsapp_hub.errors import HubError

HOST: Final = "127.0.0.1"
SET_NAME: Final = "hub"
START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.01
#: Below the range from which systems take the ports of outgoing connections, so that a port stays free over a restart.
_PORTS: Final = range(20_000, 32_000)
#: Libraries that the program of the wheel wants from the system, and the Debian package that has each.
_PACKAGES: Final = {"libcurl": "libcurl4", "libssl": "libssl3", "libcrypto": "libssl3", "liblzma": "liblzma5"}


class EmbeddedFailed(HubError):
    """No database could be started here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A database program that was found."""

    kind: Literal["mongod", "secantusd-py"]
    path: Path
    origin: str  #: where it comes from, in words


class DatabaseServer:
    """A database of one's own: its folder, its port, which it keeps, and its process while there is one.

    Start it from the main thread: on Linux the process ends with the thread that started it, so that nothing is left
    behind when that is killed.
    """

    def __init__(self, program: Program, folder: Path, *, parameters: Mapping[str, str | int] | None = None) -> None:
        self.program = program
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port: Final = _keep_port(folder / "port")
        self._parameters = parameters or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def uri(self) -> str:
        """How to reach this server alone, whatever its replica set thinks."""
        return f"mongodb://{self.address}/?directConnection=true"

    def start(self) -> None:
        """Start the process and wait until it takes connections. Raises ``EmbeddedFailed``."""
        if _is_taken(self.port):
            raise EmbeddedFailed(
                f"port {self.port}, which {self.folder} keeps for its database, is in use;"
                " stop what uses it (a second start with this folder?) or take another folder"
            )
        log = self.folder / "log"
        try:
            self._process = self._spawn(log)
        except OSError as exc:
            raise EmbeddedFailed(f"{self.program.path} does not start: {exc.strerror}") from exc
        try:
            self._wait_for_port(self._process, log)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the process in peace, or by force if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def connect(self) -> Iterator[MongoClient[dict[str, Any]]]:
        """Open a plain client to this server alone."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            self.uri, serverSelectionTimeoutMS=int(START_TIMEOUT_S * 1000), timeoutMS=int(START_TIMEOUT_S * 1000)
        )
        try:
            yield client
        finally:
            client.close()

    def read_version(self) -> str:
        """Ask the server for its version."""
        with self.connect() as client:
            info = client.admin.command("buildInfo")
        return str(info.get("secantusVersion") or info["version"])

    def _spawn(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - a program that we looked for ourselves
                [*_end_with_parent(), *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for the hub, which still has to write
            )

    def _wait_for_port(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_taken(self.port):
            if process.poll() is not None:
                reason = explain_end(process.returncode, log.read_text("utf-8", "replace"))
                raise EmbeddedFailed(f"{self.program.path} ended at once: {reason}")
            if time.monotonic() > deadline:
                raise EmbeddedFailed(f"{self.program.path} takes no connections after {START_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)

    def _command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        if self.program.kind == "secantusd-py":
            return self._secantus_command(data)
        parameters = {"diagnosticDataCollectionEnabled": "false", **self._parameters}
        return [
            str(self.program.path),
            *("--replSet", SET_NAME, "--bind_ip", HOST, "--port", str(self.port), "--dbpath", str(data)),
            *("--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"),
            *(word for name, value in parameters.items() for word in ("--setParameter", f"{name}={value}")),
        ]

    def _secantus_command(self, data: Path) -> list[str]:
        config = self.folder / "secantusd.toml"
        config.touch()  # an empty one of our own, or it would take one from the home folder
        return [
            str(self.program.path),
            *("--config", str(config), "--host", HOST, "--port", str(self.port), "--storage-path", str(data)),
            *("--cache-size", "256M", "--log-level", "WARNING"),
            *(("--enable-test-commands",) if self._parameters.get("enableTestCommands") else ()),
        ]


def explain_end(status: int, output: str) -> str:
    """Say why a database ended, from its exit status and what it printed, and what to do about it."""
    if missing := re.search(r"(lib\w+)\.so[.\d]*: cannot open shared object", output):
        library = missing[0].partition(":")[0]
        if package := _PACKAGES.get(missing[1]):
            return f"{library} is missing; install the package {package} (apt-get install {package})"
        return f"{library} is missing"
    if status == -4:
        return "this processor lacks instructions that it needs (AVX)"
    lines = [words for line in output.splitlines() if (words := _read_log_line(line))]
    return f"exit status {status}" + (f", {lines[-1][:300]}" if lines else "")


def _read_log_line(line: str) -> str:
    """Return what an error line of a log says, nothing for the other lines of a ``mongod``."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(entry, dict) or entry.get("s") not in ("E", "F"):
        return ""
    details = entry.get("attr") or {}
    return f"{entry.get('msg', '')} {details.get('error', '')}".strip()


def _keep_port(file: Path) -> int:
    """Read the folder's port, or choose a free one and keep it: a replica set knows its members by address."""
    if not file.exists():
        ports = (random.choice(_PORTS) for _ in range(1000))  # noqa: S311 - any free one will do
        port = next((port for port in ports if not _is_taken(port)), None)
        if port is None:
            raise EmbeddedFailed(f"no free port between {_PORTS[0]} and {_PORTS[-1]}")
        file.write_text(f"{port}\n")
    return int(file.read_text())


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _end_with_parent() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")  # util-linux: not on macOS
    return (setpriv, "--pdeathsig", "TERM") if setpriv else ()
