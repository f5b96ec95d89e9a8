"""Who is alive: each process is a node with a counter that it keeps raising.

No server clock takes part. A node is dead to an observer when its counter has not moved for a lease of the observer's
own monotonic clock while the observer itself could renew, so neither a jump of a clock nor an outage of the database
kills the living.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error
from whatsapp_hub.settings import Timing

logger = logging.getLogger("hub")

ROUND_TIMEOUT_S: Final = 2.0
CACHE_DOCUMENT: Final = "cache"  #: in ``nodes``: the epoch that tells every node to clear or warm its cache


@dataclass(slots=True)
class _Sighting:
    counter: int
    since: float  # monotonic seconds of the observer


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one look at ``nodes`` says."""

    lost: bool  #: we have been declared dead, or may have been: let everything go
    living: frozenset[str]
    gone: tuple[str, ...]  #: dead or stopped nodes that may still own documents
    stopped: frozenset[str]  #: those of them that stopped cleanly
    cache_cleared: int  #: how often operators had the caches of all processes cleared
    cache_warmed: int  #: and warmed


class Nodes:
    """This process among the others."""

    def __init__(self, database: Database, timing: Timing) -> None:
        """Take a fresh id. Nothing is written before ``join``."""
        self._nodes = database.nodes
        self._timing = timing
        self._sightings: dict[str, _Sighting] = {}
        self._renewed_at = self._steady_since = float("-inf")
        self.id = _fresh_id()
        #: What the others are told with every renewal; few and small things, as everybody reads it every second.
        self.report: Callable[[], Mapping[str, Any]] = dict
        self.others: Mapping[str, Mapping[str, Any]] = {}  #: the documents of the other living nodes, as last seen
        self.former_ids: set[str] = set()  #: under which this process worked before it was lost

    async def join(self) -> None:
        """Appear among the living under a fresh id. Raises ``StoreUnavailable``.

        Whoever joins again has let go of everything, so the old id is given up at once and nobody waits for its lease.
        """
        former, self.id = self.id, _fresh_id()
        self.former_ids.add(former)
        self._sightings.clear()
        with unknown_on_error("join", ROUND_TIMEOUT_S):
            await self._nodes.update_one({"_id": former, "state": "living"}, {"$set": {"state": "dead"}})
            await self._nodes.insert_one(
                {
                    "_id": self.id,
                    "state": "living",
                    "counter": 0,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "at": datetime.now(UTC),
                }
            )
        self._renewed_at = time.monotonic()
        logger.info("node joined", extra={"node": self.id})

    def may_send(self) -> bool:
        """Whether nobody can have taken over what is ours: the last renewal is recent enough."""
        return time.monotonic() - self._renewed_at < self._timing.self_fence_s

    async def renew(self) -> bool:
        """Raise our counter; False when we were declared dead. Raises ``StoreUnavailable``."""
        began = time.monotonic()
        with unknown_on_error("renew", ROUND_TIMEOUT_S):
            result = await self._nodes.update_one(
                {"_id": self.id, "state": "living"},
                {"$inc": {"counter": 1}, "$set": {"at": datetime.now(UTC), "report": dict(self.report())}},
            )
        if not result.matched_count:
            return False
        if not self.may_send():
            self._steady_since = began
        self._renewed_at = began
        return True

    @property
    def renewal_due(self) -> bool:
        """Whether it is time to renew again."""
        return time.monotonic() - self._renewed_at >= self._timing.heartbeat_s

    async def look(self) -> View:
        """Read all nodes; declare dead those whose counter stood still for a lease. Raises ``StoreUnavailable``."""
        with unknown_on_error("look", ROUND_TIMEOUT_S):
            documents = {document["_id"]: document async for document in self._nodes.find({})}
        cache = documents.pop(CACHE_DOCUMENT, {})
        ours = documents.get(self.id)
        living, gone, stopped = set(), [], set()
        now = time.monotonic()
        for node_id, document in documents.items():
            if document["state"] == "living" and not await self._has_died(node_id, document, now):
                living.add(node_id)
            else:
                gone.append(node_id)
            if document["state"] == "stopped":
                stopped.add(node_id)
        self.others = {node_id: documents[node_id] for node_id in living if node_id != self.id}
        self._sightings = {node_id: s for node_id, s in self._sightings.items() if node_id in living}
        return View(
            lost=ours is None or ours["state"] != "living" or not self.may_send(),
            living=frozenset(living),
            gone=tuple(gone),
            stopped=frozenset(stopped),
            cache_cleared=cache.get("clear", 0),
            cache_warmed=cache.get("warm", 0),
        )

    async def forget(self, node_id: str) -> None:
        """Remove a dead node that owns nothing any more. Raises ``StoreUnavailable``."""
        with unknown_on_error("forget", ROUND_TIMEOUT_S):
            await self._nodes.delete_one({"_id": node_id, "state": {"$ne": "living"}})

    async def leave(self) -> None:
        """Say that we stopped, last of all: others take over at once what is ours. Raises ``StoreUnavailable``."""
        with unknown_on_error("leave", ROUND_TIMEOUT_S):
            await self._nodes.update_one({"_id": self.id}, {"$set": {"state": "stopped", "at": datetime.now(UTC)}})

    async def raise_cache_epoch(self, *, warm: bool) -> None:
        """Have every node clear, or warm, its cache of businesses. Raises ``StoreUnavailable``."""
        with unknown_on_error("cache epoch", ROUND_TIMEOUT_S):
            await self._nodes.update_one(
                {"_id": CACHE_DOCUMENT}, {"$inc": {"warm" if warm else "clear": 1}}, upsert=True
            )

    async def _has_died(self, node_id: str, document: Mapping[str, Any], now: float) -> bool:
        """Judge by our own clock alone, and only while our own renewals get through."""
        sighting = self._sightings.get(node_id)
        if sighting is None or sighting.counter != document["counter"] or node_id == self.id:
            self._sightings[node_id] = _Sighting(document["counter"], now)
            return False
        stood_still_s = now - max(sighting.since, self._steady_since)
        if stood_still_s < self._timing.lease_s or not self.may_send():  # not while our own do not get through
            return False
        return await self._declare_dead(node_id, document["counter"])

    async def _declare_dead(self, node_id: str, counter: int) -> bool:
        """Declare a node dead unless it has renewed since."""
        with unknown_on_error("declare dead", ROUND_TIMEOUT_S):
            result = await self._nodes.update_one(
                {"_id": node_id, "state": "living", "counter": counter},
                {"$set": {"state": "dead", "at": datetime.now(UTC)}},
            )
        if result.matched_count:
            logger.warning("node declared dead", extra={"node": node_id})
        return bool(result.matched_count)


def _fresh_id() -> str:
    return secrets.token_hex(6)
