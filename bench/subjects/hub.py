"""The hub as a process of its own: the real server with the settings that it is told on standard input.

On SIGUSR1 it tells how long the garbage collector has worked since it was first asked: no sampler sees that.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import orjson

from whatsapp_hub.server import serve
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.logs import setup_logging


class GarbageClock:
    """Adds up the CPU of the collections. It starts when it is first asked, so that other runs do not pay for it."""

    def __init__(self) -> None:
        self._began = 0.0
        self._seconds = 0.0

    def tell(self, *_: object) -> None:
        """Print the seconds so far."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)
        print(self._seconds, flush=True)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        elif self._began:
            self._seconds += time.thread_time() - self._began


def main() -> int:
    """Serve until SIGTERM; tell the address once there is one."""
    core = int(sys.argv[1])
    os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGUSR1, GarbageClock().tell)
    settings = Settings.isolated(**orjson.loads(sys.stdin.buffer.readline()))
    setup_logging(settings)
    return serve(settings, on_ready=lambda address: print(address, flush=True))


if __name__ == "__main__":
    sys.exit(main())
