"""Sending a driver's requests: each connection as fast as it is answered, or at times fixed in advance."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bench.client import Connection, open_connections
from bench.ledger import Ledger

#: uvloop counts in milliseconds and rounds. Coming back too early would be a busy loop.
_ROUNDING_S: Final = 0.0005


class Sender:
    """Sends requests by their serial numbers over connections that stay open, and books what becomes of them."""

    def __init__(self, requests: Sequence[bytes], ledger: Ledger, *, on_progress: Callable[[], None]) -> None:
        """``on_progress`` is called before a message is sent and when one was answered."""
        self._requests = requests
        self._ledger = ledger
        self._on_progress = on_progress
        self._idle: deque[Connection] = deque()  # the one that has been idle longest is next, so that none goes unused
        self._overdue: deque[int] = deque()  # due, and no connection was free
        self._limit = 0  # in a closed loop, messages below this number may be sent
        self._changed = asyncio.Event()
        self.next = 0  #: the number of the next message

    async def open(self, host: str, ports: Sequence[int], count: int) -> None:
        """Open the connections, as many to each port; they are used by turns."""
        opened = [await open_connections(count // len(ports), host, port, self._answered) for port in ports]
        self._idle.extend(connection for each in zip(*opened, strict=True) for connection in each)

    async def send_closed(self, limit: int) -> None:
        """Send all messages below ``limit``, every connection again as soon as it is answered; wait for all answers."""
        self._limit = limit
        while self._idle and self.next < limit:
            self._send(self._idle.popleft(), time.perf_counter())
        await self.until(lambda: self._ledger.settled >= limit)

    async def send_open(self, times_s: Sequence[float]) -> None:
        """Send the next messages at these times from now; a server that answers late does not slow it down."""
        began = time.perf_counter()
        for at in times_s:
            due = began + at
            while (left_s := due - time.perf_counter()) > 0:  # noqa: ASYNC110 - time itself is what is waited for
                await asyncio.sleep(left_s + _ROUNDING_S)
            if self._idle:
                self._send(self._idle.popleft(), due)
            else:
                self._ledger.due_at[self.next] = due
                self._overdue.append(self.next)
                self.next += 1
        self._on_progress()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something holds; it is looked at whenever something was answered."""
        while not reached():
            self._changed.clear()
            await self._changed.wait()

    def changed(self) -> None:
        """Something was answered."""
        self._changed.set()

    def _send(self, connection: Connection, due: float) -> None:
        self._on_progress()
        serial = self.next
        self.next += 1
        self._ledger.due_at[serial] = due
        self._put(connection, serial)

    def _put(self, connection: Connection, serial: int) -> None:
        self._ledger.sent_at[serial] = time.perf_counter()
        connection.send(serial, self._requests[serial])

    def _answered(self, connection: Connection, serial: int, status: int, now: float) -> None:
        self._ledger.ack(serial, status, now)
        self._on_progress()
        self._changed.set()
        if not connection.is_open:
            return
        if self._overdue:
            self._put(connection, self._overdue.popleft())
        elif self.next < self._limit:
            self._send(connection, now)
        else:
            self._idle.append(connection)
