"""Where log lines go: a queue, and a thread that writes what is in it.

A line is made where it is logged, since its values may change a moment later, and written by a thread of its own: a
console or disk that stalls for seconds must stop neither webhooks nor heartbeats. What waits is bounded; lines beyond
that are dropped and counted in a line of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TextIO

MAX_WAITING_LINES: Final = 10_000
CLOSE_TIMEOUT_S: Final = 2.0

logger = logging.getLogger("hub")


class LogWriter(logging.Handler):
    """Writes lines to the console and the file, in order, from a thread of its own."""

    def __init__(self, console: TextIO, path: Path | None = None) -> None:
        super().__init__()
        self._console = console
        self._path = path
        self._file = _open(path) if path else None
        self._failed = False
        self._dropped = 0
        self._waiting: SimpleQueue[str | Callable[[], None]] = SimpleQueue()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Make the line and leave it to the thread."""
        if self._waiting.qsize() >= MAX_WAITING_LINES:
            self._dropped += 1
            return
        try:
            line = self.format(record)
        except Exception:  # a wrong log call must not fail whoever made it
            where = f"{record.pathname}:{record.lineno}"
            logger.exception("log call is wrong", extra={"logger": record.name, "where": where})
            return
        self._waiting.put(line)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logger.warning("log lines dropped, the console or the disk is too slow", extra={"count": dropped})

    def reopen(self) -> None:
        """Go on in a new file of the same name; what was logged before still goes to the old one."""
        self._waiting.put(self._reopen)

    def flush(self) -> None:
        """Wait until everything logged so far is written, at most ``CLOSE_TIMEOUT_S``."""
        if not self._stopped.is_set():
            done = threading.Event()
            self._waiting.put(done.set)
            done.wait(CLOSE_TIMEOUT_S)

    def close(self) -> None:
        """Write what is left and stop the thread; called at exit by ``logging`` itself."""
        if not self._stopped.is_set():
            self._waiting.put(self._stopped.set)
            self._stopped.wait(CLOSE_TIMEOUT_S)
            self._stopped.set()
            self._close_file()
        super().close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            lines: list[str] = []
            for entry in self._take():
                if isinstance(entry, str):
                    lines.append(entry)
                else:
                    self._write(lines)
                    lines = []
                    entry()
            self._write(lines)

    def _take(self) -> Iterator[str | Callable[[], None]]:
        """Wait for something, then yield everything that is there, so that a burst is one write."""
        yield self._waiting.get()
        while True:
            try:
                yield self._waiting.get_nowait()
            except Empty:
                return

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        text = "\n".join(lines) + "\n"
        _write(self._console, text)
        if self._file:
            failed = not _write(self._file, text)
            if failed and not self._failed:
                logger.error("log file cannot be written", extra={"file": self._path})
            self._failed = failed

    def _reopen(self) -> None:
        if self._path is None:
            return
        try:
            file = _open(self._path)
        except OSError:
            logger.exception("log file cannot be reopened, the old one is kept", extra={"file": self._path})
            return
        self._close_file()
        self._file = file

    def _close_file(self) -> None:
        if self._file:
            with suppress(OSError):  # what a full disk did not take
                self._file.close()


def _open(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8", errors="backslashreplace")


def _write(stream: TextIO, text: str) -> bool:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # the disk is full, the reader is gone, the stream is closed
        return False
    return True
