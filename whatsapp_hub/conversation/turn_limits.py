"""How many turns a business has a day, as its document says (``assistant.maxTurnsPerDay``).

What is beyond becomes a dead letter. Where the document has a ``limitText``, each customer's first message of the day
that is beyond is answered with it instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from whatsapp_hub.cloud_api.replies import Reply, Text
from whatsapp_hub.conversation.steps import Dead
from whatsapp_hub.inbox.daily_turns import DailyTurns
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.tenants.business import AssistantChoice, Business


class TurnLimits:
    """Knows which business has had its turns of today."""

    def __init__(self, counts: DailyTurns) -> None:
        """Use these counters."""
        self._counts = counts
        self._used_up: dict[str, tuple[str, int]] = {}  # by business: the day, and the limit that was reached

    async def check(self, row: InboxRow, business: Business) -> Sequence[Reply] | None:
        """Return None if a turn may be had, else what is said instead of asking the assistant.

        Raises:
            Dead: nothing is said any more today.
            StoreUnavailable: nobody knows.

        """
        choice = business.assistant
        if choice is None or choice.max_turns_per_day is None or not await self._is_used_up(row, business, choice):
            return None
        now = datetime.now(UTC)
        if choice.limit_text and await self._counts.claim_notice(business.id, row, now):
            return (Text(body=choice.limit_text),)
        raise Dead(f"over the limit of {choice.max_turns_per_day} turns a day (assistant.maxTurnsPerDay)")

    async def _is_used_up(self, row: InboxRow, business: Business, choice: AssistantChoice) -> bool:
        most = choice.max_turns_per_day or 0
        now = datetime.now(UTC)
        today = now.date().isoformat()
        if self._used_up.get(business.id) == (today, most):
            return True
        if row.attempts > 1:
            return False  # was counted with its first attempt
        if await self._counts.count(business.id, row, now) <= most:
            return False
        self._used_up = {name: used for name, used in self._used_up.items() if used[0] == today}
        self._used_up[business.id] = (today, most)
        return True
