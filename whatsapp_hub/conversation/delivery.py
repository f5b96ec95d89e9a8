"""Sending a reply that is decided: its parts one after the other, each settled durably before the next.

Graph has no idempotency key. A send whose outcome is unknown waits for the status that would tell, and only when none
has come for long enough is it sent again, under a new attempt number, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final, Protocol

from whatsapp_hub.cloud_api.error_codes import LOOK_AGAIN_S
from whatsapp_hub.cloud_api.errors import (
    MAX_RETRY_AFTER_S,
    Scope,
    SendResult,
    Verdict,
    read_failure,
    retry_delay_s,
)
from whatsapp_hub.cloud_api.messages import FAILED_RANK
from whatsapp_hub.cloud_api.outgoing import build_send, callback_data
from whatsapp_hub.conversation.decision import MAX_ATTEMPTS
from whatsapp_hub.conversation.holds import HoldKind, Holds
from whatsapp_hub.conversation.mending import Mending, may_be_late
from whatsapp_hub.conversation.slowdowns import Slot, Slowdowns, sending_of
from whatsapp_hub.conversation.steps import CannotGoOn, Dead, Held, Later, begin, parts_values, write_stage
from whatsapp_hub.errors import NotOurs
from whatsapp_hub.inbox.document import HEEDED, InboxRow, Part, PartState, Stage, State
from whatsapp_hub.inbox.late_failures import failure_reason, may_be_sent_again, take_back
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business

logger = logging.getLogger("conversation")

LONGEST_SLEEP_S: Final = 2.0  # a turn that waits longer for its moment gives its place to another


class Sender(Protocol):
    """Who sends to Graph."""

    async def send(self, *, phone_number_id: str, token: str, body: bytes, may_send: Callable[[], bool]) -> SendResult:
        """Send one message; never raises. ``may_send`` is asked as late as can be."""
        ...


class Delivery:
    """Sends the parts of decided replies."""

    def __init__(
        self,
        *,
        outcomes: Outcomes,
        holds: Holds,
        sender: Sender,
        may_send: Callable[[], bool],
        health: Health,
        metrics: Metrics,
        rng: Random,
        timing: Timing,
        slowdowns: Slowdowns,
        mending: Mending | None = None,
    ) -> None:
        """Take what sending needs; ``health`` knows when no status could be received."""
        self._outcomes = outcomes
        self._holds = holds
        self._sender = sender
        self._may_send = may_send
        self._health = health
        self._metrics = metrics
        self._rng = rng
        self._timing = timing
        self._slowdowns = slowdowns
        self._mending = mending

    async def deliver(self, row: InboxRow, business: Business) -> None:
        """Send what has not been sent. The last part is left for the caller to settle, together with the outcome.

        Raises:
            CannotGoOn: not now, or never.
            NotOurs, StoreUnavailable: let go of the row.

        """
        began = time.perf_counter()
        for index, part in enumerate(row.parts):
            if part.rank == FAILED_RANK:
                await self._take_back(row, index)
            if _is_settled(part):
                continue
            if await self._make_ready(row, index, business):
                await self._send(row, index, part, business)
            if index + 1 < len(row.parts):
                # One write: this part is settled, and the next may have been sent from now on, unless it is there.
                following = [index + 1] if not _is_settled(row.parts[index + 1]) else []
                for other in following:
                    begin(row, other)
                await write_stage(self._outcomes, row, parts_values(row, index, *following), stage=Stage.REPLYING)
        self._metrics.observe_turn("send", time.perf_counter() - began)

    async def _make_ready(self, row: InboxRow, index: int, business: Business) -> bool:
        """Return when a part may be sent, and is known as such; False if a status says that it is there."""
        part = row.parts[index]
        if part.state is PartState.SENDING and row.cleared != index and not await self._clear(row, index):
            return False
        if part.heed not in {None, HEEDED}:
            self._heed(row, part, business)
        await self._keep_pace(row, part, business)
        if part.state is PartState.WAITING:
            await self._begin(row, index)
        return True

    async def _keep_pace(self, row: InboxRow, part: Part, business: Business) -> None:
        """Wait for the moment of the next send: here if it is near, else in the database."""
        sending = sending_of(row, business)
        while True:
            slot = None if row.slot is None else Slot(*row.slot)
            row.slot = None
            now = time.monotonic()
            if slot is None or not self._slowdowns.is_good(sending, slot):
                slot = self._slowdowns.reserve(sending, now)
            if slot is None or slot.moment <= now:
                return
            row.slot = slot
            if slot.moment - now > LONGEST_SLEEP_S:
                part.state, row.cleared = PartState.WAITING, None
                raise Later(Stage.BACKOFF, slot.moment - now)
            await asyncio.sleep(slot.moment - now)

    async def _send(self, row: InboxRow, index: int, part: Part, business: Business) -> None:
        mending = self._mending
        if mending and may_be_late(row):
            await mending.before(row, index, business)
        result = await self._post(row, index, part, business)
        if mending and result.verdict is Verdict.DEAD and await mending.after(row, index, business, result):
            if part.dropped:
                return
            result = await self._post(row, index, part, business)
        if result.verdict is not Verdict.SENT:
            raise self._not_sent(row, part, result, business)
        part.state, part.wamid = PartState.SENT, result.wamid or part.wamid
        part.posted = (*part.posted, time.time_ns())
        self._metrics.count_reply("sent", business.sub_domain)

    async def _post(self, row: InboxRow, index: int, part: Part, business: Business) -> SendResult:
        row.cleared = None
        part.posted = (time.time_ns(),)
        result = await self._sender.send(
            phone_number_id=row.phone_number_id,
            token=business.access_token or "",
            body=build_send(
                part.body,
                customer=row.customer,
                callback_data=callback_data(row.customer, row.message_id, index, part.attempt),
            ),
            may_send=self._may_send,
        )
        if result.verdict is not Verdict.SENT:
            logger.warning(
                "reply not sent",
                extra={
                    "message_id": row.message_id,
                    "business": business.sub_domain,
                    "verdict": result.verdict.value,
                    "reason": result.reason,
                },
            )
        return result

    def _not_sent(self, row: InboxRow, part: Part, result: SendResult, business: Business) -> CannotGoOn | NotOurs:
        """Say what follows from a send that failed."""
        if result.verdict is Verdict.UNKNOWN:
            return self._ambiguous(row, business)
        part.state = PartState.WAITING
        if result.verdict is Verdict.DEAD:
            return Dead(result.reason)
        if result.verdict is Verdict.HOLD:
            number = row.phone_number_id
            self._holds.hold(number, HoldKind.REFUSED, result.reason, business, again_after_s=result.retry_after_s)
            return Held(result.reason)
        if not self._may_send():
            return NotOurs()
        part.failures += 1
        if result.few_tries and part.failures >= MAX_ATTEMPTS:
            return Dead(f"failed {MAX_ATTEMPTS} times: {result.reason}")
        return Later(Stage.BACKOFF, self._delay_s(row, part, result, business))

    def _delay_s(self, row: InboxRow, part: Part, result: SendResult, business: Business) -> float:
        """Return how long a send that was refused for now waits; a limit slows whom it concerns, too."""
        timing = self._timing
        if result.scope is None or result.scope is Scope.PAIR:
            base_s, max_s = timing.retry_base_s, timing.retry_max_s
            return retry_delay_s(result, part.failures, self._rng, base_s=base_s, max_s=max_s)
        sending, now = sending_of(row, business), time.monotonic()
        paused = self._slowdowns.slow(sending, result.scope, now, result.retry_after_s)
        if paused is not None:
            logger.warning("slowed down", extra={"slowed": paused, "reason": result.reason})
        slot = self._slowdowns.reserve(sending, now)
        row.slot = slot
        return 0.0 if slot is None else slot.moment - now

    def _heed(self, row: InboxRow, part: Part, business: Business) -> None:
        """Do what a ``failed`` status asks for before its part is sent again: as if a send had just failed with it.

        Raises:
            CannotGoOn, NotOurs: as after a send. Not where the message has waited for the end of a hold already: one
                after the other would hold its business again.

        """
        assert part.heed is not None  # noqa: S101 - asked by the caller
        result = read_failure(part.heed)
        part.heed = HEEDED
        if result.verdict is Verdict.HOLD:
            if row.stage is Stage.HELD:
                return
            # Also where only another token would help: this one may be that, or the process a new one.
            part.failures += 1
            wait_s = (result.retry_after_s or LOOK_AGAIN_S) * 2.0 ** min(part.failures - 1, 10)
            result = replace(result, retry_after_s=min(wait_s, MAX_RETRY_AFTER_S))
        raise self._not_sent(row, part, result, business)

    async def _take_back(self, row: InboxRow, index: int) -> None:
        """See to a part that Meta reported as failed: it is sent again, or the message dies of it."""
        part = row.parts[index]
        if not may_be_sent_again(part):
            raise Dead(failure_reason(part.error))
        as_seen = {f"parts.{index}.rank": FAILED_RANK, f"parts.{index}.attempt": part.attempt}
        await write_stage(self._outcomes, row, take_back(part, index), stage=Stage.REPLYING, also=as_seen)

    def _ambiguous(self, row: InboxRow, business: Business) -> Later:
        self._metrics.count_reply("ambiguous", business.sub_domain)
        row.waiting_since = time.monotonic()
        return Later(Stage.AMBIGUOUS, self._timing.status_wait_s)

    async def _clear(self, row: InboxRow, index: int) -> bool:
        """Clear up a part that may have been sent: False if a status says that it was, True if it may be sent again."""
        part = row.parts[index]
        told = (await self._read_again(row)).parts[index]
        part.rank, part.wamid, part.error = told.rank, told.wamid, told.error
        if part.rank == FAILED_RANK:
            await self._take_back(row, index)
            return True
        if part.rank > 0:
            part.state = PartState.SENT
            return False
        if row.stage is not Stage.AMBIGUOUS or not row.waiting_since:
            raise self._ambiguous(row, await self._holds.find_business(row.phone_number_id))
        since = max(row.waiting_since, self._health.outage_ended_at)  # an outage starts the wait anew
        if (left_s := since + self._timing.status_wait_s - time.monotonic()) > 0:
            raise Later(Stage.AMBIGUOUS, left_s, durable=False)
        await self._begin(row, index)
        return True

    async def _begin(self, row: InboxRow, index: int) -> None:
        """Mark a part for its next send, provided that there is still no status of an earlier one."""
        begin(row, index)
        still_none = {f"parts.{index}.rank": 0}
        await write_stage(self._outcomes, row, parts_values(row, index), stage=Stage.REPLYING, also=still_none)

    async def _read_again(self, row: InboxRow) -> InboxRow:
        stored = (await self._outcomes.rows([row.id])).get(row.id)
        if stored is None or (stored.owner, stored.epoch, stored.state) != (row.owner, row.epoch, State.ACTIVE):
            raise NotOurs
        return stored


def _is_settled(part: Part) -> bool:
    """Whether nothing is left to send of a part, as far as is known."""
    return part.state is PartState.SENT or part.rank > 0 or part.dropped
