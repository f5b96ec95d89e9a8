"""What the stand-in for Graph was asked to send: kept in memory and, if asked, as JSON lines that survive a crash."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import orjson

from whatsapp_hub.inbox.group_commit import GroupCommit


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One request to send a message."""

    phone_number_id: str
    token: str  #: its fingerprint, never the token
    to: str | None
    recipient: str | None
    text: str
    callback: str
    reply_to: str | None
    wamid: str | None  #: None where the answer was an error
    began: float  #: when the request was there, in unix seconds
    time: float  #: when it was settled, likewise
    #: Whether the customer gets it: not with an error, nor with a user id in ``to``, which is answered 200 too.
    accepted: bool
    code: int | None = None  #: the error that it was answered with
    body: dict[str, Any] | None = None  #: the whole request, unless it is a plain text

    @property
    def words(self) -> str:
        """What it says: its text, or the text above its buttons."""
        match self.body:
            case {"interactive": {"body": {"text": str(text)}}}:
                return text
        return self.text

    @property
    def customer(self) -> str:
        """Whom it is for; as in Meta's API ``to`` wins."""
        return self.to or self.recipient or ""


class SendLog:
    """Every request to send, in the order in which they were settled."""

    def __init__(self, path: Path | None = None) -> None:
        self.sends: list[Send] = []
        self.accepted: list[Send] = []
        self.on_add: Callable[[Send], None] = lambda _: None  #: called before it is answered
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._file = path.open("ab") if path else None
        self._commit = GroupCommit(functools.partial(_write_synced, self._file)) if self._file else None

    async def add(self, send: Send) -> None:
        """Record a send; returns when it is safe on disk, if there is a file."""
        if self._commit is not None:
            await self._commit.submit(send)
        self.sends.append(send)
        self.on_add(send)
        if send.accepted:
            self.accepted.append(send)
            self._wake()

    async def wait_for(self, count: int, *, timeout_s: float = 10.0) -> Sequence[Send]:
        """Wait until ``count`` sends were accepted and return all of them. Raises ``TimeoutError``."""
        if len(self.accepted) < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            async with asyncio.timeout(timeout_s):
                await future
        return list(self.accepted)

    async def close(self) -> None:
        """Finish writing."""
        if self._commit is not None and self._file is not None:
            await self._commit.flush()
            self._file.close()

    def _wake(self) -> None:
        for count, future in self._waiting:
            if count <= len(self.accepted) and not future.done():
                future.set_result(None)
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]


async def _write_synced(file: BufferedWriter, batch: Sequence[Send]) -> Sequence[None]:
    lines = b"".join(orjson.dumps(asdict(send), option=orjson.OPT_APPEND_NEWLINE) for send in batch)
    await asyncio.to_thread(_write_lines, file, lines)
    return [None] * len(batch)


def _write_lines(file: BufferedWriter, lines: bytes) -> None:
    file.write(lines)
    file.flush()
    os.fsync(file.fileno())
