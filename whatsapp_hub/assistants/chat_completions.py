"""The assistant that asks a model: any server that speaks OpenAI's ``/chat/completions``.

The environment names one server and its key. A business's document may name another; it is then asked with the
document's own key or none, over a session that reaches public addresses only.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Final

from aiohttp.abc import AbstractResolver
from yarl import URL

from whatsapp_hub.assistants.asking import FALLBACK_TEXT, Asking
from whatsapp_hub.assistants.base import Text, Turn
from whatsapp_hub.assistants.chat_route import ModelServer, Route, open_route
from whatsapp_hub.assistants.chat_wire import Completion, build_request
from whatsapp_hub.assistants.guard import GuardingResolver, find_url_fault
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

__all__ = ["FALLBACK_TEXT", "OPENAI_HOST", "ChatCompletions", "open_chat_completions"]

OPENAI_HOST: Final = "api.openai.com"


class ChatCompletions:
    """Asks a model for each turn; says a polite sentence when there is no answer to be had."""

    def __init__(self, settings: Settings, metrics: Metrics, *, own: Route, guarded: Route, rng: Random) -> None:
        """Take the route to the environment's server (``own``) and the one to servers that documents name."""
        self._settings = settings
        self._metrics = metrics
        self._own = own
        self._guarded = guarded
        self._asking = Asking(metrics, rng=rng, retry_base_s=settings.timing.assistant_retry_base_s)

    async def reply(self, turn: Turn) -> tuple[Text, ...]:
        """Return the model's answer or, when it fails for good, the fallback text."""
        try:
            completion = await self._ask(turn)
        except AssistantFailed as error:
            return self._asking.fall_back(turn, error)
        self._metrics.count_assistant("answered")
        self._metrics.count_tokens(turn.sub_domain, "input", completion.input_tokens)
        self._metrics.count_tokens(turn.sub_domain, "output", completion.output_tokens)
        return (Text(body=completion.text),)

    def find_fault(self, choice: AssistantChoice | None) -> str | None:
        """Return why a document (or, for None, the environment) cannot be served, in words for the operator."""
        return self._find_fault_of(self._choose_server(choice))

    def _find_fault_of(self, server: ModelServer) -> str | None:
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

    def _choose_server(self, choice: AssistantChoice | None) -> ModelServer:
        """Choose the server. The environment's key goes nowhere but to the environment's server."""
        settings = self._settings
        model = (choice.model if choice else None) or settings.ai_model or ""
        if choice and choice.base_url:
            return ModelServer(url=choice.base_url, key=choice.api_key or None, model=model, from_document=True)
        shared = settings.ai_api_key.get_secret_value() if settings.ai_api_key else None
        key = (choice.api_key if choice else None) or shared or None
        return ModelServer(url=settings.ai_base_url, key=key, model=model, from_document=False)

    async def _ask(self, turn: Turn) -> Completion:
        server = self._choose_server(turn.choice)
        fault = self._find_fault_of(server)
        if fault:
            raise AssistantFailed(fault)
        route = self._guarded if server.from_document else self._own
        body = self._build_request(turn, server)
        timeout_s = self._settings.ai_timeout_s
        return await self._asking.ask(
            lambda: route.ask(server, body, business=turn.business_id, timeout_s=timeout_s), timeout_s=timeout_s
        )

    def _build_request(self, turn: Turn, server: ModelServer) -> bytes:
        choice = turn.choice
        return build_request(
            turn,
            model=server.model,
            instructions=(choice.instructions if choice else None) or self._settings.ai_instructions,
            temperature=choice.temperature if choice else None,
        )


@asynccontextmanager
async def open_chat_completions(
    settings: Settings,
    metrics: Metrics,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ChatCompletions]:
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
        yield ChatCompletions(settings, metrics, own=own, guarded=guarded, rng=rng)
