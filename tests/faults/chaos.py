"""The nemesis: does what a plan says to a world in which customers talk, mends it, and has the result checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from tests.faults.checker import check
from tests.faults.history import History
from tests.faults.hubs import HubProcess
from tests.faults.plan import Deed, Kind, plan
from tests.faults.world import DATABASE, NUMBERS, World, open_world
from tests.hub import until
from whatsapp_hub.demo.faults import StatusPlan
from whatsapp_hub.inbox.document import State

REST_TIMEOUT_S: Final = 40.0  #: after everything was mended
STOP_TIMEOUT_S: Final = 15.0  #: of a hub that was asked to stop: its drain, and the database's deadlines
UP_TIMEOUT_S: Final = 30.0
BURST_CUSTOMERS: Final = 10_000  #: where the numbers of those begin who write in bursts
TIMING: Final = {"retry_max_s": 4.0}
GRAPH_S: Final = (0.0, 0.1)  #: how long its answers take, so that a death falls into the middle of some
ASSISTANT_S: Final = (0.0, 0.2)
ENVIRONMENT: Final = {"HISTORY_TURNS": "3"}


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of one seed."""

    seed: int
    deeds: Counter[Kind]
    acknowledged: int
    refused: int
    replies: int
    resent: int  #: told by the rows
    ambiguous: int  #: counted by the hubs, as far as somebody could ask them
    dead: Counter[str]  #: reasons
    rest_s: float  #: how long it took after everything was mended
    violations: list[str]
    folder: Path | None  #: where the logs and the history are, if there are violations


