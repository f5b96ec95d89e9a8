"""Mark as read and show "typing" when a turn starts: a courtesy that nobody waits for."""

from __future__ import annotations

import asyncio
import time

from whatsapp_hub.cloud_api.client import GraphClient
from whatsapp_hub.conversation.slowdowns import Sending, Slowdowns, sending_of
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.tenants.business import Business


class TypingIndicator:
    """Shows the customer that an answer is being written, if it is switched on."""

    def __init__(self, client: GraphClient, *, enabled: bool, slowdowns: Slowdowns) -> None:
        """Use this client, which lets these calls give way to sends; make none where Meta's limits leave little."""
        self._client = client
        self._enabled = enabled
        self._slowdowns = slowdowns
        self._under_way: set[asyncio.Task[None]] = set()

    def show(self, row: InboxRow, business: Business) -> None:
        """Start the call and return at once."""
        if not self._enabled or business.access_token is None:
            return
        sending = sending_of(row, business)
        if self._slowdowns.is_slowed(sending, time.monotonic()):
            return
        call = self._show(row, business.access_token, sending)
        task = asyncio.get_running_loop().create_task(call, name="typing")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _show(self, row: InboxRow, token: str, sending: Sending) -> None:
        result = await self._client.show_typing(
            phone_number_id=row.phone_number_id, token=token, message_id=row.message_id
        )
        if result is not None and result.scope is not None:
            self._slowdowns.slow(sending, result.scope, time.monotonic(), result.retry_after_s)

    async def close(self) -> None:
        """Cancel what is under way."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
