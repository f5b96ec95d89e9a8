"""Processes of the bench: started on their cores, spoken with in lines, and ended by whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from whatsapp_hub.errors import HubError

ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_TIMEOUT_S: Final = 40.0


class BenchFailed(HubError):
    """A run could not be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores are for whom."""

    measured: int
    others: frozenset[int]  #: the database, the driver and the bench

    @property
    def apart(self) -> bool:
        """Whether the subject has a core of its own."""
        return self.measured not in self.others

    def spread(self, processes: int) -> list[int]:
        """Return a core for each process of a subject: the measured one, then the others but for the first of them.

        With two cores all of them share the measured one.
        """
        free = [self.measured, *sorted(self.others - {self.measured}, reverse=True)[:-1]]
        return [free[index % len(free)] for index in range(processes)]


def split_cores(available: Sequence[int]) -> Cores:
    """Give the last core to whoever is measured, and the others to the rest."""
    *others, measured = sorted(available)
    return Cores(measured=measured, others=frozenset(others or [measured]))


class Process:
    """A Python process that is spoken with in lines of JSON."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, words: Any) -> None:
        """Write a line. Raises ``BenchFailed`` where nobody is there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps(words, option=orjson.OPT_APPEND_NEWLINE))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> str:
        """Wait for a line. Raises ``BenchFailed`` if the process ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return line.decode().strip()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> None:
        """Wait until it has ended. Raises ``BenchFailed`` if that takes too long."""
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"the {self._name} did not end within {_STOP_TIMEOUT_S:.0f} s") from None

    def stop(self) -> None:
        """End it in peace, or by force if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _ended(self) -> BenchFailed:
        self._process.wait()
        end = self._log.read_text(errors="replace")[-2000:]
        return BenchFailed(f"the {self._name} ended with status {self._process.returncode}; it said:\n{end}")


@contextmanager
def running(name: str, arguments: Sequence[str], folder: Path) -> Iterator[Process]:
    """Run a module as a process; what it writes to standard error goes to a file in ``folder``."""
    process = Process(name, arguments, folder / f"{name}.log")
    try:
        yield process
    finally:
        process.stop()


def wait_until(reached: Any, *, what: str, timeout_s: float, pause_s: float = 0.02) -> None:
    """Wait until ``reached()`` is true. Raises ``BenchFailed`` if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(pause_s)


def stay_off(cores: Cores) -> None:
    """Move this process, and what it starts from now on, to the cores that are not measured."""
    os.sched_setaffinity(0, cores.others)
