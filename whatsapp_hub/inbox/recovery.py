"""The rounds: once a second each node looks who is alive, takes over from the dead, and adopts what it lost sight of.

To be adopted is what is a node's own and not in its memory: a write whose result was unknown. In the steady state a
round reads ``nodes`` and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from whatsapp_hub.database import Database
from whatsapp_hub.errors import DatabaseTaken, HubError, StoreUnavailable
from whatsapp_hub.inbox.document import PartState
from whatsapp_hub.inbox.nodes import Nodes, View
from whatsapp_hub.inbox.store import unknown_on_error
from whatsapp_hub.inbox.takeover import Holder, Takeover
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.health import Health

logger = logging.getLogger("inbox")

ADOPT_FOR_S: Final = 60.0  # a write whose result was unknown can land this late


class Worker(Holder, Protocol):
    """Who works on documents: the dispatcher."""

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


class DeclaredDead(HubError):
    """Other nodes take this one for dead: nothing is its own any more."""


class Recovery:
    """Keeps this node alive and picks up what nobody works on."""

    def __init__(
        self,
        database: Database,
        *,
        nodes: Nodes,
        worker: Worker,
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
        self._takeover = Takeover(database, nodes, worker, renew=self._renew)
        self._worker = worker
        self._health = health
        self._timing = timing
        self._prepare = prepare
        self._clear_cache = clear_cache
        self._warm_cache = warm_cache
        self._prepared = False
        self.joined = False  #: whether what is stored now has an owner that counts
        self._view: View | None = None
        self._unknown_at = float("-inf")

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            try:
                await self._round()
            except DeclaredDead:
                self._lose("declared dead by another node")
            except DatabaseTaken as error:
                if str(error) not in self._health.reasons():
                    logger.error("the database cannot be used", extra={"reason": str(error)})
                self._health.database_failed(str(error))
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
            await self._nodes.join()
            self.joined = True
            self._health.database_answered()
        await self._renew()
        owners = await self._takeover.list_owners()
        view = await self._nodes.look()
        if view.lost:
            raise DeclaredDead
        self._follow_cache_epoch(view)
        if not self._worker.stopping:
            await self._take(view, owners)
        await self._read_back_statuses()

    async def _renew(self) -> None:
        """Renew if it is time: also the proof that the database takes writes, which a read would not be."""
        if self._nodes.renewal_due:
            if not await self._nodes.renew():
                raise DeclaredDead
            self._health.database_answered()

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
        self._takeover.start_over()
        self._worker.abandon()

    async def _take(self, view: View, owners: set[str]) -> None:
        """Take over what nobody works on."""
        await self._takeover.take_over(view, owners)
        await self._takeover.take_spilled()
        if time.monotonic() - max(self._unknown_at, self._worker.unknown_at) < ADOPT_FOR_S:
            await self._takeover.adopt()

    async def _read_back_statuses(self) -> None:
        """Statuses may have come to another node: one find for all that wait."""
        waiting = self._worker.waiting_for_status()
        if not waiting:
            return
        told = {"$elemMatch": {"state": PartState.SENDING.value, "rank": {"$gt": 0}}}
        with unknown_on_error("read back statuses"):
            found = self._inbox.find({"_id": {"$in": list(waiting)}, "parts": told}, {"_id": 1})
            documents = await found.to_list(None)
        for document in documents:
            self._worker.status_arrived(document["_id"])
