"""Who watches a run from outside: the subject's memory, and how long it takes to end."""

from __future__ import annotations

import signal
import threading
import time
from typing import Final

from bench.accounting import read_memory_mb
from bench.processes import Process
from bench.stage import Observer

EVERY_S: Final = 1.0


class MemoryWatch(Observer):
    """Reads how much memory the subject has, every second from the window's begin until the last answer."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        """Read every ``every_s`` seconds."""
        self._every_s = every_s
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self.samples: list[tuple[float, float]] = []  #: seconds since the window began, and MB
        self.window_s = 0.0

    @property
    def in_window(self) -> list[tuple[float, float]]:
        """The samples of the window."""
        return [(at, mb) for at, mb in self.samples if at <= self.window_s]

    @property
    def peak_mb(self) -> float:
        """The most that it had."""
        return max(mb for _, mb in self.samples)

    def began(self, subject: Process) -> None:
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._watch, args=[subject.pid])
        self._thread.start()

    def ended(self, subject: Process) -> None:  # noqa: ARG002 - the thread knows it
        self.window_s = time.monotonic() - self._began

    def finished(self, subject: Process) -> None:  # noqa: ARG002 - likewise
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self, pid: int) -> None:
        while True:
            self.samples.append((time.monotonic() - self._began, read_memory_mb(pid)))
            if self._done.wait(self._every_s):
                return


class RestWatch(Observer):
    """Looks at the subject's memory a while after the last answer."""

    def __init__(self, after_s: float) -> None:
        """Look after so many seconds."""
        self._after_s = after_s
        self.memory_mb = 0.0

    def finished(self, subject: Process) -> None:
        time.sleep(self._after_s)
        self.memory_mb = read_memory_mb(subject.pid)


class DrainWatch(Observer):
    """Ends the subject when the window ends, and measures how long that takes."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.drain_s = 0.0

    def ended(self, subject: Process) -> None:
        began = time.monotonic()
        subject.signal(signal.SIGTERM)
        subject.wait()
        self.drain_s = time.monotonic() - began