class Nemesis:
    """Does deeds, each in its time."""

    def __init__(self, world: World, rng: Random, *, rate_per_s: float, tell: Callable[[str], None]) -> None:
        self.complaints: list[str] = []
        self._world = world
        self._rng = rng
        self._rate_per_s = rate_per_s
        self._tell = tell
        self._hub_locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._database_lock = asyncio.Lock()
        self._counted: dict[tuple[str, int], float] = {}
        self._ways: Mapping[Kind, Callable[[Deed], Awaitable[None]]] = {
            Kind.HUB_KILL: self._kill_hub,
            Kind.HUB_PAUSE: self._pause_hub,
            Kind.HUB_STOP: self._stop_hub,
            Kind.DATABASE_KILL: self._kill_database,
            Kind.DATABASE_PAUSE: self._pause_database,
            Kind.STEP_DOWN: self._step_down,
            Kind.COMMANDS: self._fail_commands,
            Kind.GRAPH: self._fail_request,
            Kind.ASSISTANT: self._fail_request,
            Kind.STATUSES: self._change_statuses,
            Kind.REPLAY: self._replay,
            Kind.BURST: self._burst,
        }

    @property
    def ambiguous(self) -> int:
        """How many sends the hubs counted as ambiguous."""
        return int(sum(self._counted.values()))

    async def run(self, deeds: Sequence[Deed]) -> None:
        """Do everything that is planned."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for deed in deeds:
                await asyncio.sleep(max(0.0, began + deed.at_s - time.monotonic()))
                self._tell(deed.kind)
                group.create_task(self._do(deed))

    async def _do(self, deed: Deed) -> None:
        try:
            await self._ways[deed.kind](deed)
        except TimeoutError:
            self.complaints.append(f"{deed.kind} at {deed.at_s:.1f} s: what it waited for did not come")

    async def mend(self) -> None:
        """Make everything whole again."""
        world = self._world
        world.graph.control.faults.clear()
        world.graph.control.plan = StatusPlan()
        for index in range(len(world.servers)):
            await world.databases.command({"configureFailPoint": "failCommand", "mode": "off"}, index)
        for hub in world.hubs:
            if not hub.alive:
                self.complaints.append(f"{hub.name} ended by itself; see {hub.log_path.name}")
                hub.start()
        for hub in world.hubs:
            try:
                await hub.ready(UP_TIMEOUT_S)
            except TimeoutError:
                self.complaints.append(f"{hub.name} is not ready {UP_TIMEOUT_S:.0f} s after everything was mended")

    async def count(self) -> None:
        """Ask all hubs how many sends were ambiguous."""
        for hub in self._world.hubs:
            if hub.alive and not hub.paused:
                value = await hub.sample("whatsapp_hub_replies_total", result="ambiguous")
                key = (hub.name, hub.starts)
                self._counted[key] = max(value, self._counted.get(key, 0.0))

    async def watch(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(1)

    async def _kill_hub(self, deed: Deed) -> None:
        async with self._hub_locks[deed.target]:
            hub = await self._running(deed.target)
            hub.kill()
            await asyncio.sleep(deed.for_s)
            hub.start()

    async def _pause_hub(self, deed: Deed) -> None:
        async with self._hub_locks[deed.target]:
            hub = await self._running(deed.target)
            hub.pause()
            await asyncio.sleep(deed.for_s)
            hub.resume()

    async def _stop_hub(self, deed: Deed) -> None:
        async with self._hub_locks[deed.target]:
            hub = await self._running(deed.target)
            hub.terminate()
            try:
                status = await hub.wait(STOP_TIMEOUT_S)
            except TimeoutError:
                self.complaints.append(f"{hub.name} did not stop within {STOP_TIMEOUT_S:.0f} s")
                hub.kill()
            else:
                if status != 0:
                    self.complaints.append(f"{hub.name} stopped with status {status}")
            await asyncio.sleep(deed.for_s)
            hub.start()

    async def _running(self, index: int) -> HubProcess:
        """Wait until a hub answers at all."""
        hub = self._world.hubs[index]

        async def is_up() -> bool:
            return (await hub.get("/health"))[0] == 200

        await until(is_up, UP_TIMEOUT_S)
        return hub

    async def _kill_database(self, deed: Deed) -> None:
        async with self._database_lock:
            index = await self._find_server(deed.target)
            await self._world.kill_server(index)
            await asyncio.sleep(deed.for_s)
            await self._world.start_server(index)

    async def _pause_database(self, deed: Deed) -> None:
        async with self._database_lock:
            index = await self._find_server(deed.target)
            self._world.pause_server(index)
            await asyncio.sleep(deed.for_s)
            self._world.resume_server(index)

    async def _step_down(self, deed: Deed) -> None:
        async with self._database_lock:
            index = await self._find_server(deed.target)
            command = {"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2, "force": True}
            await self._world.databases.command(command, index)

    async def _find_server(self, target: int) -> int:
        return (await self._world.primary() + target) % len(self._world.servers)

    async def _fail_commands(self, deed: Deed) -> None:
        failure = dict(deed.failure)
        data = {"namespace": f"{DATABASE}.{failure.pop('collection')}", **failure}
        command = {"configureFailPoint": "failCommand", "mode": {"times": deed.count}, "data": data}
        for index, server in enumerate(self._world.servers):
            if server.pid is not None and index not in self._world.databases.paused:
                await self._world.databases.command(command, index)

    async def _fail_request(self, deed: Deed) -> None:
        assert deed.fault is not None
        self._world.graph.control.faults.arm(deed.fault)

    async def _change_statuses(self, deed: Deed) -> None:
        assert deed.statuses is not None
        self._world.graph.control.plan = deed.statuses
        await asyncio.sleep(deed.for_s)
        self._world.graph.control.plan = StatusPlan()

    async def _replay(self, deed: Deed) -> None:
        said = [message for message in self._world.driver.messages if message.acked_at is not None]
        async with asyncio.TaskGroup() as group:
            for message in self._rng.sample(said, min(deed.count, len(said))):
                group.create_task(self._world.driver.replay(message, copies=self._rng.choice((1, 1, 3))))

    async def _burst(self, deed: Deed) -> None:
        await self._world.driver.converse(
            numbers=NUMBERS,
            customers=deed.count,
            rate_per_s=deed.count / deed.for_s,
            for_s=deed.for_s,
            words=choose_words,
            first_customer=BURST_CUSTOMERS,
        )


def choose_words(rng: Random) -> str:
    """Write something: mostly short, now and then so long that the answer has several parts."""
    length = rng.choices((rng.randint(0, 80), rng.randint(100, 1500), rng.randint(4000, 9000)), (80, 15, 5))[0]
    return "lorem ipsum dolor " * (length // 18)


def choose_copies(rng: Random) -> int:
    """Say how often a message comes at once."""
    return rng.choices((1, rng.randint(2, 5)), (85, 15))[0]


async def run(
    seed: int,
    *,
    minutes: float,
    hubs: int = 1,
    servers: int = 1,
    rate_per_s: float = 40.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Let a world live through the plan of a seed. ``tell`` hears what happens, in words."""
    deeds = plan(seed, minutes, hubs, servers)
    rng = Random(seed)
    async with open_world(hubs=hubs, servers=servers, nginx=True, timing=TIMING, environment=ENVIRONMENT) as world:
        world.graph.control.latency_s, world.graph.model.latency_s = GRAPH_S, ASSISTANT_S
        nemesis = Nemesis(world, rng, rate_per_s=rate_per_s, tell=tell)
        watch = asyncio.create_task(nemesis.watch())
        async with asyncio.TaskGroup() as group:
            group.create_task(nemesis.run(deeds))
            group.create_task(_converse(world, minutes, rate_per_s))
        tell("mending")
        await nemesis.mend()
        mended_at = time.monotonic()
        history = await world.history_at_rest(REST_TIMEOUT_S)
        rest_s = time.monotonic() - mended_at
        await nemesis.count()
        watch.cancel()
        violations = [*nemesis.complaints, *_find_tracebacks(world.hubs), *check(history)]
        if violations:
            world.keeps_logs = True
            _write(world.folder / "history.json", deeds, history, violations)
        return Result(
            seed=seed,
            deeds=Counter(deed.kind for deed in deeds),
            acknowledged=world.driver.acknowledged,
            refused=world.driver.refused,
            replies=len(world.graph.log.accepted),
            resent=_count_resent(history),
            ambiguous=nemesis.ambiguous,
            dead=Counter(row["reason"] for row in history.rows if row["state"] == State.DEAD),
            rest_s=rest_s,
            violations=violations,
            folder=world.folder if violations else None,
        )


