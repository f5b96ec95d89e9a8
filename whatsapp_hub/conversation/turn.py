"""One reply, from a message that holds its conversation's lock to its outcome: the only state machine of the hub.

A turn works on one row and may be resumed by any process at any step: what it has decided stands in the document. Each
step is durable before the next one shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from whatsapp_hub.cloud_api.messages import FAILED_RANK
from whatsapp_hub.cloud_api.part_words import words_of
from whatsapp_hub.conversation.corrections import corrected
from whatsapp_hub.conversation.decision import Decision, customer_message, entry_of, joined
from whatsapp_hub.conversation.delivery import Delivery
from whatsapp_hub.conversation.history import Entry, History
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.conversation.steps import (
    CannotGoOn,
    Dead,
    End,
    Held,
    Later,
    Progress,
    StepBack,
    Wait,
    is_decided,
    parts_values,
    times_values,
    write_stage,
)
from whatsapp_hub.errors import NotOurs, StoreUnavailable
from whatsapp_hub.inbox.document import InboxRow, Outcome, Stage, State
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business

logger = logging.getLogger("conversation")

TOO_OLD: Final = "too old: the customer wrote it longer ago than REPLY_MAX_AGE_S"
TOO_LATE: Final = "too old: it could not be sent within REPLY_MAX_AGE_S"


class Turns:
    """Runs turns. Nothing is kept between two calls of ``advance`` but what stands in the row."""

    def __init__(
        self,
        *,
        decision: Decision,
        delivery: Delivery,
        outcomes: Outcomes,
        history: History,
        holds: Holds,
        metrics: Metrics,
        reply_max_age_s: float,
        database_now: Callable[[], Awaitable[float]],
    ) -> None:
        """Answer messages that are, by Meta's timestamp, at most ``reply_max_age_s`` old.

        ``database_now`` tells the unix time by the database's clock.
        """
        self._decision = decision
        self._delivery = delivery
        self._outcomes = outcomes
        self._history = history
        self._holds = holds
        self._metrics = metrics
        self._reply_max_age_s = reply_max_age_s
        self._database_now = database_now

    async def advance(self, row: InboxRow) -> Progress:
        """Carry a turn on as far as it goes now. Any doubt lets go of the row."""
        try:
            try:
                await self._go_on(row)
            except CannotGoOn as why:
                return await self._give_way(row, why)
            except (StoreUnavailable, NotOurs):
                raise
            except Exception as error:  # the boundary of a turn: whatever a message sets off is counted against it
                logger.exception("turn failed", extra={"message_id": row.message_id})
                return await self._give_way(row, self._decision.failed(row, type(error).__name__))
        except (StoreUnavailable, NotOurs):
            return End.LET_GO
        return End.FINISHED

    async def _go_on(self, row: InboxRow) -> None:
        if is_decided(row):
            await self._outcomes.finish_members(row)  # who decided it may have died before that
        if row.stage is not Stage.AMBIGUOUS and await self._is_too_old(row):
            raise Dead(TOO_OLD if row.origin is None else TOO_LATE)
        business = None
        if row.origin is not None or not is_decided(row):
            row.begin_turn(time.time_ns())
        if not is_decided(row):
            business = await self._decision.decide(row)
        if not row.parts:
            await self._finish(row, None)
            return
        if business is None or self._holds.holds(row.phone_number_id):
            business = await self._holds.find_business(row.phone_number_id)
        if row.origin is not None and row.origin.business_id != business.id:
            raise Dead("the phone number is another business's by now")
        if not business.enabled:
            raise Dead("the business was switched off before its reply was sent")
        await self._read_what_was_said(row)
        await self._delivery.deliver(row, business)
        while not await self._finish(row, _to_remember(row, business)):
            await self._delivery.deliver(row, business)  # which sees to the part that failed

    async def _is_too_old(self, row: InboxRow) -> bool:
        """Judge by two clocks: one that has jumped must not bury what a customer has just written."""
        if time.time() - row.place <= self._reply_max_age_s:
            return False
        return await self._database_now() - row.place > self._reply_max_age_s

    async def _give_way(self, row: InboxRow, why: CannotGoOn) -> Progress:
        match why:
            case Held(reason=reason):
                if row.stage is not Stage.HELD:
                    values = {**parts_values(row), "reason": reason}
                    await write_stage(self._outcomes, row, values, stage=Stage.HELD)
                # The hold may have ended while that was written, and nobody would wake the row.
                return Wait(None if self._holds.holds(row.phone_number_id) else 0.0)
            case Later(stage=stage, delay_s=delay_s, durable=durable):
                if durable:
                    values = {**parts_values(row), **times_values(row), "attempts": row.attempts}
                    await write_stage(self._outcomes, row, values, stage=stage)
                return Wait(delay_s)
            case StepBack():
                # Its next promotion counts an attempt, and this one was none.
                values = {"state": State.QUEUED.value, "attempts": row.attempts - 1}
                await write_stage(self._outcomes, row, values, stage=Stage.NEW)
                return End.STEPPED_BACK
            case Dead(reason=reason):
                await self._bury(row, reason)
        return End.FINISHED

    async def _finish(self, row: InboxRow, remember: Entry | None) -> bool:
        """Release the lock: answered, or nothing to answer. False where a part has failed meanwhile."""
        remembered = self._history.append(remember) if remember else None
        values = {
            "state": State.DONE.value,
            "outcome": (Outcome.REPLIED if row.parts else Outcome.NO_REPLY).value,
            "done_at": datetime.now(UTC),
            **parts_values(row, len(row.parts) - 1),
            **times_values(row),
        }
        not_failed = {"parts.rank": {"$ne": FAILED_RANK}}
        if not await self._outcomes.write(row, values, unset=["owner"], also=not_failed):
            await self._read_failures(row)
            return False
        if remembered is None:
            return True
        self._metrics.observe_turn("total", max(0.0, time.time() - row.arrival / 1e9))
        try:
            await remembered
        except StoreUnavailable:  # no part of the promise: the customer has the answer
            logger.warning("turn not remembered", extra={"message_id": row.message_id})
        return True

    async def _read_what_was_said(self, row: InboxRow) -> None:
        if not row.said and row.origin is None:  # decided by another process
            others = await self._outcomes.rows(row.members) if row.members else {}
            rows = sorted([row, *others.values()], key=lambda one: one.order)
            row.said = joined(corrected(tuple(map(customer_message, rows))))

    async def _read_failures(self, row: InboxRow) -> None:
        """The release did not match: Meta's ``failed`` status was faster, or the row is not ours any more."""
        stored = (await self._outcomes.rows([row.id])).get(row.id)
        if stored is None or not any(part.rank == FAILED_RANK for part in stored.parts):
            raise NotOurs
        for part, told in zip(row.parts, stored.parts, strict=True):
            part.rank, part.wamid, part.error = told.rank, told.wamid or part.wamid, told.error

    async def _bury(self, row: InboxRow, reason: str) -> None:
        logger.error("dead letter", extra={"message_id": row.message_id, "reason": reason})
        values = {
            "state": State.DEAD.value,
            "reason": reason,
            "dead_at": datetime.now(UTC),
            "attempts": row.attempts,
            **parts_values(row),
            **times_values(row),
        }
        if not await self._outcomes.write(row, values, unset=["owner"]):
            raise NotOurs
        if row.parts:
            self._metrics.count_reply("failed", self._holds.sub_domain(row.phone_number_id))


def _to_remember(row: InboxRow, business: Business) -> Entry:
    """Return the turn as it went: what was sent, which need not be what had been decided."""
    said = (part.words or words_of(part.body) for part in row.parts if not part.dropped)
    return entry_of(row, business, reply="\n".join(said))
