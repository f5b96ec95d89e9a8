"""The cache of decrypted businesses: one load at a time for a key, a lifetime, and the last good value in an outage."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from async_lru import alru_cache

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.tenants.business import Business, Unserved

Found = Business | Unserved

#: Entries live between 90 and 100 % of the TTL, so that what was loaded together does not expire together.
_JITTER: Final = 0.1


class BusinessCache:
    """Businesses by one kind of key, over ``alru_cache``.

    - Callers that come while a key is being loaded wait for that load; it stops when the last of them was cancelled.
    - "No such business" and the last good value in an outage live ``short_ttl_s``.
    - A failed load is not kept at all.
    """

    def __init__(self, load: Callable[[str], Awaitable[Found]], *, size: int, ttl_s: float, short_ttl_s: float) -> None:
        """Cache what ``load`` returns; it raises ``StoreUnavailable`` when the database is down."""
        self._load = load
        self._size = size
        self._short_ttl_s = short_ttl_s
        self._times_forgotten = 0
        self._last_good: OrderedDict[str, Business] = OrderedDict()
        self._cached = alru_cache(maxsize=size, ttl=ttl_s * (1 - _JITTER), jitter=ttl_s * _JITTER)(self._fetch)
        #: Get the value of a key. Raises ``StoreUnavailable``: the database is down and there is no last good value.
        self.get = self._cached.__call__
        #: Tell whether ``get`` would not have to load, or is loading already.
        self.contains = self._cached.cache_contains

    def __len__(self) -> int:
        return self._cached.cache_info().currsize

    async def reload(self, key: str) -> Found:
        """Load a key whatever is cached, and cache that. Raises as ``get`` does."""
        self._cached.cache_invalidate(key)
        return await self.get(key)

    def forget(self, key: str) -> None:
        """Drop a key because its value has changed: not even in an outage is the old one used again."""
        self._times_forgotten += 1
        self._cached.cache_invalidate(key)
        self._last_good.pop(key, None)

    def expire(self) -> int:
        """Let everything be loaded again when it is wanted; return how many entries that were."""
        count = len(self)
        self._cached.cache_clear()
        return count

    def clear(self) -> int:
        """Drop everything, last good values too; return how many entries that were."""
        self._last_good.clear()
        return self.expire()

    async def _fetch(self, key: str) -> Found:
        times_forgotten = self._times_forgotten
        try:
            found = await self._load(key)
        except StoreUnavailable:
            if (last := self._last_good.get(key)) is None:
                raise
            self._drop_soon(key)
            return last
        if isinstance(found, Business):
            if times_forgotten == self._times_forgotten:  # else it may have been read before the change
                self._remember(key, found)
        else:
            self._last_good.pop(key, None)
            self._drop_soon(key)
        return found

    def _remember(self, key: str, business: Business) -> None:
        self._last_good[key] = business
        self._last_good.move_to_end(key)
        if len(self._last_good) > self._size:
            self._last_good.popitem(last=False)

    def _drop_soon(self, key: str) -> None:
        # It may meet a newer entry by then, which is loaded once more: dearer, never wrong.
        asyncio.get_running_loop().call_later(self._short_ttl_s, self._cached.cache_invalidate, key)