async def _converse(world: World, minutes: float, rate_per_s: float) -> None:
    await world.driver.converse(
        numbers=NUMBERS,
        customers=max(20, int(2 * rate_per_s)),
        rate_per_s=rate_per_s,
        for_s=60 * minutes,
        words=choose_words,
        copies=choose_copies,
    )


def _find_tracebacks(hubs: Sequence[HubProcess]) -> Iterator[str]:
    """Tell of what went wrong in a way that nobody foresaw: nothing that is done here should."""
    for hub in hubs:
        count = hub.log_path.read_text(errors="replace").count("Traceback (most recent call last)")
        if count:
            yield f"{hub.log_path.name} has {count} tracebacks"


def _count_resent(history: History) -> int:
    parts = [part for row in history.rows for part in row.get("parts", ())]
    return sum(max(0, part["attempt"] - part["failures"] - 1) for part in parts)


def _write(path: Path, deeds: Sequence[Deed], history: History, violations: Sequence[str]) -> None:
    """Keep what was done and seen, for whoever looks for the cause."""
    seen = {
        "violations": violations,
        "deeds": [asdict(deed) for deed in deeds],
        **{name: getattr(history, name) for name in ("messages", "sendings", "rows", "ranks", "pauses")},
    }
    path.write_bytes(orjson.dumps(seen, default=_jsonable, option=orjson.OPT_INDENT_2))


def _jsonable(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
