"""The dispatcher: which turn runs when. One at a time per conversation, fair between businesses, bounded.

What it keeps in memory is a few words for each conversation that has something under way. It is entered there before
the write that makes a document this node's own, and left only by the task that entered it; the messages themselves wait
in the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import ConversationId, InboundMessage
from whatsapp_hub.conversation.memory import Conversation, Memory
from whatsapp_hub.conversation.pacing import Pacer
from whatsapp_hub.conversation.ready import ReadyQueue
from whatsapp_hub.conversation.steps import End, Progress, Wait
from whatsapp_hub.conversation.turn import Turns
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import SPILLED, InboxRow, Stage, State, row_of, spilled
from whatsapp_hub.inbox.outbound import OutboundMessage
from whatsapp_hub.inbox.outcomes import MOST_GATHERED, Outcomes
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("conversation")

FIRST_BACKOFF_S: Final = 0.05
TURNS_WHEN_LATE: Final = 100  # so that something goes on
LATE_RECHECK_S: Final = 0.02
PROMOTE_BACKOFF_HELD_S: Final = 30.0  # the lock of a number that is held may stay where it is for days


class Dispatcher:
    """Starts turns, parks them, and promotes the next message when one ends."""

    def __init__(
        self,
        *,
        own_id: Callable[[], str],
        turns: Turns,
        outcomes: Outcomes,
        metrics: Metrics,
        loop_is_late: Callable[[], bool],
        timing: Timing,
        business_pacer: Pacer,
        customer_pacer: Pacer | None,
    ) -> None:
        """Run at most ``timing.max_turns`` turns at a time, each business and each customer at its pace.

        While ``loop_is_late`` only a few: turns can wait, and webhooks cannot.
        """
        self._own_id = own_id
        self._turns = turns
        self._outcomes = outcomes
        self._metrics = metrics
        self._loop_is_late = loop_is_late
        self._timing = timing
        self._customer_pacer = customer_pacer
        self._memory = Memory(most=timing.max_conversations)
        self._last_arrival_ns = 0
        self._entering: dict[InboxRow, Conversation] = {}
        self._business_pacer = business_pacer
        self._ready: ReadyQueue[tuple[Conversation, InboxRow]] = ReadyQueue(business_pacer)
        self._pace_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._running_of: Counter[str] = Counter()  # by phone number
        self._parked: dict[str, Conversation] = {}  # by the id of the row that waits to be woken
        self._stopping = False
        self.unknown_at = float("-inf")

    # What the journal tells (the order of calls: enter; then busy, any number of times; then stored or gone)

    def enter(self, message: InboundMessage | OutboundMessage) -> InboxRow:
        """Make the row of a message, before it is written."""
        conversation_id = message.conversation
        conversation = self._memory.get(conversation_id)
        has_room = conversation is not None or self._memory.room(message.phone_number_id) > 0
        if conversation is None:
            conversation = self._memory.open(conversation_id)
        free = has_room and conversation.at_rest
        row = row_of(
            message,
            owner=self._own_id() if has_room else spilled(message.phone_number_id),
            state=State.ACTIVE if free else State.QUEUED,
            arrival_ns=self._next_arrival_ns(),
        )
        conversation.arriving += 1
        if free:
            conversation.active = row
        self._entering[row] = conversation
        return row

    def busy(self, row: InboxRow) -> None:
        """The conversation is busy elsewhere: the row is going to be stored as queued."""
        conversation = self._entering[row]
        row.state, row.attempts = State.QUEUED, 0
        if conversation.active is row:
            self._free(conversation)

    def stored(self, row: InboxRow) -> None:
        """The row is durable and ours."""
        row.times["stored"] = time.time_ns()
        conversation = self._arrived(row)
        if not self._memory.knows(conversation):
            return  # the node was lost meanwhile: it is taken over under the new id
        if row.owner.startswith(SPILLED):
            self._memory.forget(conversation)  # until a round reads it back
        elif row.state is State.ACTIVE:
            self._make_ready(conversation, row)
        else:
            conversation.waiting = True
            self._look(conversation)

    def gone(self, row: InboxRow, *, unknown: bool) -> None:
        """The row is not ours to answer: it is a copy or, if ``unknown``, nobody knows whether it was stored."""
        conversation = self._arrived(row)
        if unknown:
            self.unknown_at = time.monotonic()
        if conversation.active is row:
            self._free(conversation)
        self._memory.forget(conversation)

    def status_arrived(self, row_id: str) -> None:
        """A status told something about a reply of this message."""
        self._wake(row_id, Stage.AMBIGUOUS)

    # What the rounds tell and ask

    def holds(self, row_id: str, conversation: ConversationId, state: State) -> bool:
        """Whether a document is in memory, or about to be."""
        known = self._memory.get(conversation)
        if known is None:
            return False
        if state is State.ACTIVE:
            return known.active is not None and known.active.id == row_id
        return known.waiting or known.looking or known.arriving > 0

    def take(self, row: InboxRow) -> None:
        """Go on with a document that has just become ours."""
        conversation = self._memory.open(row.conversation)
        if row.state is State.ACTIVE:
            self._unpark(conversation)
            conversation.active = row
            self._make_ready(conversation, row)
        else:
            conversation.waiting = True
            self._look(conversation)

    def knows(self, conversation: ConversationId) -> bool:
        """Whether something of this conversation is in memory."""
        return self._memory.get(conversation) is not None

    def room(self, phone_number_id: str) -> int:
        """Return how many more conversations of a number fit into memory."""
        return self._memory.room(phone_number_id)

    def waiting_for_status(self) -> Sequence[str]:
        """Return the ids of the documents that wait for a status."""
        return [row_id for row_id, c in self._parked.items() if c.active and c.active.stage is Stage.AMBIGUOUS]

    def release(self, phone_number_id: str) -> None:
        """A number can be answered again: wake what was held for it."""
        for row_id in [row_id for row_id in self._parked if row_id.startswith(f"{phone_number_id}:")]:
            self._wake(row_id, Stage.HELD)

    def drop(self, conversation_id: ConversationId, row_id: str) -> None:
        """Let go of an active message that was given up in the database; a turn that is on finds that itself."""
        conversation = self._memory.get(conversation_id)
        if conversation is not None and conversation.active is not None and conversation.active.id == row_id:
            self._unpark(conversation)
            self._free(conversation)
            self._memory.forget(conversation)

    def abandon(self) -> None:
        """Drop everything at once: nothing in memory is ours any more."""
        for conversation in self._memory.drop_all():
            self._unpark(conversation)
            conversation.active = None
            conversation.waiting = False
        self._ready = ReadyQueue(self._business_pacer)
        self._parked = {}
        for task in self._tasks:
            task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Start nothing more, wait for running turns, and cancel those that take too long."""
        self._stopping = True
        for conversation in self._memory:
            self._unpark(conversation)
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning("turns cut short by the stop", extra={"count": len(late)})
                await asyncio.wait(late)

    @property
    def stopping(self) -> bool:
        """Whether nothing more is started."""
        return self._stopping

    @property
    def running(self) -> int:
        """How many turns run now."""
        return self._running

    # Starting and ending turns

    def _make_ready(self, conversation: Conversation, row: InboxRow) -> None:
        self._ready.push(row.phone_number_id, (conversation, row))
        self._start_turns()

    def _start_turns(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            if self._running >= TURNS_WHEN_LATE and self._ready and self._loop_is_late():
                self._start_turns_at(now, now + LATE_RECHECK_S)
                return
            ready = self._ready.pop(now, self._may_start)
            if ready is None:
                # The first business that is over its pace may go on then.
                self._start_turns_at(now, self._ready.next_due)
                return
            conversation, row = ready
            if conversation.active is not row:
                continue  # taken from us while it was waiting
            if (wait_s := self._customer_wait_s(row, now)) > 0:
                self._park(conversation, row, wait_s)
                continue
            self._running += 1
            self._running_of[row.phone_number_id] += 1
            self._spawn(self._run(conversation, row), "turn", then=partial(self._turn_over, row.phone_number_id))

    def _may_start(self, phone_number_id: str) -> bool:
        """Whether a number may have one more turn: it may have as many as are free, and one in any case."""
        running = self._running_of[phone_number_id]
        return not running or running < self._timing.max_turns - self._running

    def _start_turns_at(self, now: float, due: float | None) -> None:
        """Come back then, if at all."""
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None
        if due is not None:
            self._pace_timer = asyncio.get_running_loop().call_later(max(due - now, 0.0), self._start_turns)

    def _customer_wait_s(self, row: InboxRow, now: float) -> float:
        if self._customer_pacer is None or row.stage is not Stage.NEW:
            return 0.0
        return self._customer_pacer.take(row.conversation, now)

    async def _run(self, conversation: Conversation, row: InboxRow) -> None:
        if row.stage is Stage.NEW:
            self._metrics.observe_turn("queue", max(0.0, time.time() - row.arrival / 1e9))
        progress: Progress = End.LET_GO
        try:
            progress = await self._turns.advance(row)
        finally:
            self._ended(conversation, row, progress)

    def _turn_over(self, phone_number_id: str, _: asyncio.Task[None]) -> None:
        self._running -= 1
        self._running_of[phone_number_id] -= 1
        if not self._running_of[phone_number_id]:
            del self._running_of[phone_number_id]
        self._start_turns()

    def _ended(self, conversation: Conversation, row: InboxRow, progress: Progress) -> None:
        if conversation.active is not row:
            return  # abandoned, or taken over meanwhile
        if isinstance(progress, Wait):
            self._park(conversation, row, progress.delay_s)
            return
        if progress is End.LET_GO:
            self.unknown_at = time.monotonic()
        conversation.waiting = conversation.waiting or progress is End.STEPPED_BACK
        self._free(conversation)
        self._memory.forget(conversation)

    def _park(self, conversation: Conversation, row: InboxRow, delay_s: float | None) -> None:
        if self._stopping:
            return
        self._parked[row.id] = conversation
        if delay_s is not None:
            conversation.timer = asyncio.get_running_loop().call_later(delay_s, self._wake, row.id)

    def _wake(self, row_id: str, stage: Stage | None = None) -> None:
        """Go on with a parked turn; only if it waits in this stage, where one is given."""
        conversation = self._parked.get(row_id)
        if conversation is None or conversation.active is None:
            return
        row = conversation.active
        if stage is None or row.stage is stage:
            self._unpark(conversation)
            self._make_ready(conversation, row)

    def _unpark(self, conversation: Conversation) -> None:
        if conversation.timer is not None:
            conversation.timer.cancel()
            conversation.timer = None
        if conversation.active is not None:
            self._parked.pop(conversation.active.id, None)

    # Promoting the next message

    def _free(self, conversation: Conversation) -> None:
        """The lock is not ours any more: see to what waits."""
        conversation.active = None
        self._look(conversation)

    def _look(self, conversation: Conversation) -> None:
        """Promote the oldest queued message, unless a turn of ours is on, after which it is done anyway."""
        free = conversation.active is None and not conversation.looking
        if conversation.waiting and free and self._may_look(conversation):
            conversation.looking = True
            self._spawn(self._promote(conversation), "promote")

    async def _promote(self, conversation: Conversation) -> None:
        """See to the queued messages that we accepted: promote the oldest until ours have been taken into a turn."""
        try:
            while conversation.waiting and conversation.active is None and self._may_look(conversation):
                if conversation.tries:
                    await asyncio.sleep(self._promote_backoff_s(conversation))
                else:
                    conversation.tried_since = time.monotonic()
                conversation.tries += 1
                await self._promote_once(conversation)
        except StoreUnavailable:
            self.unknown_at = time.monotonic()
            conversation.waiting = False  # adopted from the database, as everything unknown
        finally:
            conversation.looking = False
            self._look(conversation)
            self._memory.forget(conversation)

    def _promote_backoff_s(self, conversation: Conversation) -> float:
        """Return how long to wait for a lock that another node has; for a long one, a tenth of the time it took yet."""
        grown_s = FIRST_BACKOFF_S * 2.0 ** min(conversation.tries, 10)
        waited_s = time.monotonic() - conversation.tried_since
        return min(grown_s, max(self._timing.promote_backoff_max_s, waited_s / 10), PROMOTE_BACKOFF_HELD_S)

    async def _promote_once(self, conversation: Conversation) -> None:
        conversation.waiting = False  # whoever arrives while we look sets it again
        queued = await self._outcomes.queued(conversation.id)
        if not queued or not self._may_look(conversation):
            conversation.tries = 0
            return
        own_id = self._own_id()
        if any(row.owner == own_id for row in queued) or len(queued) > MOST_GATHERED:
            conversation.waiting = True
        if not conversation.waiting or conversation.active is not None:
            return
        oldest = queued[0]
        conversation.active = oldest
        won = False
        try:
            won = await self._outcomes.promote(oldest, own_id)
        finally:
            if not won and conversation.active is oldest:
                conversation.active = None
        if won and self._memory.knows(conversation):
            conversation.tries = 0
            self._make_ready(conversation, oldest)

    # Keeping the books

    def _arrived(self, row: InboxRow) -> Conversation:
        conversation = self._entering.pop(row)
        conversation.arriving -= 1
        return conversation

    def _may_look(self, conversation: Conversation) -> bool:
        return self._memory.knows(conversation) and not self._stopping

    def _next_arrival_ns(self) -> int:
        self._last_arrival_ns = max(self._last_arrival_ns + 1, time.time_ns())
        return self._last_arrival_ns

    def _spawn(
        self, work: Coroutine[Any, Any, None], name: str, then: Callable[[asyncio.Task[None]], None] | None = None
    ) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if then is not None:  # even if it is cancelled before its first step
            task.add_done_callback(then)

    def __len__(self) -> int:
        return len(self._memory)
