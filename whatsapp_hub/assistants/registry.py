"""Which assistant answers for a business: the one that its document chooses, else the environment's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp.abc import AbstractResolver

from whatsapp_hub.assistants.base import Assistant
from whatsapp_hub.assistants.chat_completions import ChatCompletions
from whatsapp_hub.assistants.echo import Echo, Silence
from whatsapp_hub.assistants.endpoint import Endpoint, open_endpoint
from whatsapp_hub.assistants.model_servers import open_model_servers
from whatsapp_hub.assistants.own import load_own
from whatsapp_hub.assistants.voice import Voice
from whatsapp_hub.errors import AssistantFailed, SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

_OPENAI: Final = "openai"
_HTTP: Final = "http"
_NONE: Final = "none"


class Assistants:
    """Every assistant that may be chosen, by name. Nothing that a document says is imported."""

    def __init__(
        self,
        default: str,
        *,
        chat: ChatCompletions,
        endpoint: Endpoint,
        own: Mapping[str, Assistant],
        voice: Voice,
    ) -> None:
        self._default = default
        self._chat = chat
        self._endpoint = endpoint
        self.voice = voice  #: what hears and speaks, whoever answers
        self._by_kind: dict[str, Assistant] = {
            "echo": Echo(),
            _OPENAI: chat,
            _HTTP: endpoint,
            _NONE: Silence(),
            **own,
        }

    def choose(self, choice: AssistantChoice | None) -> Assistant:
        """Return who answers. Raises ``AssistantFailed``, with ``find_fault``'s words, where nobody can."""
        fault = self.find_fault(choice)
        if fault:
            raise AssistantFailed(fault)
        return self._by_kind[self._kind(choice)]

    def find_fault(self, choice: AssistantChoice | None) -> str | None:
        """Return why nobody can answer, in words for the operator, or None. Costs no I/O."""
        kind = self._kind(choice)
        if kind == _OPENAI:
            return self._chat.find_fault(choice)
        if kind == _HTTP:
            return self._endpoint.find_fault(choice)
        if kind in self._by_kind:
            return None
        return f"its assistant's kind {kind[:40]!r} is not known; it may be {', '.join(sorted(self._by_kind))}"

    def says_nothing(self, choice: AssistantChoice | None) -> bool:
        """Tell whether it is wanted that nobody answers; a document that cannot be read wants nothing."""
        return (self._default if choice is None else choice.kind) == _NONE

    def _kind(self, choice: AssistantChoice | None) -> str:
        return (choice.kind if choice else None) or self._default


@asynccontextmanager
async def open_assistants(
    settings: Settings,
    metrics: Metrics,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Assistants]:
    """Load and open every assistant, and close them afterwards.

    Args:
        settings: the settings.
        metrics: where answers and tokens are counted.
        resolver: for names in documents' URLs, instead of the system's.
        tls: for documents' URLs, instead of the system's certificates.

    Raises:
        SettingsInvalid: the environment's choice, or the operator's own code, cannot be used.

    """
    if settings.assistant is None:
        raise SettingsInvalid(["ASSISTANT: missing; choose who writes the replies"])
    async with AsyncExitStack() as stack:
        own = await load_own(settings.assistants, stack, timeout_s=settings.ai_timeout_s)
        servers = await stack.enter_async_context(open_model_servers(settings, metrics, resolver=resolver, tls=tls))
        endpoint = await stack.enter_async_context(open_endpoint(settings, metrics, resolver=resolver, tls=tls))
        assistants = Assistants(
            settings.assistant,
            chat=ChatCompletions(settings, metrics, servers),
            endpoint=endpoint,
            own=own,
            voice=Voice(settings, metrics, servers),
        )
        # An endpoint is always a business's own: which business has none shows when it is served, and in ``doctor``.
        fault = assistants.find_fault(None)
        if fault and settings.assistant != _HTTP:
            raise SettingsInvalid([f"ASSISTANT: {fault}"])
        yield assistants
