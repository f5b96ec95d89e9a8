"""A process of the hub on a real database: its node, its rounds and its turns; the world around it has a script."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from tests.hub import own_database
from tests.integration.inbox_model import Claim, Document, Memory, Node, Status
from tests.integration.inbox_turn_model import PAUSED, REFUSED, UNSERVED, WAITS, Script, wamid_of
from whatsapp_hub.assistants.base import Reply, Text, Turn
from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.cloud_api.messages import ConversationId, InboundMessage, StatusUpdate
from whatsapp_hub.cloud_api.outgoing import CallbackData, read_callback_data
from whatsapp_hub.conversation.decision import Decision
from whatsapp_hub.conversation.delivery import Delivery
from whatsapp_hub.conversation.history import History
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.conversation.slowdowns import Slowdowns
from whatsapp_hub.conversation.steps import Wait
from whatsapp_hub.conversation.turn import Turns
from whatsapp_hub.conversation.turn_limits import TurnLimits
from whatsapp_hub.database import Database
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.inbox.clock import DatabaseClock
from whatsapp_hub.inbox.daily_turns import DailyTurns
from whatsapp_hub.inbox.document import InboxRow, Stage, State, row_of, spilled
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.inbox.nodes import Nodes
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.inbox.recovery import DeclaredDead, Recovery
from whatsapp_hub.inbox.store import InboxStore, StatusWrite
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business, Unserved

#: Nobody dies of time, and whoever waits for a status has waited long enough when its turn goes on.
TIMING: Final = Timing(heartbeat_s=3600, lease_s=36000, self_fence_s=36000, status_wait_s=1e-9, batch_interval_s=0)
REPLY_MAX_AGE_S: Final = 1e9
PLENTY: Final = 1_000_000
TEXT: Final = b'{"type":"text","text":{"body":"%s"}}'

RESULTS: Final = {
    "sent, no id": SendResult(verdict=Verdict.SENT),
    "refused": SendResult(verdict=Verdict.RETRY, code=4),
    "unknown": SendResult(verdict=Verdict.UNKNOWN),
    "dead": SendResult(verdict=Verdict.DEAD, code=100, reason=REFUSED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message as a webhook brings it, and how its process means to store it."""

    conversation: str
    name: str
    wish: str = "active"  #: ``active``, ``queued`` or ``spilled``
    place: int = 1_700_000_000
    letters: int = 5

    @property
    def id(self) -> str:
        """The message's ``_id``."""
        return f"{self.conversation.partition(':')[0]}:{self.name}"


def arrived(arrival: Arrival, node_id: str, arrival_ns: int) -> InboxRow:
    """Return the row of a message as a process makes it."""
    number, _, customer = arrival.conversation.partition(":")
    message = InboundMessage(
        phone_number_id=number,
        id=arrival.name,
        sender=customer,
        timestamp=arrival.place,
        item=TEXT % (b"x" * arrival.letters),
    )
    owner = spilled(number) if arrival.wish == "spilled" else node_id
    state = State.ACTIVE if arrival.wish == "active" else State.QUEUED
    return row_of(message, owner=owner, state=state, arrival_ns=arrival_ns)


def as_documented(row: InboxRow) -> Document:
    """Return what the model stores of a row that arrives."""
    known = {key: getattr(row, key) for key in ("conversation", "owner", "epoch", "attempts", "place", "arrival")}
    return {**known, "state": row.state.value, "stage": row.stage.value, "size": len(row.item)}


def as_write(status: Status) -> StatusWrite:
    """Return a status as the journal hands it in."""
    update = StatusUpdate(
        phone_number_id=status.number,
        id=status.wamid,
        status=status.name,
        timestamp=status.at,
        callback_data="",
        error_code=status.code,
        item=b"{}",
    )
    target = CallbackData(customer=status.customer, message_id=status.message, part=status.part, attempt=status.attempt)
    return StatusWrite(status=update, target=target)


@contextmanager
def prepared(mongodb_uri: str) -> Iterator[tuple[asyncio.Runner, Database]]:
    """Have one loop and one database for any number of attempts."""
    logging.disable()  # what would be logged is beside the point, and there is much of it
    try:
        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            database = runner.run(stack.enter_async_context(own_database(mongodb_uri)))
            runner.run(ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90))
            yield runner, database
            runner.run(stack.aclose())
    finally:
        logging.disable(logging.NOTSET)


