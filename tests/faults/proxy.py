"""A proxy in front of one ``mongod`` that understands what passes: it can stop, delay or lose a certain message.

A reply is known by the request that it answers. Handshakes pass unread, and so would compressed messages, for which the
driver does not ask by itself. ``getMore`` has its collection elsewhere than other commands: trap it with None.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from tests.faults.connection import READ_AHEAD_BYTES, Connection, Direction, End
from tests.faults.wire import Command

HOST: Final = "127.0.0.1"


class Mode(Enum):
    """What happens to all connections."""

    PASS = auto()
    BLACKHOLE = (
        auto()
    )  #: both ways everything is swallowed; connections stay, and those that lost something end with it
    REFUSE = auto()  #: connections are closed, those that are there and those that come


class Verdict(Enum):
    """What becomes of a message."""

    PASS = auto()
    DROP = auto()  #: it is swallowed, and its connection closed


PASS: Final = Verdict.PASS
DROP: Final = Verdict.DROP

#: A callable is awaited before the message is passed on; other connections go on meanwhile. None means PASS.
Act = Verdict | Callable[[], Awaitable[Verdict | None]]
Matching = Callable[[Mapping[str, Any]], bool]


@dataclass(eq=False, slots=True, kw_only=True)
class Trap:
    """What waits for a certain message."""

    when: Direction
    command: str
    collection: str | None
    act: Act
    times: int | None
    matching: Matching | None
    traps: list[Trap] = field(repr=False)
    hits: int = 0
    hit: asyncio.Event = field(default_factory=asyncio.Event)

    def remove(self) -> None:
        """Wait no longer."""
        if self in self.traps:
            self.traps.remove(self)

    def fits(self, when: Direction, command: Command) -> bool:
        """Tell whether a command, or the reply to it, is what it waits for."""
        return (
            self in self.traps
            and self.when == when
            and self.command == command.name
            and self.collection in {None, command.collection}
            and (self.matching is None or self.matching(command.document))
        )

    async def spring(self) -> Verdict | None:
        """Act on a message that fits."""
        self.hits += 1
        self.hit.set()
        if self.hits == self.times:
            self.remove()
        return self.act if isinstance(self.act, Verdict) else await self.act()


class DatabaseProxy:
    """The proxy, as ``open_proxy`` opens it."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.latency_s = 0.0  #: each way
        self._target = target
        self._mode = Mode.PASS
        self._not_swallowing = asyncio.Event()
        self._not_swallowing.set()
        self._traps: list[Trap] = []
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # those that run, and those that failed

    @property
    def uri(self) -> str:
        """How to reach the database through the proxy, whatever its replica set thinks."""
        return f"mongodb://{self.address}/?directConnection=true"

    @property
    def mode(self) -> Mode:
        """What happens to all connections; it counts from the moment at which it is set."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.BLACKHOLE:
            self._not_swallowing.clear()
            return
        self._not_swallowing.set()
        for connection in self._connections:
            if mode is Mode.REFUSE or connection.lost_something:
                connection.abort()

    def on(
        self,
        command: str,
        collection: str | None,
        act: Act,
        *,
        when: Direction,
        times: int | None = 1,
        matching: Matching | None = None,
    ) -> Trap:
        """Wait for a command or for its reply, ``times`` times or, with None, until it is removed.

        ``matching`` is asked about the request, with its documents (``documents``, ``updates``, ``deletes``) as lists.
        Several traps act one after the other, in the order in which they were set, until one drops the message.
        """
        trap = Trap(
            when=when,
            command=command,
            collection=collection,
            act=act,
            times=times,
            matching=matching,
            traps=self._traps,
        )
        self._traps.append(trap)
        return trap

    async def cut(self) -> None:
        """Close all connections now; returns when they are closed."""
        for connection in self._connections:
            connection.abort()
        await asyncio.sleep(0)  # that takes a turn of the loop

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what passes on a connection, until one side closes it."""
        connection = Connection(End(reader, writer))
        if self._mode is Mode.REFUSE:
            connection.abort()
            return
        self._connections.add(connection)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(partial(self._forget, connection))

    async def close(self) -> None:
        """Close all connections for good. Raises what a trap has raised."""
        self.mode = Mode.REFUSE
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _forget(self, connection: Connection, task: asyncio.Task[None]) -> None:
        connection.abort()
        self._connections.remove(connection)
        if task.cancelled() or task.exception() is None:
            self._tasks.remove(task)

    async def _serve(self, connection: Connection) -> None:
        if not await connection.open(self._target):
            await self._not_swallowing.wait()
            return
        async with asyncio.TaskGroup() as ways:
            ways.create_task(self._carry("request", connection, connection.client, connection.server))
            ways.create_task(self._carry("reply", connection, connection.server, connection.client))

    async def _carry(self, when: Direction, connection: Connection, source: End, sink: End) -> None:
        try:
            while (message := await source.read()) is not None:
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if self._swallows(connection):
                    continue
                if await self._ask_traps(when, connection.find_request(when, message)) is DROP:
                    return
                if not self._swallows(connection):
                    await sink.write(message)
            await self._not_swallowing.wait()  # not even the end of a connection gets through
        finally:
            # In peace: what was written still arrives, and the other way ends by itself, when its trap has acted.
            connection.close()

    def _swallows(self, connection: Connection) -> bool:
        swallows = self._mode is Mode.BLACKHOLE
        connection.lost_something |= swallows
        return swallows

    async def _ask_traps(self, when: Direction, request: bytes | None) -> Verdict:
        if request is None or not self._traps:
            return PASS
        command = Command(request)
        for trap in tuple(self._traps):
            if trap.fits(when, command) and await trap.spring() is DROP:
                return DROP
        return PASS


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[DatabaseProxy]:
    """Run a proxy in front of ``target``, ``host:port``, on a port of its own; all connections end with it.

    What a trap raised is raised at the end.
    """
    proxy = DatabaseProxy(target)
    server = await asyncio.start_server(proxy.accept, HOST, 0, limit=READ_AHEAD_BYTES)
    proxy.address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
