"""Counts the inbox now and then, so that no scrape of the metrics ever asks the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

from whatsapp_hub.cloud_api.messages import phone_number_id_of
from whatsapp_hub.database import Database, DatabaseError
from whatsapp_hub.inbox.document import State
from whatsapp_hub.inbox.indexes import DEAD, OWNED
from whatsapp_hub.telemetry.metrics import OTHER, Metrics

logger = logging.getLogger("inbox")

EVERY_S: Final = 5.0
MAX_TIME_MS: Final = 2_000
MOST_DEAD: Final = 10_000  # more are counted as so many


class Tenants(Protocol):
    """What is known of businesses without asking the database."""

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        """Name the business of a phone number id."""
        ...

    def token_expiries(self) -> Mapping[str, datetime]:
        """Return when access tokens expire, by subdomain."""
        ...


class Census:
    """Sets the gauges that nothing else keeps up to date."""

    def __init__(self, database: Database, metrics: Metrics, tenants: Tenants) -> None:
        """Count the inbox of this database."""
        self._inbox = database.inbox
        self._metrics = metrics
        self._tenants = tenants

    async def run(self) -> None:
        """Count every few seconds until cancelled."""
        while True:
            try:
                await self.take()
            except DatabaseError as error:
                logger.warning("inbox not counted", extra={"error": type(error).__name__})
            await asyncio.sleep(EVERY_S)

    async def take(self) -> None:
        """Count once. Raises ``DatabaseError``."""
        open_ones = {"owner": {"$exists": True}}
        pending = await self._inbox.count_documents(open_ones, hint=OWNED, maxTimeMS=MAX_TIME_MS)
        self._metrics.pending_messages.set(pending)
        self._metrics.oldest_pending.set(await self._oldest_age_s() if pending else 0.0)
        await self._count_dead()
        now = time.time()
        expiries = self._tenants.token_expiries().items()
        self._metrics.set_token_expiry({sub_domain: at.timestamp() - now for sub_domain, at in expiries})

    async def _oldest_age_s(self) -> float:
        found = self._inbox.find({"owner": {"$exists": True}}, {"place": 1}).hint(OWNED).max_time_ms(MAX_TIME_MS)
        oldest = [document["place"] async for document in found.sort("place", 1).limit(1)]
        return max(0.0, time.time() - oldest[0]) if oldest else 0.0

    async def _count_dead(self) -> None:
        found = self._inbox.find({"state": State.DEAD.value, "dead_at": {"$exists": True}}, {"_id": 1}).hint(DEAD)
        numbers = Counter([phone_number_id_of(d["_id"]) async for d in found.limit(MOST_DEAD).max_time_ms(MAX_TIME_MS)])
        by_business: Counter[str] = Counter()
        for number, count in numbers.items():
            by_business[self._tenants.sub_domain_of(number) or OTHER] += count
        self._metrics.set_dead_letters(by_business)