class World:
    """What all processes share: the database, the businesses, and Graph's own record of what it took."""

    def __init__(self, database: Database) -> None:
        """Nothing has happened yet."""
        self.database = database
        self.store = InboxStore(database)
        self.metrics = Metrics()
        self.businesses: dict[str, str] = {}
        self.sent: list[tuple[str, int, int]] = []

    async def find(self, phone_number_id: str) -> Business | Unserved:
        """Return the business of a number."""
        if self.businesses[phone_number_id] == "unserved":
            return Unserved(reason=UNSERVED)
        return Business(
            id=phone_number_id,
            name="",
            sub_domain="",
            account_id=None,
            phone_number_ids=(phone_number_id,),
            enabled=self.businesses[phone_number_id] == "fine",
            access_token="token",
        )

    find_past_cache = find

    def sub_domain_of(self, phone_number_id: str) -> str:
        """Name the business of a number."""
        return phone_number_id

    @asynccontextmanager
    async def failing(self, writes_left: int | None) -> AsyncIterator[None]:
        """Let the database refuse updates of the inbox after so many; None: it takes them all."""
        if writes_left is None:
            yield
            return
        inbox, point = self.database.inbox, {"configureFailPoint": "failCommand"}
        data = {"failCommands": ["update"], "errorCode": 50, "namespace": f"{inbox.database.name}.{inbox.name}"}
        mode: Any = {"skip": writes_left} if writes_left else "alwaysOn"
        await self.database.client.admin.command({**point, "mode": mode, "data": data})
        try:
            yield
        finally:
            await self.database.client.admin.command({**point, "mode": "off"})


class Paused(BaseException):
    """The turn waits for an answer from outside, or its process hangs, or is dead: that looks the same."""

    def __init__(self, part: int | None = None) -> None:
        super().__init__(part)
        self.part = part


class Outside:
    """The assistant and Graph, as the scripts of the turns have them."""

    def __init__(self, sent: list[tuple[str, int, int]]) -> None:
        """Note what Graph took."""
        self._sent = sent
        self._replies: dict[str, int | str] = {}
        self._answers: dict[str, Iterator[str]] = {}

    def follow(self, key: str, script: Script) -> None:
        """Answer to this message's turn by this script."""
        self._replies[key], self._answers[key] = script.reply, iter(script.sends)

    async def reply(self, turn: Turn) -> Sequence[Reply]:
        """Be the assistant."""
        match self._replies[turn.id]:
            case "paused":
                raise Paused
            case "fails":
                raise AssistantFailed("no answer")
            case count:
                return [Text(body=f"part {index}") for index in range(int(count))]

    async def send(self, *, phone_number_id: str, token: str, body: bytes, may_send: Callable[[], bool]) -> SendResult:
        """Be Graph."""
        target = read_callback_data(orjson.loads(body)["biz_opaque_callback_data"])
        assert target is not None
        key = f"{phone_number_id}:{target.message_id}"
        answer = next(self._answers[key], PAUSED)
        if answer == PAUSED:
            raise Paused(target.part)
        if answer.startswith("sent"):
            self._sent.append((key, target.part, target.attempt))
        if answer == "sent":
            return SendResult(verdict=Verdict.SENT, wamid=wamid_of(key, target.part, target.attempt))
        return RESULTS[answer]


@dataclass(slots=True, eq=False, repr=False)
class Copy:
    """An active message as a process has it: the row that it works on, and what the model says of that."""

    row: InboxRow
    claim: Claim
    process: Process

    def __repr__(self) -> str:
        return f"{self.claim.id} in {self.process}, epoch {self.claim.epoch}"

    @property
    def beliefs(self) -> Document:
        """What the row says, to be compared with the claim."""
        row = self.row
        known = {key: getattr(row, key) for key in ("owner", "epoch", "attempts", "members", "cleared")}
        parts = [{key: getattr(part, key) for key in ("attempt", "failures", "wamid", "rank")} for part in row.parts]
        for part, stored in zip(row.parts, parts, strict=True):
            stored["state"] = part.state.value
        return {**known, "state": row.state.value, "stage": row.stage.value, "parts": parts}


