"""The limits by address, in the one middleware there is.

All of Meta's webhooks come from a few addresses, so a verified one is neither counted nor refused, whoever else is
behind its address. What does not verify is counted once the handler has said so, every other route up front.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from whatsapp_hub.http.admin import is_operator
from whatsapp_hub.http.answers import NOTHING_HERE, error_answer
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.console.pages import refuse_login
from whatsapp_hub.http.keys import MAX_BODY_BYTES
from whatsapp_hub.http.limit_counts import AddressLimit, Counts
from whatsapp_hub.http.probes import asks_for_text
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import UNVERIFIED, Metrics
from whatsapp_hub.tenants.business import WebhookKeys

Gate = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

#: How the webhook answers what it could not verify. 400 and 503 tell nothing: a verified one gets them too.
UNVERIFIED_STATUSES: Final = frozenset({401, 403, 408, 413, 415, 499})
API_ROUTES: Final = ("api.messages", "api.message", "api.pause")
LOGIN_FAILURES: Final = "5/minute"
LARGE_BODY_BYTES: Final = 64 * 1024
VERIFIED_FOR_S: Final = 3600.0
REMEMBER_EVERY_S: Final = 10.0  # nearly all requests come from a few addresses
MAX_VERIFIED_ADDRESSES: Final = 10_000


class Limits:
    """What each address may do. ``middleware`` belongs on the application, ``close`` in its clean-up."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        addresses: ClientAddresses,
        webhook_keys: Callable[[str | None], WebhookKeys | None],
    ) -> None:
        """Set up the limits of every route; ``webhook_keys`` tells which secrets count on a webhook path."""
        self._addresses = addresses
        self._metrics = metrics
        self._admin_token = settings.admin_token
        self._allow_unsigned = settings.allow_unsigned_webhooks
        self._webhook_keys = webhook_keys
        self._verified_at: OrderedDict[str, float] = OrderedDict()  # by address, longest ago first
        self._counts = Counts(addresses.key_of, settings.redis_url.get_secret_value() if settings.redis_url else None)
        limit = partial(AddressLimit, self._counts, metrics)
        self._webhook = limit(settings.rate_limit_webhook, route="webhook")
        self._gates: Mapping[str | None, Gate] = {
            "webhook": self._guard_webhook,
            "webhook.business": self._guard_webhook,
            "health": partial(_count_first, limit(settings.rate_limit_health, route="health")),
            "ready": partial(_count_first, limit(settings.rate_limit_health, route="ready")),
            "metrics": partial(_guard_metrics, limit(settings.rate_limit_metrics, route="metrics")),
            **{
                route: partial(
                    self._guard_admin,
                    limit(settings.rate_limit_admin, route=route, fails_closed=True),
                    limit(settings.rate_limit_admin, route=route, kind="refused", fails_closed=True),
                )
                for route in ("admin.cache.clear", "admin.cache.warmup")
            },
            **dict.fromkeys(API_ROUTES, partial(_count_wrong_keys, limit(settings.rate_limit_webhook, route="api"))),
            "console.login": partial(_count_wrong_logins, limit(LOGIN_FAILURES, route="console.login")),
            "api.description": partial(_count_first, limit(settings.rate_limit_health, route="api.description")),
            None: _explain_missing,
        }

    @web.middleware
    def middleware(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        """Let a request through to its handler, or answer it."""
        gate = self._gates.get(request.match_info.route.name)
        return handler(request) if gate is None else gate(request, handler)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._counts.close()

    async def _guard_webhook(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._allow_unsigned and self._is_unsigned(request):
            return await self._guard_unsigned(request, handler)
        if _may_be_large(request) and (refusal := await self._refuse_unread(request)) is not None:
            return refusal
        try:
            response = await handler(request)
        except web.HTTPException as exc:
            if exc.status not in UNVERIFIED_STATUSES or (refusal := await self._webhook.count(request)) is None:
                raise
            return refusal
        if response.status == 200:
            if request.method == hdrs.METH_POST:
                self._remember(request)
        elif response.status in UNVERIFIED_STATUSES and (refusal := await self._webhook.count(request)) is not None:
            return refusal
        return response

    async def _guard_unsigned(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if (refusal := await self._webhook.count(request)) is None:
            return await handler(request)
        self._metrics.count_webhook(UNVERIFIED, refusal.status)
        return refusal

    def _is_unsigned(self, request: web.Request) -> bool:
        """Tell whether no secret applies, so that nothing can be verified."""
        keys = self._webhook_keys(request.match_info.get("subDomain"))
        return keys is not None and not keys.app_secrets

    async def _refuse_unread(self, request: web.Request) -> web.StreamResponse | None:
        """Answer a large body of an address that only ever sent what does not verify, before any of it is read."""
        if self._verified_lately(request) or (wait_s := await self._webhook.used_up_for_s(request)) is None:
            return None
        if request.content_length is None:
            request[MAX_BODY_BYTES] = LARGE_BODY_BYTES
            return None
        refusal = self._webhook.refuse(wait_s)
        refusal.force_close()
        self._metrics.count_webhook(UNVERIFIED, refusal.status)
        return refusal

    def _remember(self, request: web.Request) -> None:
        key, now = self._addresses.key_of(request), time.monotonic()
        if now - self._verified_at.get(key, float("-inf")) < REMEMBER_EVERY_S:
            return
        self._verified_at[key] = now
        self._verified_at.move_to_end(key)
        if len(self._verified_at) > MAX_VERIFIED_ADDRESSES:
            self._verified_at.popitem(last=False)

    def _verified_lately(self, request: web.Request) -> bool:
        at = self._verified_at.get(self._addresses.key_of(request))
        return at is not None and time.monotonic() - at < VERIFIED_FOR_S

    async def _guard_admin(
        self, operators: AddressLimit, others: AddressLimit, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Count the operator apart, so that nobody who shares the address can lock him out."""
        return await _count_first(operators if is_operator(request, self._admin_token) else others, request, handler)


def _may_be_large(request: web.Request) -> bool:
    length = request.content_length
    return request.can_read_body if length is None else length > LARGE_BODY_BYTES


async def _count_first(limit: AddressLimit, request: web.Request, handler: Handler) -> web.StreamResponse:
    refusal = await limit.count(request)
    return await handler(request) if refusal is None else refusal


async def _count_wrong_keys(limit: AddressLimit, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count what has no right key; who has one is never refused because of others behind the same address."""
    response = await handler(request)
    if response.status == web.HTTPUnauthorized.status_code and (refusal := await limit.count(request)) is not None:
        return refusal
    return response


async def _count_wrong_logins(limit: AddressLimit, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count wrong tokens; the right one is never refused because of others behind the same address."""
    response = await handler(request)
    if response.status == web.HTTPUnauthorized.status_code and (refusal := await limit.count(request)) is not None:
        return refuse_login(request, refusal)
    return response


async def _guard_metrics(limit: AddressLimit, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the JSON form only: Prometheus may scrape as often as it is told to."""
    return await (handler(request) if asks_for_text(request) else _count_first(limit, request, handler))


async def _explain_missing(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return error_answer(404, NOTHING_HERE)
