"""What a hub's process does before it is a hub: it stands in its folder, sees its environment and writes to its log."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


def run_hub(
    arguments: Sequence[str], environment: Mapping[str, str], *, folder: Path, log: Path, priority: int
) -> None:
    """Be ``whatsapp-hub`` with these arguments, from a process that was forked for it."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, priority)
    if sys.platform == "linux":  # not left behind when the tests are killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for standard in (sys.stdout, sys.stderr):
        os.dup2(output, standard.fileno())
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)  # where no .env file lies
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    from whatsapp_hub.cli import main  # noqa: PLC0415 - loaded before the fork, where it was not asked for by name

    main(arguments)