class Holding:
    """What a process has in memory, as the rounds see it."""

    stopping = False

    def __init__(self) -> None:
        """Hold nothing."""
        self.copies: dict[str, Copy] = {}  #: active messages, by id
        self.queued: dict[str, str] = {}  #: conversations of the messages that it sees to, by id
        self.has_room = True
        self.in_doubt = False  #: whether the result of a write was unknown
        self.taken: list[InboxRow] = []
        self.told: list[str] = []

    @property
    def unknown_at(self) -> float:
        """When the result of a write was last unknown."""
        return time.monotonic() if self.in_doubt else float("-inf")

    def holds(self, row_id: str, conversation: ConversationId, state: State) -> bool:
        """Whether a document is in memory."""
        return row_id in {**self.copies, **self.queued} or any(row.id == row_id for row in self.taken)

    def knows(self, conversation: ConversationId) -> bool:
        """Whether something of this conversation is in memory."""
        return conversation in {*self.as_memory().conversations, *(row.conversation for row in self.taken)}

    def room(self, phone_number_id: str) -> int:
        """Return how many more conversations of a number fit into memory."""
        return PLENTY if self.has_room else 0

    def take(self, row: InboxRow) -> None:
        """Note what has just become ours."""
        self.taken.append(row)

    def abandon(self) -> None:
        """Drop everything."""
        self.copies, self.queued, self.taken = {}, {}, []

    def waiting_for_status(self) -> Sequence[str]:
        """Return the ids of the documents that wait for a status."""
        return [key for key, copy in self.copies.items() if copy.row.stage is Stage.AMBIGUOUS]

    def status_arrived(self, row_id: str) -> None:
        """Note of whom a status told something."""
        self.told.append(row_id)

    def as_memory(self) -> Memory:
        """Return what the model has to know."""
        conversations = {*self.queued.values(), *(copy.claim.conversation for copy in self.copies.values())}
        return Memory(
            conversations=conversations,
            messages={*self.queued, *self.copies},
            waiting=[key for key, copy in self.copies.items() if copy.claim.stage == "ambiguous"],
            room=self.has_room,
            in_doubt=self.in_doubt,
        )


class Process:
    """A process, which does nothing that it is not told to do."""

    def __init__(self, world: World, name: str) -> None:
        """Start it; it joins the others with its first round."""
        self._name = name
        self._outside = Outside(world.sent)
        self.holding = Holding()
        self.nodes = Nodes(world.database, TIMING)
        self.node = Node(id=self.nodes.id)
        self.outcomes = Outcomes(world.store, batch_interval_s=0)
        self.holds = Holds(
            world, world.metrics, assistant_fault=lambda _: None, says_nothing=lambda _: False, recheck_s=1
        )
        health = Health(world.metrics)
        self._turns = self._make_turns(world, health)
        self._recovery = Recovery(
            world.database,
            nodes=self.nodes,
            worker=self.holding,
            health=health,
            timing=TIMING,
            prepare=_nothing,
            clear_cache=lambda: None,
            warm_cache=lambda: None,
        )

    def __repr__(self) -> str:
        return self._name

    def _make_turns(self, world: World, health: Health) -> Turns:
        rng = Random(0)
        history = History(world.database, keep_turns=1, batch_interval_s=0)
        shared: Mapping[str, Any] = {"outcomes": self.outcomes, "holds": self.holds, "metrics": world.metrics}
        decision = Decision(
            history=history,
            choose_assistant=lambda _: self._outside,
            show_typing=lambda *_: None,
            rng=rng,
            retry_base_s=1,
            limits=TurnLimits(DailyTurns(world.database)),
            **shared,
        )
        sender, may_send = self._outside, self.nodes.may_send
        plenty = Slowdowns(amount=PLENTY, per_s=1)
        delivery = Delivery(
            sender=sender, may_send=may_send, health=health, rng=rng, timing=TIMING, slowdowns=plenty, **shared
        )
        age: Mapping[str, Any] = {
            "reply_max_age_s": REPLY_MAX_AGE_S,
            "database_now": DatabaseClock(world.database).now,
        }
        return Turns(decision=decision, delivery=delivery, history=history, **age, **shared)

    async def advance(self, copy: Copy, script: Script) -> str:
        """Carry a turn on for as long as the script tells what the world answers."""
        self._outside.follow(copy.row.id, script)
        try:
            progress = await self._turns.advance(copy.row)
        except Paused as paused:
            copy.row.cleared = paused.part  # the request is on its way: with its answer the turn goes on from here
            return PAUSED
        return WAITS if isinstance(progress, Wait) else progress.value

    async def round(self, *, sweeps: bool) -> None:
        """Do a round: what it took over is in ``taken``, of whom it heard something in ``told``."""
        self.holding.taken, self.holding.told = [], []
        self._recovery._takeover._swept_at = float("-inf") if sweeps else time.monotonic()
        try:
            await self._recovery._round()
        except DeclaredDead:
            self.give_up()

    def give_up(self) -> None:
        """Find itself lost: nothing in memory is its own any more."""
        self._recovery._lose("lost")

    async def stop(self) -> None:
        """Stop cleanly."""
        await self._recovery.hand_back()


async def _nothing() -> None:
    """Find the database as it has to be."""
