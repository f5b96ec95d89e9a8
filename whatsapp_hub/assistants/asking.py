"""Asking a server until it answers, and what is said when it does not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from whatsapp_hub.assistants.base import Text, Turn
from whatsapp_hub.assistants.chat_route import TryAgainError
from whatsapp_hub.assistants.chat_wire import retry_delay_s
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.telemetry.metrics import Metrics

Found = TypeVar("Found")

FALLBACK_TEXT: Final = "Sorry, I cannot answer right now. Please write again in a little while."
MAX_ATTEMPTS: Final = 3
LAST_START: Final = 1.5  #: timeouts after the first attempt began, no other one begins

logger = logging.getLogger("assistants")


class Asking:
    """How often and when a server is asked again, and the words for a failure."""

    def __init__(self, metrics: Metrics, *, rng: Random, retry_base_s: float) -> None:
        """Wait about ``retry_base_s`` after the first failure, then twice that, and not less than the server says."""
        self._metrics = metrics
        self._rng = rng
        self._retry_base_s = retry_base_s

    async def ask(self, once: Callable[[], Awaitable[Found]], *, timeout_s: float) -> Found:
        """Ask until there is an answer, at most three times; after a full timeout only once more.

        Raises:
            AssistantFailed: there is none.

        """
        last_start = time.monotonic() + LAST_START * timeout_s
        attempt = 1
        while True:
            try:
                return await once()
            except TryAgainError as error:
                delay_s = retry_delay_s(attempt, asked_s=error.asked_s, base_s=self._retry_base_s, rng=self._rng)
                if attempt == MAX_ATTEMPTS or time.monotonic() + delay_s > last_start:
                    raise AssistantFailed(f"{error}, asked {attempt} times") from error
            self._metrics.count_assistant("retried")
            await asyncio.sleep(delay_s)
            attempt += 1

    def fall_back(self, turn: Turn, error: AssistantFailed) -> tuple[Text, ...]:
        """Return the polite sentence, and tell the operator why."""
        self._metrics.count_assistant("fallback")
        details = {"business": turn.sub_domain, "turn_id": turn.id, "reason": str(error)}
        logger.warning("assistant gave no answer, the fallback is sent", extra=details)
        own = turn.choice.fallback_text if turn.choice else None
        return (Text(body=own or FALLBACK_TEXT),)
