"""A machine of its own with a systemd that booted: a container of a bare Debian, made once and thrown away each time.

It shares this machine's network, so that a hub in it reaches the databases and stand-ins of the laboratory. It needs
root and the packages debootstrap and systemd-container. What is written in it is kept in memory and gone at its end.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tests.faults.hubs import end_with_parent
from tests.hub import until

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = Path(tempfile.gettempdir()) / "whatsapp-hub-rehearsal"
SUITE: Final = "bookworm"
PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,curl,logrotate"
SOURCE: Final = "/src"  #: where the working tree is in it
WHEELS: Final = "/wheels"
BOOT_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
COMMAND_TIMEOUT_S: Final = 240.0
_ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "HOME=/root",
)


class Machine:
    """A booted container."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def leader(self) -> int:
        """The id that its first process has out here; 0 before there is one."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def path(self, inside: str) -> Path:
        """Return how a file of it is called out here."""
        return Path(f"/proc/{self.leader}/root{inside}")

    async def run(self, *command: str) -> str:
        """Run a command in it and return what it prints. It has to succeed."""
        status, output = await self.try_run(*command)
        if status:
            _, logged = await self.try_run("journalctl", "--no-pager", "-n", "40", "-o", "short-monotonic")
            raise AssertionError(f"{' '.join(command)}: {status}\n{output}\n{logged}")
        return output

    async def try_run(self, *command: str) -> tuple[int, str]:
        """Run a command in it; return its exit status and what it prints."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(self.leader), "--all", "env", "-i", "-C", "/", *_ENVIRONMENT, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace")

    async def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return (await self.run("systemctl", "show", "--value", "-p", name, unit)).strip()

    async def journal(self, unit: str = "whatsapp-hub*") -> str:
        """Return what the units have logged, and systemd about them."""
        return await self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)


@asynccontextmanager
async def open_machine(folder: Path, binds: Sequence[str] = ()) -> AsyncIterator[Machine]:
    """Boot a machine with the working tree at ``SOURCE``; ``binds`` are more folders for it, ``outside:inside``."""
    tree, wheels = await asyncio.to_thread(_make_tree), await asyncio.to_thread(_fetch_wheels)
    process = _boot(tree, (f"{ROOT}:{SOURCE}", f"{wheels}:{WHEELS}", *binds), folder / "boot.log")
    machine = Machine(process)

    async def has_booted() -> bool:
        assert process.poll() is None, (folder / "boot.log").read_text(errors="replace")[-2000:]
        return machine.leader != 0 and (await machine.try_run("systemctl", "is-system-running"))[1].strip() in {
            "running",
            "degraded",
        }

    try:
        await until(has_booted, BOOT_TIMEOUT_S)
        yield machine
    finally:
        process.send_signal(signal.SIGTERM)  # a power button
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _boot(tree: Path, mounts: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as console:
        return subprocess.Popen(
            [
                *(*end_with_parent(), "systemd-nspawn", "--boot", f"--directory={tree}", "--volatile=overlay"),
                *("--register=no", "--keep-unit", f"--machine=hub-{time.time_ns()}", "--console=pipe"),
                *(f"--bind-ro={mount}" for mount in mounts),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )


def _make_tree() -> Path:
    """Return the folder of a bare Debian."""
    name = f"{SUITE}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    tree, done = CACHE / name, CACHE / f"{name}.complete"
    if not done.exists():
        CACHE.mkdir(exist_ok=True)
        subprocess.run(["rm", "-rf", str(tree)], check=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(tree)],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        done.touch()
    return tree


def _fetch_wheels() -> Path:
    """Return a folder with the locked packages for the Python of that Debian, and what builds ours."""
    lock = ROOT / "requirements" / "server.txt"
    folder = CACHE / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    done = folder / "complete"
    if not done.exists():
        pins = [line.rstrip(" \\") for line in lock.read_text("utf-8").splitlines() if line[:1].isalnum()]
        python = {"python_version": "3.11", "python_full_version": "3.11.2"}
        wanted = [pin for pin in map(Requirement, pins) if pin.marker is None or pin.marker.evaluate(python)]
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
                *("--python-version", "3.11", "--dest", str(folder), "setuptools>=77"),
                *(f"{pin.name}{pin.specifier}" for pin in wanted),
            ],
            stderr=subprocess.DEVNULL,
            check=True,
        )
        done.touch()
    return folder
