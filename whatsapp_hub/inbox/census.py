"""Counts the inbox now and then, so that no scrape of the metrics ever asks the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from whatsapp_hub.cloud_api.messages import phone_number_id_of
from whatsapp_hub.database import Database, DatabaseError
from whatsapp_hub.inbox.document import State
from whatsapp_hub.inbox.indexes import DEAD, OWNED
from whatsapp_hub.telemetry.metrics import OTHER, Metrics

logger = logging.getLogger("inbox")

EVERY_S: Final = 5.0
MAX_TIME_MS: Final = 2_000
MOST_DEAD: Final = 10_000  # the newest; more are counted as so many
FRESH_S: Final = 3600.0  # what died earlier was told, or comes into sight since there is room


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

    def __init__(
        self, database: Database, metrics: Metrics, tenants: Tenants, *, on_dead: Callable[[str, str, datetime], None]
    ) -> None:
        """Count the inbox of this database.

        ``on_dead`` is told business, reason and time of each dead letter that was not there at the first count.
        """
        self._inbox = database.inbox
        self._metrics = metrics
        self._tenants = tenants
        self._on_dead = on_dead
        self._known_dead: set[tuple[str, datetime]] | None = None

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
        query, wanted = {"state": State.DEAD.value, "dead_at": {"$exists": True}}, {"dead_at": 1, "reason": 1}
        found = self._inbox.find(query, wanted).hint(DEAD).sort("dead_at", -1).limit(MOST_DEAD)
        letters = await found.max_time_ms(MAX_TIME_MS).to_list(None)
        numbers = Counter(phone_number_id_of(letter["_id"]) for letter in letters)
        by_business: Counter[str] = Counter()
        for number, count in numbers.items():
            by_business[self._name(number)] += count
        self._metrics.set_dead_letters(by_business)
        self._tell_of_new(letters)

    def _tell_of_new(self, letters: Sequence[Mapping[str, Any]]) -> None:
        known, self._known_dead = self._known_dead, {(letter["_id"], letter["dead_at"]) for letter in letters}
        if known is None:
            return
        fresh_since = time.time() - FRESH_S
        for letter in letters:
            letter_id, died_at = letter["_id"], letter["dead_at"]
            if (letter_id, died_at) not in known and died_at.timestamp() > fresh_since:
                self._on_dead(self._name(phone_number_id_of(letter_id)), letter.get("reason", ""), died_at)

    def _name(self, phone_number_id: str) -> str:
        return self._tenants.sub_domain_of(phone_number_id) or OTHER
