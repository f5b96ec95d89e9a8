"""Keeps CPUs awake: a process for each that takes whatever nobody else wants, as ``idle=poll`` would.

A host takes a virtual CPU away when it idles, and gives it back late and with caches that others have filled. At part
load that costs more than what is measured. Linux only.
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
    """Let none of these cores idle."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hub-bench-")))
        for core in sorted(cores.others | {cores.measured}):
            stack.enter_context(running(f"awake-{core}", ["bench.awake", str(core)], folder))
        yield


def main() -> None:
    """Spin on a core, behind everybody else, until killed or left alone."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.nice(_NICE)
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(_ROUNDS):
            pass


if __name__ == "__main__":
    main()
