"""Mark as read and show "typing" when a turn starts: a courtesy that nobody waits for."""

from __future__ import annotations

import asyncio

from whatsapp_hub.cloud_api.client import GraphClient
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.tenants.business import Business


class TypingIndicator:
    """Shows the customer that an answer is being written, if it is switched on."""

    def __init__(self, client: GraphClient, *, enabled: bool) -> None:
        """Use this client, which lets these calls give way to sends."""
        self._client = client
        self._enabled = enabled
        self._under_way: set[asyncio.Task[None]] = set()

    def show(self, row: InboxRow, business: Business) -> None:
        """Start the call and return at once."""
        if not self._enabled or business.access_token is None:
            return
        call = self._client.show_typing(
            phone_number_id=row.phone_number_id, token=business.access_token, message_id=row.message_id
        )
        task = asyncio.get_running_loop().create_task(call, name="typing")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Cancel what is under way."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
