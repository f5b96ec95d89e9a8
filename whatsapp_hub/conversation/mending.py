"""Replies that cannot go out as they were decided: what is sent instead, made durable before it is sent.

Over 24 hours after the customer's last message Meta takes templates only (error 131047), and media that it cannot fetch
or use it refuses (131053). Both are certain answers: nothing of the part was sent. A part that is rewritten goes out
under a new attempt's number, and what statuses say of earlier attempts counts no more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from whatsapp_hub.cloud_api.errors import SendResult, describe
from whatsapp_hub.cloud_api.message_form import shortened
from whatsapp_hub.cloud_api.outgoing import TEXT_LIMIT, text_part
from whatsapp_hub.cloud_api.parts import build_template, without_media
from whatsapp_hub.conversation.history import History
from whatsapp_hub.conversation.steps import Dead, begin, parts_values, write_stage
from whatsapp_hub.inbox.document import InboxRow, Part, PartState, Stage
from whatsapp_hub.inbox.outcomes import MOST_GATHERED, Outcomes
from whatsapp_hub.tenants.business import Business

logger = logging.getLogger("conversation")

WINDOW_S: Final = 86_400.0  #: Meta's customer service window
TOO_LATE: Final = 131047
MEDIA_UNUSABLE: Final = 131053


def may_be_late(row: InboxRow) -> bool:
    """Tell whether a reply may come too late, by what costs nothing."""
    return time.time() - row.place > WINDOW_S


class Mending:
    """Rewrites parts of decided replies. Every method raises ``NotOurs`` and ``StoreUnavailable``."""

    def __init__(
        self,
        *,
        outcomes: Outcomes,
        history: History,
        database_now: Callable[[], Awaitable[float]],
        forget_media: Callable[[str], None],
    ) -> None:
        """Judge the time by the database's clock as well; ``forget_media`` is told of ids that Graph does not take."""
        self._outcomes = outcomes
        self._history = history
        self._database_now = database_now
        self._forget_media = forget_media

    async def before(self, row: InboxRow, index: int, business: Business) -> None:
        """Put the business's template in place of what comes too late, as far as the hub can know that by itself.

        Raises:
            Dead: it comes too late, and there is no template.

        """
        if not _is_template(row.parts[index]) and await self._is_late(row):
            await self._use_template(row, index, business)

    async def after(self, row: InboxRow, index: int, business: Business, result: SendResult) -> bool:
        """Mend a part that Graph has refused; False where it stays refused.

        True: what the part says now can be sent, unless it is dropped.

        Raises:
            Dead: it came too late, and there is no template.

        """
        part = row.parts[index]
        if media_id := _media_id(part):
            self._forget_media(media_id)
        if result.code == TOO_LATE and not _is_template(part):
            await self._use_template(row, index, business)
            return True
        return result.code == MEDIA_UNUSABLE and await self._leave_media_out(row, index)

    async def _use_template(self, row: InboxRow, index: int, business: Business) -> None:
        """Say with the template that the conversation goes on; nothing of the reply itself can be sent."""
        template = business.assistant.late_template if business.assistant else None
        if row.origin is not None:  # whoever sends from outside has to know what the customer got
            row.parts[index].state = PartState.WAITING
            raise Dead(describe(TOO_LATE))
        if template is None:
            row.parts[index].state = PartState.WAITING
            raise Dead(f"{describe(TOO_LATE)}; the business has no template for that (assistant.lateTemplate)")
        later = [
            n for n, part in enumerate(row.parts) if n > index and part.state is PartState.WAITING and not part.rank
        ]
        for n in later:
            row.parts[n].dropped = True
        logger.warning("reply too late: template sent instead", extra=_about(row, business))
        await self._rewrite(row, index, build_template(template), later)

    async def _leave_media_out(self, row: InboxRow, index: int) -> bool:
        part = row.parts[index]
        body = without_media(part.body) or (text_part(shortened(part.words, TEXT_LIMIT)) if part.words else None)
        logger.warning("media not sent", extra={"message_id": row.message_id, "reason": describe(MEDIA_UNUSABLE)})
        if body is not None:
            await self._rewrite(row, index, body)
            return True
        if all(other.dropped for n, other in enumerate(row.parts) if n != index):
            return False  # nothing else is said
        part.dropped, part.state = True, PartState.WAITING
        return True

    async def _rewrite(self, row: InboxRow, index: int, body: bytes, dropped: list[int] | None = None) -> None:
        """Store what a part says from now on, that it may have been sent from now on, and what is not sent any more."""
        part = row.parts[index]
        part.body, part.words, part.failures, part.void_attempts = body, "", 0, part.attempt
        begin(row, index)
        values: dict[str, Any] = {
            **parts_values(row, index, *(dropped or ())),
            f"parts.{index}.body": body,
            f"parts.{index}.words": "",
            f"parts.{index}.void_attempts": part.void_attempts,
        }
        # A status that says that an earlier attempt did arrive comes first.
        await write_stage(self._outcomes, row, values, stage=Stage.REPLYING, also={f"parts.{index}.rank": 0})

    async def _is_late(self, row: InboxRow) -> bool:
        """Whether nothing is known of the customer for 24 hours; where that is in doubt, Graph decides."""
        since = await self._database_now() - WINDOW_S
        if row.place > since:
            return False
        queued = await self._outcomes.queued(row.conversation)
        members = await self._outcomes.rows(row.members) if row.members else {}
        if len(queued) > MOST_GATHERED or any(other.place > since for other in (*queued, *members.values())):
            return False
        answered = await self._history.answered_at(row.conversation)
        return answered is None or answered < datetime.fromtimestamp(since, UTC)


def _is_template(part: Part) -> bool:
    return bool(orjson.loads(part.body)["type"] == "template")


def _media_id(part: Part) -> str | None:
    message = orjson.loads(part.body)
    media = message[message["type"]]
    found = media.get("id") if isinstance(media, dict) else None
    return found if isinstance(found, str) else None


def _about(row: InboxRow, business: Business) -> dict[str, str]:
    return {"message_id": row.message_id, "business": business.sub_domain}
