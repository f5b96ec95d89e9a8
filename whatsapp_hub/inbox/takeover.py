"""Making documents ours: of dead nodes, of stopped ones, of nobody, spilled ones, and our own that we lost sight of.

Every takeover is a compare-and-set on owner, epoch and state. What finds no room in memory is spilled instead.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from pymongo import UpdateOne

from whatsapp_hub.cloud_api.messages import ConversationId, phone_number_id_of
from whatsapp_hub.database import Cursor, Database
from whatsapp_hub.inbox.document import (
    ALL_SPILLED,
    NOBODY,
    SPILLED,
    SUSPECT_FROM_CRASHES,
    InboxRow,
    Stage,
    State,
    spilled,
)
from whatsapp_hub.inbox.nodes import Nodes, View
from whatsapp_hub.inbox.store import unknown_on_error

logger = logging.getLogger("inbox")

SLICE: Final = 200  # documents taken over in one go
MOST_A_ROUND: Final = 2_000  # so that a round stays short; the next one goes on
LOOKED_AT_A_ROUND: Final = 5_000
SWEEP_EVERY_S: Final = 30.0
FORGET_AFTER_S: Final = 120.0

KNOWN_BY: Final = dict.fromkeys(("conversation", "state", "stage", "owner", "epoch", "crashes"), 1)

#: In these stages the work of a process that died counts as an attempt; waiting burns none, nor does a clean stop.
WORKING: Final = frozenset({Stage.NEW.value, Stage.REPLYING.value})


class Holder(Protocol):
    """Who has documents in memory: the dispatcher."""

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


class Takeover:
    """Takes documents over for one node. Every method raises ``StoreUnavailable``."""

    def __init__(
        self, database: Database, nodes: Nodes, holder: Holder, *, renew: Callable[[], Awaitable[None]]
    ) -> None:
        """Take what ``holder`` has room for; ``renew`` this node's lease, if it is time, as long as that lasts."""
        self._inbox = database.inbox
        self._nodes = nodes
        self._holder = holder
        self._renew = renew
        self._swept_at = float("-inf")
        self._gone_since: dict[str, float] = {}
        self._unworked: set[str] = set()  # owners whose work was not cut short by a death
        self._spilled_last = ""  # the owner of what was read back last
        self._own: Cursor | None = None  # where the look at all that is ours stands

    async def list_owners(self) -> set[str]:
        """Return, now and then, whoever owns anything: a node may be gone that nobody remembers.

        Asked before the look at the nodes: whoever joins after that owns nothing yet.
        """
        if time.monotonic() - self._swept_at < SWEEP_EVERY_S:
            return set()
        with unknown_on_error("list owners"):
            owners = set(await self._inbox.distinct("owner", {"owner": {"$exists": True}}))
        self._swept_at = time.monotonic()
        return owners

    async def take_over(self, view: View, owners: set[str]) -> None:
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

    async def take_spilled(self) -> None:
        """Read back what was spilled, as far as there is room: a page of every number, another one first each time."""
        with unknown_on_error("list spilled"):
            owners = await self._inbox.distinct("owner", {"owner": ALL_SPILLED})
        later = [owner for owner in owners if owner > self._spilled_last]
        left = MOST_A_ROUND
        for owner in later + owners[: len(owners) - len(later)]:
            if left <= 0:
                return
            self._spilled_last = owner
            room = self._holder.room(owner.removeprefix(SPILLED))
            if most := min(room, left, max(SLICE, MOST_A_ROUND // len(owners))):
                left -= await self._take(await self._find({"owner": owner}, most=most))

    async def adopt(self) -> None:
        """Pick up what is ours and not in memory. Looks at all that is ours, some of it each time."""
        cursor = self._own
        if cursor is None:
            cursor = self._inbox.find({"owner": self._nodes.id}, KNOWN_BY).batch_size(LOOKED_AT_A_ROUND)
        self._own = None  # unless all goes well
        with unknown_on_error("find our own"):
            documents = await cursor.to_list(LOOKED_AT_A_ROUND)
        if len(documents) == LOOKED_AT_A_ROUND:
            self._own = cursor
        await self._take([document for document in documents if not self._is_held(document)])

    def start_over(self) -> None:
        """Begin the look at all that is ours anew."""
        self._own = None

    async def _find(self, query: Mapping[str, Any], *, most: int) -> list[dict[str, Any]]:
        """Find what could be taken, the oldest first."""
        with unknown_on_error("find unowned"):
            return await self._inbox.find(query, KNOWN_BY).sort("place", 1).limit(most).to_list(None)

    def _is_held(self, document: Mapping[str, Any]) -> bool:
        return self._holder.holds(document["_id"], document["conversation"], State(document["state"]))

    async def _take(self, strays: Sequence[Mapping[str, Any]]) -> int:
        """Make these ours, slice by slice; return how many there were."""
        for start in range(0, len(strays), SLICE):
            await self._renew()
            for row in await self._take_slice(strays[start : start + SLICE]):
                self._holder.take(row)
        return len(strays)

    async def _take_slice(self, strays: Sequence[Mapping[str, Any]]) -> list[InboxRow]:
        """Make these ours; return those that have become it, for somebody else may have been faster.

        That may have been this very node, which promotes what others own too: told apart by a stamp.
        """
        stamp = secrets.token_hex(12)
        promised: Counter[str] = Counter()
        writes = [self._taking(stray, self._choose_owner(stray, promised), stamp) for stray in strays]
        ids = [stray["_id"] for stray in strays]
        with unknown_on_error("take over"):
            await self._inbox.bulk_write(writes, ordered=False)
            found = await self._inbox.find({"_id": {"$in": ids}, "owner": self._nodes.id, "stamp": stamp}).to_list(None)
        logger.info("took over messages", extra={"count": len(strays)})
        return [InboxRow.from_document(document) for document in found]

    def _choose_owner(self, stray: Mapping[str, Any], promised: Counter[str]) -> str:
        """Choose this node as far as there is room in its memory beyond what was promised in the same go."""
        number = phone_number_id_of(stray["conversation"])
        if not self._holder.knows(stray["conversation"]):
            if self._holder.room(number) <= promised[number]:
                return spilled(number)
            promised[number] += 1
        return self._nodes.id

    def _taking(self, stray: Mapping[str, Any], new_owner: str, stamp: str) -> UpdateOne:
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
            _change_of_hands(stray, {"owner": new_owner, "stamp": stamp}, worked=worked),
        )


def _change_of_hands(stray: Mapping[str, Any], values: dict[str, Any], *, worked: bool) -> dict[str, Any]:
    if not worked:
        return {"$set": values, "$inc": {"epoch": 1}}
    if stray["stage"] == Stage.NEW.value and stray.get("crashes", 0) + 1 >= SUSPECT_FROM_CRASHES:
        values = {**values, "stage": Stage.BACKOFF.value}  # from now on an attempt counts when it begins
    return {"$set": values, "$inc": {"epoch": 1, "attempts": 1, "crashes": 1}}
