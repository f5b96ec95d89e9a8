"""Keeps CPUs awake: a process for each that takes whatever nobody else wants, as ``idle=poll`` would.

On a virtual machine a hub at part load costs more, and is later, when its CPUs idle in between; presumably because the
host gives them to others meanwhile. Linux only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.processes import Cores, running

_ROUNDS: Final = 1_000_000  # some 30 ms
_NICE: Final = 19  # so that the kernel accounts it apart, see ``accounting``


@contextmanager
def kept_awake(cores: Cores) -> Iterator[None]:
    """Let none of these cores idle. Raises ``BenchFailed`` where that cannot be done."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hub-bench-")))
        for core in sorted(cores.others | {cores.measured}):
            stack.enter_context(running(f"awake-{core}", ["bench.awake", str(core)], folder)).hear()
        yield


def main() -> None:
    """Spin on a core, behind everybody else, until killed or left alone."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.nice(_NICE)
    print("awake", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(_ROUNDS):
            pass


if __name__ == "__main__":
    main()
