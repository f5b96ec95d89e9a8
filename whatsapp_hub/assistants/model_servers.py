"""Which server is asked for a business, and how often: for chat, transcriptions and speech alike.

The environment names one server and its key. A business's document may name another; it is then asked with the
document's own key or none, over a session that reaches public addresses only.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Final, TypeVar

from aiohttp.abc import AbstractResolver
from yarl import URL

from whatsapp_hub.assistants.asking import Asking
from whatsapp_hub.assistants.chat_route import ModelServer, Question, Route, open_route
from whatsapp_hub.assistants.guard import GuardingResolver, find_url_fault
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

OPENAI_HOST: Final = "api.openai.com"

Found = TypeVar("Found")


class ModelServers:
    """The servers, and the patience with them."""

    def __init__(self, settings: Settings, metrics: Metrics, *, own: Route, guarded: Route, rng: Random) -> None:
        """Take the route to the environment's server (``own``) and the one to servers that documents name."""
        self._settings = settings
        self._own = own
        self._guarded = guarded
        self.asking = Asking(metrics, rng=rng, retry_base_s=settings.timing.assistant_retry_base_s)

    def choose(self, choice: AssistantChoice | None, model: str) -> ModelServer:
        """Choose the server. The environment's key goes nowhere but to the environment's server."""
        settings = self._settings
        if choice and choice.base_url:
            return ModelServer(url=choice.base_url, key=choice.api_key or None, model=model, from_document=True)
        shared = settings.ai_api_key.get_secret_value() if settings.ai_api_key else None
        key = (choice.api_key if choice else None) or shared or None
        return ModelServer(url=settings.ai_base_url, key=key, model=model, from_document=False)

    def find_fault(self, server: ModelServer) -> str | None:
        """Return why a server cannot be asked, in words for the operator, or None. Costs no I/O."""
        if server.from_document:
            fault = find_url_fault(server.url, self._settings.assistant_allow_nets)
            if fault:
                return f"its assistant's baseUrl {fault}"
        elif URL(server.url).user is not None:
            return "AI_BASE_URL must not carry a user name; write the key into AI_API_KEY"
        if not server.model:
            return "no model is named: neither AI_MODEL nor the document's assistant.model"
        if server.key is None and URL(server.url).host == OPENAI_HOST:
            return (
                "OpenAI's server needs a key: AI_API_KEY or, with a baseUrl of its own, the document's assistant.apiKey"
            )
        if server.key is not None and not (server.key.isascii() and server.key.isprintable()):
            return "the assistant's API key has characters that no key has"
        return None

    async def ask(
        self, server: ModelServer, question: Question, read: Callable[[bytes], Found], *, business: str
    ) -> Found:
        """Ask until there is an answer, at most three times; after a full timeout only once more.

        Raises:
            AssistantFailed: there is none to be had.

        """
        fault = self.find_fault(server)
        if fault:
            raise AssistantFailed(fault)
        route = self._guarded if server.from_document else self._own
        timeout_s = self._settings.ai_timeout_s

        async def once() -> Found:
            return read(await route.ask(server, question, business=business, timeout_s=timeout_s))

        return await self.asking.ask(once, timeout_s=timeout_s)


@asynccontextmanager
async def open_model_servers(
    settings: Settings,
    metrics: Metrics,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ModelServers]:
    """Open the sessions, and close them afterwards.

    ``AI_MAX_CONNECTIONS`` go to the environment's server, all of them to one business if no other wants any. As many
    go to servers that documents name, but one business gets a tenth of them at most: a server that answers slowly,
    which costs it nothing, must not take them from the others.

    Args:
        settings: the settings.
        metrics: where answers and tokens are counted.
        resolver: for names in documents' URLs, instead of the system's.
        tls: for documents' URLs, instead of the system's certificates.

    """
    limit = settings.ai_max_connections
    tenth = max(1, limit // 10)
    guard = GuardingResolver(settings.assistant_allow_nets, resolver)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(guard.close)
        own = await stack.enter_async_context(open_route(limit=limit))
        guarded = await stack.enter_async_context(
            open_route(limit=limit, limit_per_business=tenth, resolver=guard, tls=tls)
        )
        rng = Random()  # noqa: S311 - spreads retries, no secret
        yield ModelServers(settings, metrics, own=own, guarded=guarded, rng=rng)
