"""A clock that can be set while a process runs by it: libfaketime in front of a hub or a database server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import pytest

from whatsapp_hub.demo.embedded import find_programs

_LIBRARIES: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_SHARED_MEMORY: Final = Path("/dev/shm")
# How long any wait for a condition lasts behind the library. In its 0.9.10 one by the monotonic clock ends at once when
# that clock is left alone (libfaketime's pull request 503), and whoever waits in a loop, as four threads of mongod do,
# takes a whole core and the library's one lock. A wait may end early; 5 ms is the interpreter's for its own lock.
_WAIT_MS: Final = 5


class FakeClock:
    """The clock of one process. The monotonic one is left alone, as jumps leave it alone."""

    def __init__(self, folder: Path, name: str) -> None:
        """Show the right time. Skips the test where the library is missing."""
        if not _LIBRARIES:
            pytest.skip("libfaketime is missing: apt-get install libfaketime")
        self._folder, self._name = folder, name
        self._file = folder / f"{name}.clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        """Have it be off by so much from now on: ``+1h``, ``-10d``."""
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)  # in one step: the process may read it at any moment

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command behind which a process sees this clock."""
        environment = {
            "LD_PRELOAD": _LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "DONT_FAKE_MONOTONIC": 1,  # its name in some versions
            "FAKETIME_WAIT_MS": _WAIT_MS,
        }
        return ("env", *(f"{name}={value}" for name, value in environment.items()))

    def wrap_mongod(self) -> Path:
        """Write a program that is ``mongod`` by this clock."""
        mongod = next(program.path for program in find_programs() if program.kind == "mongod")
        script = self._folder / "mongod"
        script.write_text(f'#!/bin/sh\nexec {shlex.join([*self.prefix, str(mongod)])} "$@"\n')
        script.chmod(0o755)
        return script


def clean_up(*pids: int | None) -> None:
    """Remove what the library leaves behind of processes that were killed."""
    for pid in pids:
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (_SHARED_MEMORY / name).unlink(missing_ok=True)
