"""Which business a phone number belongs to, cached and decrypted, and what its webhooks are checked against."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import ApiTenant, Business, Unserved, WebhookKeys
from whatsapp_hub.tenants.cache import BusinessCache, Found
from whatsapp_hub.tenants.documents import read_business
from whatsapp_hub.tenants.follower import Follower
from whatsapp_hub.tenants.store import Document, TenantStore, Wanted
from whatsapp_hub.tenants.table import Contest, Problem, Table, Touched
from whatsapp_hub.tenants.vault import Vault

logger = logging.getLogger("business_service")

WARM_UP_BUSINESSES: Final = 100  # the guide's
WARM_UP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInfo:
    """The cache of businesses by phone number, in figures. Warming up counts as neither hit nor miss."""

    hits: int
    misses: int
    size: int
    max_size: int
    ttl_s: float


class Directory:
    """Looks businesses up. ``run`` has to be running for changes to be seen before the TTL."""

    def __init__(self, database: Database, vault: Vault, settings: Settings, metrics: Metrics) -> None:
        """Read ``businesses`` of this database; nothing is asked before the first look-up."""
        self._vault = vault
        self._settings = settings
        self._store = TenantStore(database)
        size, ttl_s, short_s = (
            settings.business_cache_size,
            float(settings.business_cache_ttl),
            settings.timing.negative_cache_s,
        )
        self._by_number = BusinessCache(self._load_number, size=size, ttl_s=ttl_s, short_ttl_s=short_s)
        self._by_sub_domain = BusinessCache(self._load_sub_domain, size=size, ttl_s=ttl_s, short_ttl_s=short_s)
        self._table = _make_table(settings)
        self._follower = Follower(
            self._store,
            self._table,
            vault.decrypt,
            on_touched=self._let_go,
            on_gap=self._expire,
            ttl_s=ttl_s,
            retry_s=settings.timing.round_s,
        )
        self._fallback = _make_fallback(settings)
        self._hits = self._misses = 0
        self._count_hit = metrics.business_cache_hits.inc
        self._count_miss = metrics.business_cache_misses.inc
        metrics.business_cache_size.set_function(lambda: len(self._by_number))
        #: Each is called with a phone number id whose business has changed, and must not block.
        self.on_change: list[Callable[[str], None]] = []

    async def find(self, phone_number_id: str) -> Found:
        """Return the business that a phone number belongs to.

        Raises:
            StoreUnavailable: the database is down, and the number was never looked up before.

        """
        if self._by_number.contains(phone_number_id):
            self._hits += 1
            self._count_hit()
        else:
            self._misses += 1
            self._count_miss()
        return await self._by_number.get(phone_number_id)

    async def find_past_cache(self, phone_number_id: str) -> Found:
        """Look a phone number up in the database whatever is cached, and cache that. Raises as ``find`` does."""
        return await self._by_number.reload(phone_number_id)

    async def find_by_sub_domain(self, sub_domain: str) -> Found:
        """Return the business that a subdomain belongs to. Raises as ``find`` does."""
        return await self._by_sub_domain.get(sub_domain)

    async def find_all(self) -> list[Business]:
        """Read every business, past the cache. Raises ``StoreUnavailable``."""
        return self._read(await self._store.find_all())

    async def find_page(self, wanted: Wanted, *, skip: int, limit: int) -> tuple[list[Business], int]:
        """Read some of the businesses that are wanted, past the cache, and how many there are. Raises as ``find``."""
        documents, total = await self._store.find_page(wanted, skip=skip, limit=limit)
        return self._read(documents), total

    def webhook_keys(self, sub_domain: str | None) -> WebhookKeys | None:
        """Return what counts on a webhook path (None: the shared one) from memory; None for an unknown subdomain.

        A business without a readable secret of its own gets keys that nothing verifies with.
        """
        return self._table.keys(sub_domain)

    def api_tenant(self, key: str) -> ApiTenant | None:
        """Return the business that has this API key, from memory; None for a wrong one."""
        return self._table.api_tenant(key)

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        """Name the business that has a phone number, from memory; for metrics, not for deciding anything."""
        if self._fallback is not None and phone_number_id in self._fallback.phone_number_ids:
            return self._table.sub_domain_of(phone_number_id) or self._fallback.sub_domain
        return self._table.sub_domain_of(phone_number_id)

    @property
    def loaded(self) -> bool:
        """Whether the table behind ``webhook_keys`` was read yet. Before, an unknown subdomain may be a known one."""
        return self._follower.loaded

    @property
    def streaming(self) -> bool:
        """Whether changes are seen at once; else within the TTL."""
        return self._follower.streaming

    def size(self) -> tuple[int, int]:
        """Return how many businesses there are, and how many of them are switched on, as of the table."""
        return self._table.size()

    def contests(self) -> list[Contest]:
        """Return the phone numbers that several switched-on businesses claim, as of the table."""
        return self._table.contests()

    def problems(self) -> list[Problem]:
        """Return what is wrong with the documents as far as webhooks go, contests included, for the operator."""
        return sorted(self._table.problems(), key=lambda problem: (problem.business, problem.reason))

    def token_expiries(self) -> dict[str, datetime]:
        """Return when access tokens expire, by subdomain, as of the table."""
        return self._table.token_expiries()

    def pending_limits(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Return subdomain, numbers and limit of the businesses that limit how many messages wait, as of the table."""
        return self._table.pending_limits()

    async def refresh(self) -> None:
        """Read the table behind ``webhook_keys``, ``problems`` and the like. Raises ``StoreUnavailable``."""
        await self._follower.refresh()

    async def run(self) -> None:
        """Keep table and caches up to date until cancelled."""
        await self._follower.run()

    async def warm_up(self) -> int:
        """Load the businesses that customers wrote to last, then the newest; return how many. Never raises.

        It takes 10 s at most, and counts as neither hits nor misses.
        """
        started = time.monotonic()
        loaded: set[str] = set()
        try:
            async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                await self._warm_up(loaded)
        except (StoreUnavailable, TimeoutError) as exc:
            logger.warning("cache warm-up was cut short", extra={"businesses": len(loaded), "reason": str(exc)})
        else:
            took_s = round(time.monotonic() - started, 3)
            logger.info("cache is warm", extra={"businesses": len(loaded), "took_s": took_s})
        return len(loaded)

    def clear(self) -> int:
        """Forget every cached business; return how many entries by phone number that were."""
        self._by_sub_domain.clear()
        return self._by_number.clear()

    def cache_info(self) -> CacheInfo:
        """Return the cache in figures."""
        return CacheInfo(
            hits=self._hits,
            misses=self._misses,
            size=len(self._by_number),
            max_size=self._settings.business_cache_size,
            ttl_s=self._settings.business_cache_ttl,
        )

    async def _load_number(self, phone_number_id: str) -> Found:
        businesses = self._read(await self._store.find_by_number(phone_number_id))
        switched_on = [business for business in businesses if business.enabled]
        if len(switched_on) > 1:
            return await self._find_keeper(phone_number_id, switched_on)
        if businesses:
            return min(switched_on or businesses, key=lambda business: business.id)
        if self._fallback is not None and phone_number_id in self._fallback.phone_number_ids:
            return self._fallback
        return Unserved(reason="no business has this phone number")

    async def _find_keeper(self, phone_number_id: str, claimants: Sequence[Business]) -> Found:
        keeper = await self._store.find_last_served(phone_number_id, [business.id for business in claimants])
        for business in claimants:
            if business.id == keeper:
                return business
        names = ", ".join(sorted(business.sub_domain for business in claimants))
        return Unserved(reason=f"claimed by several businesses: {names}")

    async def _load_sub_domain(self, sub_domain: str) -> Found:
        businesses = self._read(await self._store.find_by_sub_domain(sub_domain))
        wanted = [business for business in businesses if business.enabled] or businesses
        if len(wanted) == 1:
            return wanted[0]
        return Unserved(reason=f"{'several businesses have' if wanted else 'no business has'} this subdomain")

    def _read(self, documents: Sequence[Document]) -> list[Business]:
        return [read_business(document, self._vault.decrypt) for document in documents]

    async def _warm_up(self, loaded: set[str]) -> None:
        most = min(WARM_UP_BUSINESSES, self._settings.business_cache_size)
        numbers = await self._store.find_recent_numbers(most)
        loaded |= {found.id for found in await self._load_all(numbers) if isinstance(found, Business)}
        room = self._settings.business_cache_size - len(numbers)
        newest = [b for b in self._read(await self._store.find_newest(most)) if b.id not in loaded]
        for business in newest[: most - len(loaded)]:
            room -= len(business.phone_number_ids)
            if room < 0:
                break
            await self._load_all(business.phone_number_ids)
            loaded.add(business.id)

    async def _load_all(self, phone_number_ids: Sequence[str]) -> list[Found]:
        return await asyncio.gather(*map(self._by_number.get, phone_number_ids))

    def _let_go(self, touched: Touched) -> None:
        for sub_domain in touched.sub_domains:
            self._by_sub_domain.forget(sub_domain)
        for number in touched.phone_number_ids:
            self._by_number.forget(number)
        for number in touched.phone_number_ids:
            for listener in self.on_change:
                listener(number)

    def _expire(self) -> None:
        self._by_number.expire()
        self._by_sub_domain.expire()


def _make_table(settings: Settings) -> Table:
    token = settings.whatsapp_verify_token
    return Table(
        app_secrets=tuple(secret.get_secret_value().encode() for secret in settings.whatsapp_app_secret),
        verify_token=(token.get_secret_value() or None) if token else None,
        nobodys_secret=secrets.token_bytes(32),
    )


def _make_fallback(settings: Settings) -> Business | None:
    """Make the business that the environment names; a document with its number goes first."""
    if not settings.whatsapp_phone_number_id:
        return None
    token = settings.whatsapp_token.get_secret_value() if settings.whatsapp_token else ""
    return Business(
        id="fallback",
        name="fallback",
        sub_domain="fallback",
        account_id=None,
        phone_number_ids=(settings.whatsapp_phone_number_id,),
        enabled=True,
        access_token=token or None,
        fault=None if token else "WHATSAPP_TOKEN is not set",
    )
