"""The rounds: once a second each node looks who is alive, takes over from the dead, and adopts what it lost sight of.

To be adopted is what is a node's own and not in its memory: a write whose result was unknown. In the steady state a
round reads ``nodes`` and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from pymongo import UpdateOne

from whatsapp_hub.cloud_api.messages import ConversationId, phone_number_id_of
from whatsapp_hub.database import Cursor, Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.clock import DatabaseClock
from whatsapp_hub.inbox.document import ALL_SPILLED, NOBODY, SPILLED, InboxRow, PartState, Stage, State, spilled
from whatsapp_hub.inbox.nodes import Nodes, View
from whatsapp_hub.inbox.store import unknown_on_error
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.health import Health

logger = logging.getLogger("inbox")

SLICE: Final = 200  # documents taken over in one go
MOST_A_ROUND: Final = 2_000  # so that a round stays short; the next one goes on
LOOKED_AT_A_ROUND: Final = 5_000
ADOPT_FOR_S: Final = 60.0  # a write whose result was unknown can land this late
SWEEP_EVERY_S: Final = 30.0
FORGET_AFTER_S: Final = 120.0

KNOWN_BY: Final = {"conversation": 1, "state": 1, "stage": 1, "owner": 1, "epoch": 1}

#: In these stages the work of a process that died counts as an attempt; waiting burns none, nor does a clean stop.
WORKING: Final = frozenset({Stage.NEW.value, Stage.REPLYING.value})


class Holder(Protocol):
    """Who holds documents in memory: the dispatcher."""

    def holds(self, row_id: str, conversation: ConversationId, state: State) -> bool:
        """Whether a document is in memory, or about to be."""
        ...

    def take(self, row: InboxRow) -> None:
        """Go on with a document that has just become ours."""
        ...

    def knows(self, conversation: ConversationId) -> bool:
        """Whether something of this conversation is in memory."""
        ...

    def room(self, phone_number_id: str) -> int:
        """Return how many more conversations of a number fit into memory."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether nothing more is started."""
        ...

    @property
    def unknown_at(self) -> float:
        """When the result of a write was last unknown, in monotonic seconds."""
        ...

    def abandon(self) -> None:
        """Drop everything at once: nothing in memory is ours any more."""
        ...

    def waiting_for_status(self) -> Sequence[str]:
        """Return the ids of the documents that wait for a status."""
        ...

    def status_arrived(self, row_id: str) -> None:
        """A status told something about a reply of this message."""
        ...


