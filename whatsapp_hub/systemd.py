"""What systemd and the process tell each other: the listening socket handed over, and how the process is.

The protocol is a few variables and words on a Unix socket (``sd_listen_fds(3)``, ``sd_notify(3)``), so there is no
library for it. Without the variables nothing here does anything. Each is gone once it was read, so that no program
that the process starts takes it for its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Final

from whatsapp_hub.errors import SettingsInvalid

logger = logging.getLogger("hub")

FIRST_FD: Final = 3  # behind stdin, stdout and stderr
STATUS_EVERY_S: Final = 5.0
SEND_TIMEOUT_S: Final = 0.5  # systemd reads at once, unless the machine is in trouble
MAX_STATUS_CHARS: Final = 200
_USECS: Final = 1_000_000


def take_listener(environ: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """Return the first socket that was passed to this process; None if there is none.

    Raises:
        SettingsInvalid: it is nothing to accept connections from.

    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) < 1:
        return None
    for number in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(number, False)
    if int(count) > 1:
        logger.warning("only the first of the passed sockets is listened at", extra={"count": int(count)})
    try:
        listener = socket.socket(fileno=FIRST_FD)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.setblocking(False)
            return listener
    except OSError:  # a FIFO, a file or nothing
        pass
    raise SettingsInvalid(["LISTEN_FDS: what was passed does not listen; give the .socket unit ListenStream="])


class Notifier:
    """Tells systemd how the process is. What cannot be told is not missed: nothing waits for it but systemd."""

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        """Tell nobody if there is no address; ``watchdog_s`` is how long the watchdog waits for food."""
        self._address = address
        self._watchdog_s = watchdog_s
        self._status = ""
        self._is_ready = False

    @staticmethod
    def from_environment(environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Read where to tell it, and how often the watchdog is to be fed."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usecs, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_watched = usecs.isdecimal() and int(usecs) > 0 and pid in {"", str(os.getpid())}
        return Notifier(
            f"\0{address[1:]}" if address.startswith("@") else address or None,
            watchdog_s=int(usecs) / _USECS if is_watched else None,
        )

    def ready(self) -> None:
        """Tell that the start is over."""
        self._is_ready = True
        self._tell("READY=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Tell when a reload begins and when it is over; neither is news before the start or after the end."""
        if self._is_ready:
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if self._is_ready:
                self._tell("READY=1")

    def stopping(self, within_s: float) -> None:
        """Tell that the stop has begun, and how long it may take."""
        self._is_ready = False
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * _USECS)}")

    async def keep_telling(self, find_status: Callable[[], str]) -> None:
        """Feed the watchdog, and tell the status when it has changed, until cancelled.

        This runs in the event loop, so that a loop that is blocked feeds nothing.
        """
        if self._address is None:
            return
        every_s = STATUS_EVERY_S if self._watchdog_s is None else min(self._watchdog_s / 2, STATUS_EVERY_S)
        while True:
            self._feed_and_tell(find_status())
            await asyncio.sleep(every_s)

    def _feed_and_tell(self, status: str) -> None:
        words = [] if self._watchdog_s is None else ["WATCHDOG=1"]
        if status != self._status:
            self._status = status
            words.append(f"STATUS={status.replace(chr(10), ' ')[:MAX_STATUS_CHARS]}")
        if words:
            self._tell(*words)

    def _tell(self, *words: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
                speaker.settimeout(SEND_TIMEOUT_S)
                speaker.sendto("\n".join(words).encode(), self._address)
        except OSError as exc:
            logger.warning("systemd could not be told", extra={"words": words[0], "reason": exc.strerror or "timeout"})
