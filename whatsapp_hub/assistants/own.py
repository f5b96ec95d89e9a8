"""Operators' own assistants: loaded by name at the start, called with what ``base`` promises."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from whatsapp_hub.assistants.base import OwnAssistant, Reply, Turn, read_answer
from whatsapp_hub.errors import AssistantFailed, SettingsInvalid


class Bounded:
    """An operator's assistant, its answers in one form and bounded in time."""

    def __init__(self, assistant: OwnAssistant, *, timeout_s: float) -> None:
        self._assistant = assistant
        self._timeout_s = timeout_s

    async def reply(self, turn: Turn) -> tuple[Reply, ...]:
        """Return the answer. Raises ``AssistantFailed`` if none comes in time, and whatever the code raises."""
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                answer = await self._assistant.reply(turn)
        except TimeoutError:
            if deadline.expired():
                raise AssistantFailed(f"no answer within {self._timeout_s:g} s (AI_TIMEOUT_S)") from None
            raise
        return read_answer(answer)


async def load_own(factories: Mapping[str, str], stack: AsyncExitStack, *, timeout_s: float) -> dict[str, Bounded]:
    """Import and make the assistants of ``ASSISTANTS``; what has to be closed is left to the stack.

    Raises:
        SettingsInvalid: with every fault at once.

    """
    loaded: dict[str, Bounded] = {}
    faults: list[str] = []
    for name, target in factories.items():
        try:
            assistant = await _make(target, stack)
        except Exception as exc:  # noqa: BLE001 - an operator's own code may raise anything
            faults.append(f"ASSISTANTS: {name}={target} cannot be loaded: {type(exc).__name__}: {exc}")
        else:
            loaded[name] = Bounded(assistant, timeout_s=timeout_s)
    if faults:
        raise SettingsInvalid(faults)
    return loaded


async def _make(target: str, stack: AsyncExitStack) -> OwnAssistant:
    module, _, attribute = target.partition(":")
    assistant = getattr(importlib.import_module(module), attribute)()
    if isinstance(assistant, AbstractAsyncContextManager):
        assistant = await stack.enter_async_context(assistant)
    if not callable(getattr(assistant, "reply", None)):
        raise TypeError(f"the factory returned {type(assistant).__name__}, which has no method reply")
    made: OwnAssistant = assistant
    return made