class Recovery:
    """Keeps this node alive and picks up what nobody works on."""

    def __init__(
        self,
        database: Database,
        *,
        nodes: Nodes,
        clock: DatabaseClock,
        holder: Holder,
        health: Health,
        timing: Timing,
        prepare: Callable[[], Awaitable[None]],
        clear_cache: Callable[[], object],
        warm_cache: Callable[[], object],
    ) -> None:
        """Work for one node.

        ``prepare`` makes the database fit to be used, before this node joins. ``clear_cache`` and ``warm_cache`` are
        called when an operator asked for it, here or at another process.
        """
        self._inbox = database.inbox
        self._nodes = nodes
        self._clock = clock
        self._holder = holder
        self._health = health
        self._timing = timing
        self._prepare = prepare
        self._clear_cache = clear_cache
        self._warm_cache = warm_cache
        self._prepared = False
        self.joined = False  #: whether what is stored now has an owner that counts
        self._view: View | None = None
        self._unknown_at = float("-inf")
        self._swept_at = float("-inf")
        self._gone_since: dict[str, float] = {}
        self._unworked: set[str] = set()  #: owners whose work was not cut short by a death
        self._take_until = 0.0  #: monotonic seconds: a round must not take so long that the node is thought dead
        self._spilled_last = ""  #: the owner of what was read back last
        self._own: Cursor | None = None  #: where the look at all that is ours stands

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            try:
                await self._round()
            except StoreUnavailable as error:
                self._unknown_at = time.monotonic()
                self._health.database_failed("the database does not answer")
                if self.joined and not self._nodes.may_send():
                    self._lose(str(error))
            await asyncio.sleep(self._timing.round_s)

    async def hand_back(self) -> None:
        """Say that this node has stopped, so that others take over at once. Nothing is done for this node after it."""
        try:
            await self._nodes.leave()
        except StoreUnavailable:
            logger.warning("could not say that we stopped, the database is down: others take over after the lease")

    async def _round(self) -> None:
        if not self._prepared:
            await self._prepare()
            self._prepared = True
        if not self.joined:
            await self._clock.read()
            await self._nodes.join()
            self.joined = True
        elif self._nodes.renewal_due:
            if not await self._nodes.renew():
                self._lose("declared dead by another node")
                return
            await self._clock.read()
        owners = await self._all_owners()
        view = await self._nodes.look()
        self._health.database_answered()  # now: a takeover may take longer than a verdict lasts
        if view.lost:
            self._lose("declared dead by another node")
            return
        self._follow_cache_epoch(view)
        if not self._holder.stopping:
            self._take_until = time.monotonic() + self._timing.heartbeat_s / 2
            await self._take_over(view, owners)
            await self._take_spilled()
            await self._adopt()
        await self._read_back_statuses()

    def _follow_cache_epoch(self, view: View) -> None:
        """Do with our cache what an operator asked of every process since the last round."""
        if self._view is not None and view.cache_cleared != self._view.cache_cleared:
            self._clear_cache()
        if self._view is not None and view.cache_warmed != self._view.cache_warmed:
            self._warm_cache()
        self._view = view

    def _lose(self, why: str) -> None:
        logger.warning("node lost, starting over under a new id", extra={"node": self._nodes.id, "why": why})
        self.joined = False
        self._own = None
        self._holder.abandon()

    async def _all_owners(self) -> set[str]:
        """Return, now and then, whoever owns anything: a node may be gone that nobody remembers.

        Asked before the look at the nodes: whoever joins after that owns nothing yet.
        """
        if time.monotonic() - self._swept_at < SWEEP_EVERY_S:
            return set()
        with unknown_on_error("list owners"):
            owners = set(await self._inbox.distinct("owner", {"owner": {"$exists": True}}))
        self._swept_at = time.monotonic()
        return owners

    async def _take_over(self, view: View, owners: set[str]) -> None:
        """Take over what dead nodes, stopped ones and nobody own."""
        now = time.monotonic()
        self._gone_since = {node: self._gone_since.get(node, now) for node in view.gone}
        self._unworked = {NOBODY, self._nodes.id, *self._nodes.former_ids, *view.stopped}
        gone = {NOBODY, *view.gone, *(owner for owner in owners - view.living if not owner.startswith(SPILLED))}
        if await self._take(await self._find({"owner": {"$in": sorted(gone)}}, most=MOST_A_ROUND)):
            if owners:
                self._swept_at = float("-inf")  # there may be more of those that nobody remembers
            return
        for node, since in self._gone_since.items():
            if now - since > FORGET_AFTER_S:
                await self._nodes.forget(node)

    async def _take_spilled(self) -> None:
        """Read back what was spilled, as far as there is room: a page of every number, another one first each time."""
        with unknown_on_error("list spilled"):
            owners = await self._inbox.distinct("owner", {"owner": ALL_SPILLED})
        later = [owner for owner in owners if owner > self._spilled_last]
        for owner in later + owners[: len(owners) - len(later)]:
            if time.monotonic() > self._take_until:
                return
            self._spilled_last = owner
            room = self._holder.room(owner.removeprefix(SPILLED))
            if most := min(room, max(SLICE, MOST_A_ROUND // len(owners))):
                await self._take(await self._find({"owner": owner}, most=most))

    async def _adopt(self) -> None:
        """Pick up what is ours and not in memory, for as long as a write whose result was unknown may still land.

        Looks at all that is ours, some of it each round.
        """
        if time.monotonic() - max(self._unknown_at, self._holder.unknown_at) >= ADOPT_FOR_S:
            self._own = None
            return
        cursor = self._own
        if cursor is None:
            cursor = self._inbox.find({"owner": self._nodes.id}, KNOWN_BY).batch_size(LOOKED_AT_A_ROUND)
        try:
            with unknown_on_error("find our own"):
                documents = await cursor.to_list(LOOKED_AT_A_ROUND)
        except StoreUnavailable:
            self._own = None
            raise
        self._own = cursor if len(documents) == LOOKED_AT_A_ROUND else None
        await self._take([document for document in documents if not self._is_held(document)])

    async def _find(self, query: Mapping[str, Any], *, most: int) -> list[dict[str, Any]]:
        """Find what could be taken, the oldest first."""
        with unknown_on_error("find unowned"):
            return await self._inbox.find(query, KNOWN_BY).sort("place", 1).limit(most).to_list(None)

    def _is_held(self, document: Mapping[str, Any]) -> bool:
        return self._holder.holds(document["_id"], document["conversation"], State(document["state"]))

    async def _take(self, strays: Sequence[Mapping[str, Any]]) -> int:
        """Make these ours, slice by slice, as long as the round lasts; return how many there were."""
        for start in range(0, len(strays), SLICE):
            if start and time.monotonic() > self._take_until:
                break
            for row in await self._take_slice(strays[start : start + SLICE]):
                self._holder.take(row)
        return len(strays)

    async def _take_slice(self, strays: Sequence[Mapping[str, Any]]) -> list[InboxRow]:
        """Make these ours; return those that have become it, for somebody else may have been faster."""
        epochs = {stray["_id"]: stray["epoch"] + 1 for stray in strays}
        promised: Counter[str] = Counter()
        writes = [self._taking(stray, self._choose_owner(stray, promised)) for stray in strays]
        with unknown_on_error("take over"):
            await self._inbox.bulk_write(writes, ordered=False)
            found = await self._inbox.find({"_id": {"$in": list(epochs)}, "owner": self._nodes.id}).to_list(None)
        logger.info("took over messages", extra={"count": len(strays)})
        return [InboxRow.from_document(d) for d in found if d["epoch"] == epochs[d["_id"]]]

    async def _read_back_statuses(self) -> None:
        """Statuses may have come to another node: one find for all that wait."""
        waiting = self._holder.waiting_for_status()
        if not waiting:
            return
        told = {"$elemMatch": {"state": PartState.SENDING.value, "rank": {"$gt": 0}}}
        with unknown_on_error("read back statuses"):
            found = self._inbox.find({"_id": {"$in": list(waiting)}, "parts": told}, {"_id": 1})
            documents = await found.to_list(None)
        for document in documents:
            self._holder.status_arrived(document["_id"])

    def _choose_owner(self, stray: Mapping[str, Any], promised: Counter[str]) -> str:
        """Choose this node as far as there is room in its memory beyond what was promised in the same go."""
        number = phone_number_id_of(stray["conversation"])
        if not self._holder.knows(stray["conversation"]):
            if self._holder.room(number) <= promised[number]:
                return spilled(number)
            promised[number] += 1
        own: str = self._nodes.id
        return own

    def _taking(self, stray: Mapping[str, Any], new_owner: str) -> UpdateOne:
        owner = stray["owner"]
        died = owner not in self._unworked and not owner.startswith(SPILLED)
        worked = died and stray["state"] == State.ACTIVE.value and stray["stage"] in WORKING
        return UpdateOne(
            {
                "_id": stray["_id"],
                "conversation": stray["conversation"],
                "state": stray["state"],
                "owner": owner,
                "epoch": stray["epoch"],
            },
            {"$set": {"owner": new_owner}, "$inc": {"epoch": 1, "attempts": int(worked)}},
        )
