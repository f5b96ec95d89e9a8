"""The assistant that asks a business's own endpoint: the turn as signed JSON, and its answer.

Only a business's document names an endpoint, so it is always asked over a session that reaches public addresses only,
or what ``ASSISTANT_ALLOW_NETS`` opens.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from random import Random
from typing import Final

from aiohttp.abc import AbstractResolver
from yarl import URL

from whatsapp_hub.assistants.asking import Asking
from whatsapp_hub.assistants.base import Reply, Turn
from whatsapp_hub.assistants.chat_route import MAX_KEPT, Answer, Route, open_route
from whatsapp_hub.assistants.endpoint_wire import build_turn, read_replies
from whatsapp_hub.assistants.guard import GuardingResolver, find_url_fault
from whatsapp_hub.assistants.standard_webhooks import read_id, read_key, sign
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

NO_CONTENT: Final = 204


class Endpoint:
    """Asks the endpoint that the business's document names; says a polite sentence when it does not answer."""

    def __init__(self, settings: Settings, metrics: Metrics, *, route: Route, rng: Random) -> None:
        """Take the route to endpoints."""
        self._settings = settings
        self._metrics = metrics
        self._route = route
        self._asking = Asking(metrics, rng=rng, retry_base_s=settings.timing.assistant_retry_base_s)

    async def reply(self, turn: Turn) -> tuple[Reply, ...]:
        """Return what the endpoint says; the fallback text when it fails for good."""
        try:
            replies = await self._ask(turn)
        except AssistantFailed as error:
            return self._asking.fall_back(turn, error)
        self._metrics.count_assistant("answered")
        return replies

    def find_fault(self, choice: AssistantChoice | None) -> str | None:
        """Return why a document cannot be served, in words for the operator, or None."""
        if choice is None or not choice.endpoint_url:
            return "it has no assistant.endpointUrl, which its assistant's kind http needs"
        if fault := find_url_fault(choice.endpoint_url, self._settings.assistant_allow_nets):
            return f"its assistant's endpointUrl {fault}"
        if not choice.secret:
            return "it has no assistant.secret, with which requests to its endpoint are signed"
        try:
            read_key(choice.secret)
        except ValueError as error:
            return f"its assistant's secret {error}"
        return None

    async def _ask(self, turn: Turn) -> tuple[Reply, ...]:
        choice = turn.choice
        fault = self.find_fault(choice)
        if fault or choice is None or choice.endpoint_url is None or choice.secret is None:
            raise AssistantFailed(fault)
        url, key = choice.endpoint_url, read_key(choice.secret)
        turn_id = read_id(turn.id)
        body = build_turn(turn, turn_id=turn_id)
        timeout_s = choice.timeout_s or self._settings.ai_timeout_s

        async def once() -> Answer:
            # The time is that of the attempt; the id stays, so that the endpoint can tell a retry.
            headers = sign(key, message_id=turn_id, timestamp=int(time.time()), body=body)
            return await self._route.post(
                lambda: _parse(url),
                body,
                {"Content-Type": "application/json", **headers},
                business=turn.business_id,
                timeout_s=timeout_s,
            )

        answer = await self._asking.ask(once, timeout_s=timeout_s)
        return () if answer.status == NO_CONTENT else read_replies(answer.body)


@lru_cache(maxsize=MAX_KEPT)
def _parse(url: str) -> URL:
    return URL(url)


@asynccontextmanager
async def open_endpoint(
    settings: Settings,
    metrics: Metrics,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Endpoint]:
    """Open the session, and close it afterwards.

    ``AI_MAX_CONNECTIONS`` go to endpoints, a tenth of them at most to one business: an endpoint that answers slowly
    must not take them from the others.

    Args:
        settings: the settings.
        metrics: where answers are counted.
        resolver: for names in URLs, instead of the system's.
        tls: instead of the system's certificates.

    """
    limit = settings.ai_max_connections
    guard = GuardingResolver(settings.assistant_allow_nets, resolver)
    try:
        async with open_route(limit=limit, limit_per_business=max(1, limit // 10), resolver=guard, tls=tls) as route:
            yield Endpoint(settings, metrics, route=route, rng=Random())  # noqa: S311 - spreads retries, no secret
    finally:
        await guard.close()
