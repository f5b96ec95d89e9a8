"""Counting requests by address and route, in memory or in Redis, and what happens while Redis does not answer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

from aiohttp import hdrs, web
from aiohttplimiter import Limiter, RateLimitExceeded, RedisLimiter
from limits import parse
from limits.aio.storage.redis.redispy import RedispyBridge
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from whatsapp_hub.errors import HubError
from whatsapp_hub.http.answers import error_answer
from whatsapp_hub.http.limit_store import BoundedMemory, CountOnce
from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("webhook")

T = TypeVar("T")

REDIS_TIMEOUT_S: Final = 0.2
REDIS_PAUSE_S: Final = 1.0  # after a failure, before Redis is asked again
REDIS_QUESTIONS: Final = 64  # at the same time; a flood must not open a connection for each request
REDIS_CONNECTIONS: Final = 2 * REDIS_QUESTIONS  # with those of questions that were given up, until they are closed

_COUNTED: Final = web.Response()  # stands for "counted, go on"; never sent


class CountsUnavailable(HubError):
    """Redis does not answer, so nobody can tell how often an address came."""


class Counts:
    """Where the requests are counted: in this process or, with a Redis, by all replicas together."""

    def __init__(self, key_of: Callable[[web.Request], str], redis_url: str | None = None) -> None:
        """Count by what ``key_of`` returns. Redis is asked for the first time when a request has to be counted."""
        self.key_of = key_of
        self.limiter: Limiter | RedisLimiter
        self._redis: RedispyBridge | None = None
        self._failures: tuple[type[Exception], ...] = (TimeoutError, OSError)
        if redis_url is None:
            self.limiter = Limiter(key_of)
            self.limiter.db = BoundedMemory()
        else:
            self.limiter = _open_redis(key_of, redis_url)
            self._redis = cast("RedispyBridge", self.limiter.db.bridge)
            self._failures += cast("tuple[type[Exception], ...]", self._redis.base_exceptions)
        self.window = self.limiter.moving_window = CountOnce(self.limiter.db)
        self._slots = asyncio.Semaphore(REDIS_QUESTIONS)
        self._failed_at: float | None = None
        self._failing_since: float | None = None
        self._uncounted = 0

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question about the counts.

        Raises:
            CountsUnavailable: Redis failed or was too slow, now or a moment ago.

        """
        if self._redis is None:
            return await question()
        if self._failed_at is not None and time.monotonic() - self._failed_at < REDIS_PAUSE_S:
            self._uncounted += 1
            raise CountsUnavailable
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S), self._slots:
                answer = await question()
        except self._failures as exc:
            self._note_failure(exc)
            raise CountsUnavailable from exc
        self._note_answer()
        return answer

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            await self._redis.storage.aclose()

    def _note_failure(self, error: Exception) -> None:
        self._failed_at = time.monotonic()
        self._uncounted += 1
        if self._failing_since is None:
            self._failing_since = self._failed_at
            logger.error(
                "rate limits cannot be counted: Redis fails; webhooks pass, /admin is closed",
                extra={"error": type(error).__name__},
            )

    def _note_answer(self) -> None:
        if self._failing_since is None:
            return
        duration_s = round(time.monotonic() - self._failing_since, 1)
        logger.warning("rate limits are counted again", extra={"duration_s": duration_s, "uncounted": self._uncounted})
        self._failed_at = self._failing_since = None
        self._uncounted = 0


class AddressLimit:
    """How many requests one address may make on one route."""

    def __init__(
        self,
        counts: Counts,
        metrics: Metrics,
        rate: str,
        *,
        route: str,
        kind: str = "",
        fails_closed: bool = False,
    ) -> None:
        """Limit a route, or one ``kind`` of its requests, to a rate like ``100/minute``."""
        self._counts = counts
        self._item = parse(rate)
        self._path_id = f"{route}/{kind}" if kind else route
        self._fails_closed = fails_closed
        self._metrics = metrics
        self._route = route
        limited = counts.limiter.limit(rate, path_id=self._path_id, error_handler=self._explain)
        self._count: Callable[[web.Request], Awaitable[web.StreamResponse]] = limited(_go_on)

    async def count(self, request: web.Request) -> web.StreamResponse | None:
        """Count a request; return what to answer if it is one too many."""
        try:
            answer = await self._counts.ask(partial(self._count, request))
        except CountsUnavailable:
            return self._close() if self._fails_closed else None
        return None if answer is _COUNTED else answer

    async def used_up_for_s(self, request: web.Request) -> int | None:
        """Return how long the address has nothing left, without counting the request; None if it has."""
        try:
            return await self._counts.ask(partial(self._find_wait, request))
        except CountsUnavailable:
            return None

    def refuse(self, wait_s: int) -> web.Response:
        """Count a refusal, and build its answer."""
        self._metrics.count_rate_limited(self._route)
        return error_answer(429, f"too many requests; try again in {wait_s} s", headers={hdrs.RETRY_AFTER: str(wait_s)})

    async def _explain(self, request: web.Request, _: RateLimitExceeded) -> web.Response:
        return self.refuse(await self._find_wait(request) or 1)

    async def _find_wait(self, request: web.Request) -> int | None:
        """Return the seconds until the next request passes; None if it does now."""
        key = f"{self._counts.key_of(request)}:{self._path_id}"  # as the library builds it
        stats = await self._counts.window.get_window_stats(self._item, key)
        return None if stats.remaining > 0 else max(1, math.ceil(stats.reset_time - time.time()))

    def _close(self) -> web.Response:
        self._metrics.count_rate_limited(self._route)
        wait_s = str(math.ceil(REDIS_PAUSE_S))
        return error_answer(503, "closed while Redis does not answer", headers={hdrs.RETRY_AFTER: wait_s})


async def _go_on(_: web.Request) -> web.StreamResponse:
    return _COUNTED


def _open_redis(key_of: Callable[[web.Request], str], url: str) -> RedisLimiter:
    # Its own time-outs too: under a crowd the client was seen to overlook a cancellation while it connects.
    return RedisLimiter(
        key_of,
        url,
        implementation="redispy",
        key_prefix="whatsapp_hub",
        max_connections=REDIS_CONNECTIONS,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # handed on as it is
    )
