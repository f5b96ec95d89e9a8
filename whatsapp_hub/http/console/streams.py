"""The open streams of pages: each ends when its operator logs out, when the session is over, and when the hub stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from whatsapp_hub.http.console.doors import NotWanted

MOST_STREAMS: Final = 40  #: each is a connection, and an answer a second


class Streams:
    """Who is told to end."""

    def __init__(self) -> None:
        """Start with none."""
        self._open: dict[asyncio.Event, str] = {}
        self._stopped = False

    @contextmanager
    def opened(self, session_id: str) -> Iterator[asyncio.Event]:
        """Count a stream while it is open, and yield what tells it to end. Raises ``NotWanted`` for one too many."""
        if len(self._open) >= MOST_STREAMS:
            raise NotWanted(503, "too many pages are open; close some of them and reload this one")
        ended = asyncio.Event()
        if self._stopped:
            ended.set()
        self._open[ended] = session_id
        try:
            yield ended
        finally:
            del self._open[ended]

    def end(self, session_id: str) -> None:
        """End the streams of one login."""
        for ended, owner in self._open.items():
            if owner == session_id:
                ended.set()

    def end_all(self) -> None:
        """End all streams, and those that are still to come."""
        self._stopped = True
        for ended in self._open:
            ended.set()

    def __len__(self) -> int:
        return len(self._open)
