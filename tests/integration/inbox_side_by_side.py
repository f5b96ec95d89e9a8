"""The inbox and its model, side by side: every step is done to both, and both have to say the same of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import count
from typing import Any, Final, TypeVar

from tests.integration.inbox_model import SPILLED, UNDELIVERED, Document, Model, Status, is_there, visible
from tests.integration.inbox_process import Arrival, Copy, Process, World, arrived, as_documented, as_write
from tests.integration.inbox_turn_model import LET_GO, PAUSED, STEPPED_BACK, WAITS, Script, TurnModel
from whatsapp_hub.database import Collection, Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.dead import DeadLetters
from whatsapp_hub.inbox.document import InboxRow, State
from whatsapp_hub.inbox.store import StatusWrite, encode

Result = TypeVar("Result")

NUMBERS: Final = ("101", "102")
CONVERSATIONS: Final = ("101:491", "101:492", "102:491")
HAPPY: Final = Script(sends=("sent",) * 5)
MOST_GHOSTS: Final = 6
#: What nobody may do whose owner or epoch is not the document's any more.
FORBIDDEN: Final[Sequence[Mapping[str, Any]]] = (
    {"state": "done", "outcome": "replied"},
    {"state": "dead"},
    {"state": "queued"},
    {"state": "active"},
    {"stage": "new", "parts": [], "members": []},
)


def same(what: str, hub: object, model: object) -> None:
    """Hold that both say the same, and tell where they differ."""
    if isinstance(hub, dict) and isinstance(model, dict):
        differing = [key for key in hub.keys() | model.keys() if hub.get(key) != model.get(key)]
        hub, model = ({key: one.get(key) for key in differing} for one in (hub, model))
    assert hub == model, f"{what}: the hub {hub}, the model {model}"


class SideBySide:
    """Two processes on one inbox, and the model of it."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        """Begin with an empty database."""
        self._runner = runner
        self.database = database
        self.world = World(database)
        self.model = Model()
        self.turns = TurnModel(self.model)
        self.processes: list[Process] = []
        self.ghosts: list[Copy] = []  #: what processes had that are no more, or that have let go of it
        self.ranks: dict[tuple[str, int, int, int], int] = {}
        self._started = 0
        self._clock = count(1)
        self.is_sound = False
        self.do(self._empty())
        for number in NUMBERS:
            self.turns.businesses[number] = self.world.businesses[number] = "fine"
        for index in range(2):
            self.start(index)
            self.round(self.processes[index])

    def do(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Do something to the database; until the next ``check`` nobody knows whether it was right."""
        self.is_sound = False
        return self._runner.run(step)

    # Who is there

    @property
    def joined(self) -> list[Process]:
        """The processes that have joined, as far as they know."""
        return [process for process in self.processes if process.node.joined]

    @property
    def working(self) -> list[Process]:
        """The processes that have active messages."""
        return [process for process in self.processes if process.holding.copies]

    @property
    def stale(self) -> list[Copy]:
        """What processes believe to be theirs, or did, and is not."""
        copies = [*self.ghosts, *(copy for process in self.processes for copy in process.holding.copies.values())]
        return [copy for copy in copies if not self.model.is_current(copy.claim, "active")]

    def start(self, index: int) -> None:
        """Have a new process at this place."""
        self._started += 1
        self.processes[index : index + 1] = [Process(self.world, f"process {self._started}")]

    def end(self, process: Process, *, cleanly: bool) -> None:
        """End a process; another takes its place. Writes that were on their way may still land."""
        if cleanly:
            self.do(process.stop())
            self.model.stop(process.node)
        self._keep_as_ghosts(process.holding.copies.values())
        self.start(self.processes.index(process))

    def give_up(self, process: Process) -> None:
        """Have a process find that it could not renew itself for too long."""
        copies = list(process.holding.copies.values())
        process.give_up()
        process.node.joined = False
        self._keep_as_ghosts(copies)

    def _keep_as_ghosts(self, copies: Iterable[Copy]) -> None:
        self.ghosts = [*self.ghosts, *copies][-MOST_GHOSTS:]

    # Messages

    def arrive(self, process: Process, arrivals: Sequence[Arrival], *, is_lost: bool = False) -> None:
        """Store messages as one batch; ``is_lost``: the process never learns what became of it."""
        rows = [arrived(arrival, process.nodes.id, next(self._clock)) for arrival in arrivals]
        results = self._insert(rows)
        busy = [row for row, result in zip(rows, results, strict=True) if result == "busy"]
        for row in busy:
            row.state, row.attempts = State.QUEUED, 0
        same("stored as queued", self._insert(busy), ["stored"] * len(busy))
        self.count_copies([row for row, result in zip(rows, results, strict=True) if result == "duplicate"])
        process.holding.in_doubt |= is_lost
        for row, result in zip(rows, results, strict=True):
            if result != "duplicate" and not is_lost and not row.owner.startswith(SPILLED):
                self._hold(process, row)

    def count_copies(self, rows: Iterable[InboxRow | tuple[str, str]]) -> None:
        """Count further copies of messages."""
        pairs = [row if isinstance(row, tuple) else (row.id, row.conversation) for row in rows]
        if pairs:
            counted = self.do(self.world.store.count_deliveries(pairs))
            same("counted", counted, [self.model.count_delivery(*pair) for pair in pairs])

    def _insert(self, rows: Sequence[InboxRow]) -> list[str]:
        """Insert rows in units of two, as two webhooks of one batch would bring them."""
        documents = [encode(row.to_document()) for row in rows]
        encoded = [document for document in documents if document is not None]
        units = [encoded[start : start + 2] for start in range(0, len(encoded), 2)]
        results = self.do(self.world.store.insert(units)) if units else []
        assert [len(unit) for unit in results] == [len(unit) for unit in units]
        inserted = [result.value for unit in results for result in unit]
        same("inserted", inserted, [self.model.insert(row.id, as_documented(row)) for row in rows])
        return inserted

    def _hold(self, process: Process, row: InboxRow) -> None:
        if row.state is State.QUEUED:
            process.holding.queued[row.id] = row.conversation
        else:
            process.holding.copies[row.id] = Copy(row, self.model.claim(row.id), process)

    # The lock and the turns

    def look(self, process: Process, conversation: str) -> Copy | None:
        """Return the oldest message that waits, as it is now."""
        rows = self.do(_queued(process, conversation))
        same("queued", [row.id for row in rows], self.model.queued(conversation))
        return Copy(rows[0], self.model.claim(rows[0].id), process) if rows else None

    def promote(self, process: Process, seen: Copy) -> None:
        """Try to make a message the active one, as it was when it was looked at."""
        copy = Copy(seen.row, seen.claim, process)
        won = self.do(process.outcomes.promote(copy.row, process.nodes.id))
        same("promoted", won, self.model.promote(copy.claim, process.nodes.id))
        if won:
            process.holding.queued.pop(copy.row.id, None)
            process.holding.copies[copy.row.id] = copy

    def advance(self, turns: Sequence[tuple[Copy, Script]], *, writes_left: int | None = None) -> list[str]:
        """Carry turns of one process on at the same time; with ``writes_left`` the database goes away after so many."""
        ends = self.do(self._advance(turns, writes_left))
        self.turns.writes_left = writes_left
        same("turns", ends, [self.turns.advance(copy.claim, script) for copy, script in turns])
        self.turns.writes_left = None
        for (copy, _), end in zip(turns, ends, strict=True):
            if end not in {WAITS, PAUSED} and copy.process.holding.copies.get(copy.row.id) is copy:
                del copy.process.holding.copies[copy.row.id]
                copy.process.holding.in_doubt |= end == LET_GO
                if end == STEPPED_BACK:
                    copy.process.holding.queued[copy.row.id] = copy.row.conversation
                    self._keep_as_ghosts([copy])
        return ends

    async def _advance(self, turns: Sequence[tuple[Copy, Script]], writes_left: int | None) -> list[str]:
        async with self.world.failing(writes_left):
            return await asyncio.gather(*(copy.process.advance(copy, script) for copy, script in turns))

    def lose_sight(self, copy: Copy) -> None:
        """A process does not hear what became of its last write, and lets go."""
        del copy.process.holding.copies[copy.row.id]
        copy.process.holding.in_doubt = True
        self._keep_as_ghosts([copy])

    def try_everything(self, stale: Copy) -> None:
        """Have a stale owner try all that an owner may do, in one batch with writes of what is its process's own."""
        outcomes = stale.process.outcomes
        own = [c for c in stale.process.holding.copies.values() if self.model.is_current(c.claim, "active")]
        left = [state for state in (State.ACTIVE, State.QUEUED) if not self.model.is_current(stale.claim, state.value)]
        writes = [(stale, values, leaves) for values in FORBIDDEN for leaves in left]
        writes += [(copy, {"stage": copy.claim.stage}, State.ACTIVE) for copy in own]
        results = self.do(_all(outcomes.write(copy.row, values, leaves=leaves) for copy, values, leaves in writes))
        same("writes of a stale owner and of ours", results, [copy in own for copy, _, _ in writes])
        if State.QUEUED in left:
            assert not self.do(outcomes.promote(deepcopy(stale.row), stale.process.nodes.id))
        scripts = (
            Script(sends=("refused",)),
            Script(reply=0, sends=("dead",)),
            Script(reply="fails", sends=("unknown",)),
        )
        for script in scripts:
            again = Copy(deepcopy(stale.row), deepcopy(stale.claim), stale.process)
            assert set(self.advance([(again, script)])) <= {LET_GO, WAITS}

    # Statuses, dead letters, businesses

    def apply(self, statuses: Sequence[Status], *, is_interrupted: bool = False) -> None:
        """Apply statuses as one batch; ``is_interrupted``: the database goes away before what failed is dead."""
        if not statuses:
            return
        is_interrupted = is_interrupted and any(status.name == "failed" for status in statuses)
        matched = self.do(self._apply([*map(as_write, statuses)], writes_left=1 if is_interrupted else None))
        told = self.model.apply(statuses, interrupted=is_interrupted)
        same("statuses", matched, None if is_interrupted else told)

    async def _apply(self, writes: Sequence[StatusWrite], *, writes_left: int | None) -> list[bool] | None:
        async with self.world.failing(writes_left):
            try:
                return await self.world.store.apply_statuses(writes)
            except StoreUnavailable:
                return None

    def list_dead_letters(self) -> list[str]:
        """Return the ids of the dead letters; what an operator sees of them has to be right."""
        letters = {letter.id: letter for letter in self.do(DeadLetters(self.database).find())}
        assert letters.keys() == self.model.dead.keys()
        for key, document in self.model.dead.items():
            letter = letters[key]
            assert letter.attempts == document["attempts"]
            assert letter.retried == document.get("retried", False)
            assert list(letter.members) == document.get("members", [])
            assert letter.parts == len(document.get("parts", []))
            assert letter.parts_sent == sum(map(is_there, document.get("parts", [])))
        return list(self.model.dead)

    def retry(self, key: str) -> None:
        """Retry a dead letter, or what is none."""
        began_ns = time.time_ns()
        retried = self.do(DeadLetters(self.database).retry(key))
        stored = self.do(self._find(key))
        place, arrival = stored.get("place", 0), stored.get("arrival", 0)
        same("retried", retried, self.model.retry(key, place, arrival))
        assert not retried or (
            began_ns <= arrival <= time.time_ns() and place in {arrival // 10**9 - 1, arrival // 10**9}
        )

    def discard(self, key: str) -> None:
        """Discard a dead letter, or what is none."""
        same("discarded", self.do(DeadLetters(self.database).discard(key)), self.model.discard(key))

    def change_business(self, number: str, state: str) -> None:
        """Switch a business on or off, or take it away; every process sees it at once."""
        self.turns.businesses[number] = self.world.businesses[number] = state
        for process in {*self.processes, *(ghost.process for ghost in self.ghosts)}:
            self.do(process.holds.recheck(number))

    # Nodes

    def round(self, process: Process, *, has_room: bool = True, sweeps: bool = False) -> None:
        """Have a process do a round: join, or find itself lost, or take over what is nobody's."""
        was_joined = process.node.joined
        process.holding.has_room = has_room
        memory = process.holding.as_memory()
        copies = [*process.holding.copies.values()]
        self.do(process.round(sweeps=sweeps))
        if not was_joined:
            self.model.join(process.node, process.nodes.id)
        result = self.model.round(process.node, memory, sweeps=sweeps)
        if result is None:
            assert not process.holding.as_memory().messages
            self._keep_as_ghosts(copies)
            return
        taken, told = result
        same("taken", sorted(row.id for row in process.holding.taken), sorted(taken))
        same("told", sorted(process.holding.told), sorted(told))
        for row in process.holding.taken:
            self._hold(process, row)
        process.holding.taken = []

    def renew(self, process: Process) -> bool:
        """Have a process renew itself."""
        renewed = self.do(process.nodes.renew())
        same("renewed", renewed, self.model.nodes.get(process.node.id) == "living")
        return renewed

    def declare_dead(self, observer: Process, node_id: str, *, meanwhile: Process | None = None) -> None:
        """Declare a node dead that has not moved since it was looked at; ``meanwhile`` one renews itself."""
        counter = self.do(self._find(node_id, nodes=True))["counter"]
        moved = meanwhile is not None and self.renew(meanwhile) and meanwhile.node.id == node_id
        declared = self.do(observer.nodes._declare_dead(node_id, counter))
        same("declared dead", declared, self.model.declare_dead(node_id, renewed=moved))

    def forget(self, node_id: str) -> None:
        """Forget a node, unless it is alive."""
        self.do(self.processes[0].nodes.forget(node_id))
        self.model.forget(node_id)

    # What has to hold

    def check(self) -> None:
        """Compare everything, and look at what has to hold whatever the model says."""
        stored = self.do(self._read(self.database.inbox))
        same("documents", {key: visible(document) for key, document in stored.items()}, self.model.documents)
        nodes = self.do(self._read(self.database.nodes))
        same("nodes", {key: document["state"] for key, document in nodes.items()}, self.model.nodes)
        same("sent", sorted(self.world.sent), sorted(self.turns.sent))
        active = [document["conversation"] for document in stored.values() if document["state"] == "active"]
        assert len(active) == len(set(active))
        for document in stored.values():
            self._check_document(document, stored)
        for copy in (copy for process in self.processes for copy in process.holding.copies.values()):
            same(f"memory of {copy}", copy.beliefs, copy.claim.beliefs)
        self.is_sound = True

    def _check_document(self, document: Document, stored: Mapping[str, Document]) -> None:
        state = document["state"]
        assert state in {"active", "queued", "done", "dead"}
        assert ("owner" in document) == (state in {"active", "queued"})
        assert ("done_at" in document, "dead_at" in document) == (state == "done", state == "dead")
        assert state != "dead" or document["reason"]
        if document.get("outcome") == "replied":
            assert UNDELIVERED not in document.get("reason", "")
            assert all(stored[member]["state"] == "done" for member in document["members"])
        if document.get("outcome") == "in_turn":
            assert document["_id"] in stored[document["turn"]]["members"]
        for index, part in enumerate(document.get("parts", ())):
            key = (document["_id"], document["arrival"], index, part["attempt"])  # a retry begins anew
            assert part["rank"] >= self.ranks.get(key, 0)
            self.ranks[key] = part["rank"]

    def come_to_rest(self) -> None:
        """End all faults: everything has to be answered, or be dead, soon."""
        for number in NUMBERS:
            self.change_business(number, "fine")
        for process in list(self.processes):
            self.end(process, cleanly=False)
        survivor = self.processes[0]
        self.round(survivor)
        for node_id in [key for key, state in self.model.nodes.items() if state == "living"]:
            if node_id != survivor.node.id:
                self.declare_dead(survivor, node_id)
        self.round(survivor, sweeps=True)
        for _ in range(10 + 3 * len(self.model.documents)):
            for conversation in CONVERSATIONS:
                if seen := self.look(survivor, conversation):
                    self.promote(survivor, seen)
            self.advance([(copy, HAPPY) for copy in survivor.holding.copies.values()])
            self.round(survivor)
            if not self.model.unfinished:
                return
        raise AssertionError(f"not at rest: {self.model.unfinished}")

    # The database

    async def _empty(self) -> None:
        for collection in (self.database.inbox, self.database.nodes, self.database.conversations):
            await collection.delete_many({})

    async def _read(self, collection: Collection) -> dict[str, Document]:
        return {document["_id"]: document async for document in collection.find({})}

    async def _find(self, key: str, *, nodes: bool = False) -> Document:
        collection = self.database.nodes if nodes else self.database.inbox
        return await collection.find_one({"_id": key}) or {}


async def _all(steps: Iterable[Awaitable[Result]]) -> list[Result]:
    return await asyncio.gather(*steps)


async def _queued(process: Process, conversation: str) -> list[InboxRow]:
    return await process.outcomes.queued(conversation)
