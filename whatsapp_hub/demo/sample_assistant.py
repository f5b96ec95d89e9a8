"""The playground's assistant as the hub sees it: an operator's own, which asks the demo what to say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import aiohttp

from whatsapp_hub.assistants.base import Reply, Turn
from whatsapp_hub.assistants.endpoint_wire import build_turn, read_replies

URL_VARIABLE: Final = "SAMPLE_ASSISTANT_URL"
NAME: Final = "sample"
TARGET: Final = f"{__name__}:SampleAssistant"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)


class SampleAssistant:
    """Asks where ``SAMPLE_ASSISTANT_URL`` leads."""

    async def __aenter__(self) -> Self:
        """Open a session."""
        self._url = os.environ[URL_VARIABLE]
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self._session.close()

    async def reply(self, turn: Turn) -> Sequence[Reply]:
        """Return what the demo says."""
        async with self._session.post(self._url, data=build_turn(turn, turn_id=turn.id)) as response:
            response.raise_for_status()
            return read_replies(await response.read())
