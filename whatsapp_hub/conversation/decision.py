"""Deciding what to say: what a turn answers, and the assistant's reply made durable (the commit point)."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from whatsapp_hub.assistants.base import Assistant, CustomerMessage, PastTurn, Turn
from whatsapp_hub.assistants.echo import Silence
from whatsapp_hub.cloud_api.inbound import is_known
from whatsapp_hub.cloud_api.names import SYSTEM_KIND, changed_names, other_names
from whatsapp_hub.cloud_api.parts import build_parts
from whatsapp_hub.cloud_api.reading import is_unsupported, read_text, wants_reply
from whatsapp_hub.cloud_api.replies import Audio, Reply, Text
from whatsapp_hub.conversation.attachments import Attachments, UploadFailed, has_data
from whatsapp_hub.conversation.corrections import corrected
from whatsapp_hub.conversation.history import Entry, History
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.conversation.remembered import Remembered
from whatsapp_hub.conversation.senses import Senses, carry_files
from whatsapp_hub.conversation.steps import CannotGoOn, Dead, Later, StepBack, begin, write_stage
from whatsapp_hub.conversation.turn_limits import TurnLimits
from whatsapp_hub.errors import AssistantFailed, ReplyInvalid
from whatsapp_hub.inbox.document import SUSPECT_FROM_CRASHES, InboxRow, Part, Stage
from whatsapp_hub.inbox.outcomes import MOST_GATHERED, Outcomes
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import DEFAULT_PAUSE_MINUTES, AssistantChoice, Business

logger = logging.getLogger("conversation")

MAX_ATTEMPTS: Final = 5
MOST_CHARACTERS: Final = 16_000  # of a customer's words in one turn
GATHERS_UNTIL: Final = 2  # a message with two attempts behind it gathers nothing, so that poison dies alone
SUSPECTS_AT_ONCE: Final = 16


class Decision:
    """Finds out what a message is answered with."""

    def __init__(
        self,
        *,
        outcomes: Outcomes,
        history: History,
        holds: Holds,
        choose_assistant: Callable[[AssistantChoice | None], Assistant],
        show_typing: Callable[[InboxRow, Business], None],
        metrics: Metrics,
        rng: Random,
        retry_base_s: float,
        limits: TurnLimits,
        senses: Senses | None = None,
        attachments: Attachments | None = None,
    ) -> None:
        """Take what deciding needs. A failed assistant is asked again after ``retry_base_s``, then twice that, ..."""
        self._senses = senses
        self._outcomes = outcomes
        self._history = history
        self._holds = holds
        self._choose_assistant = choose_assistant
        self._show_typing = show_typing
        self._metrics = metrics
        self._rng = rng
        self._retry_base_s = retry_base_s
        self._limits = limits
        self._attachments = attachments
        self._with_little_company = asyncio.Semaphore(SUSPECTS_AT_ONCE)
        self._alone = asyncio.Semaphore(1)

    async def decide(self, row: InboxRow) -> Business:
        """Give the row its members and its parts, durably; both stay empty where nothing has to be said.

        Returns the business that it is said for.

        Raises:
            CannotGoOn: not now, or never.
            NotOurs, StoreUnavailable: let go of the row.

        """
        if row.attempts > MAX_ATTEMPTS:
            raise Dead(f"failed {MAX_ATTEMPTS} times: the process died or gave up while it worked on this message")
        business = await self._holds.find_business(row.phone_number_id, to_decide=True)
        if not business.enabled:
            return business
        names = other_names(row.item, row.customer)
        reads = self._outcomes.queued(row.conversation), self._history.read(row.conversation, names)
        queued, remembered = await asyncio.gather(*reads)
        taken = await self._gather(row, queued)
        messages = corrected(tuple(map(customer_message, taken)))
        row.is_joined = remembered.is_joined
        await self._join_names(row, messages)
        replies: Sequence[Reply] = ()
        if any(wants_reply(message.kind) for message in messages):
            replies, messages = await self._reply(row, business, messages, remembered)
        for message in messages:
            if not is_known(message.kind):
                self._metrics.count_unknown("message")
        row.said = joined(messages)
        row.members = [other.id for other in taken if other is not row]
        if any(map(has_data, replies)):
            replies = await self._upload(row, business, replies)
        row.parts = self._build(row, replies)
        if row.parts or row.members:
            await self._commit(row)
        return business

    async def _reply(
        self, row: InboxRow, business: Business, messages: tuple[CustomerMessage, ...], remembered: Remembered
    ) -> tuple[Sequence[Reply], tuple[CustomerMessage, ...]]:
        """Return what is said, and the messages as whoever says it was shown them."""
        if remembered.is_silenced(datetime.now(UTC), pause_of(business)):
            row.said = joined(messages)
            await self._keep_silent(row, business)
            return (), messages
        async with self._quarantine(row):
            if _has_limit(business) and (instead := await self._limits.check(row, business)):
                return instead, messages
            return await self._ask(row, business, messages, remembered.turns)

    async def _join_names(self, row: InboxRow, messages: Iterable[CustomerMessage]) -> None:
        """Note, before the messages are done, what WhatsApp's own notices say of the customer's names."""
        notices = [changed_names(message.raw) for message in messages if message.kind == SYSTEM_KIND]
        if changes := [change for change in notices if change is not None]:
            await self._history.join(row.phone_number_id, changes)

    async def _keep_silent(self, row: InboxRow, business: Business) -> None:
        """Remember what the customer said to a human, for when the assistant speaks again; before the turn is over."""
        logger.info("assistant silenced", extra={"message_id": row.message_id, "business": business.sub_domain})
        await self._history.append(entry_of(row, business, reply=""))

    async def _gather(self, row: InboxRow, queued: Sequence[InboxRow]) -> list[InboxRow]:
        """Choose what this turn answers: its own message and what waits, in order, as much as fits."""
        earlier = await self._outcomes.rows(row.members) if row.members else {}  # of a dead letter that is retried
        if row.attempts > GATHERS_UNTIL:
            if any(other.order < row.order for other in queued):
                raise StepBack
            queued = ()
        taken: list[InboxRow] = []
        characters = 0
        for candidate in sorted([row, *earlier.values(), *queued], key=lambda one: one.order):
            characters += len(candidate.item)
            full = taken and (len(taken) == MOST_GATHERED or characters > MOST_CHARACTERS)
            if full or (candidate in queued and _goes_alone(candidate)):
                break
            taken.append(candidate)
        if row not in taken:
            raise StepBack
        return taken

    def _quarantine(self, row: InboxRow) -> AbstractAsyncContextManager[object]:
        """Keep messages apart that were there when processes died, so that in the end the culprit dies alone."""
        if not row.is_suspect:
            return nullcontext()
        return self._with_little_company if row.crashes == SUSPECT_FROM_CRASHES else self._alone

    async def _ask(
        self, row: InboxRow, business: Business, messages: tuple[CustomerMessage, ...], history: tuple[PastTurn, ...]
    ) -> tuple[Sequence[Reply], tuple[CustomerMessage, ...]]:
        """Ask the assistant; return its answer, and the messages as it was shown them."""
        if row.stage is not Stage.NEW:
            await write_stage(self._outcomes, row, {}, stage=Stage.NEW)  # the attempt begins: if we die now, it counts
        turn = Turn(
            id=row.id,
            business_id=business.id,
            business_name=business.name,
            sub_domain=business.sub_domain,
            phone_number_id=row.phone_number_id,
            customer=row.customer,
            customer_name=row.profile_name,
            messages=messages,
            history=history,
            choice=business.assistant,
        )
        began = time.perf_counter()
        try:
            assistant = self._choose_assistant(business.assistant)
            if isinstance(assistant, Silence):  # in a shadow run nothing shows, and nothing is asked for
                return await assistant.reply(turn), messages
            self._show_typing(row, business)
            if (said := _to_unsupported(messages, business.assistant)) is not None:
                return said, messages
            row.times["asked"] = time.time_ns()
            if self._senses is None or not carry_files(messages):
                answer: tuple[Sequence[Reply], tuple[CustomerMessage, ...]] = await assistant.reply(turn), messages
            else:
                answer = await self._ask_with(self._senses, assistant, turn, business, row)
            row.times["answered"] = time.time_ns()
            return answer
        except AssistantFailed as error:
            raise self.failed(row, f"the assistant: {error}") from error
        except Exception as error:  # an operator's own assistant may raise anything; the turn is tried again
            logger.exception("assistant raised", extra={"message_id": row.message_id, "business": business.sub_domain})
            raise self.failed(row, f"the assistant: {type(error).__name__}") from error
        finally:
            self._metrics.observe_turn("assistant", time.perf_counter() - began)

    async def _ask_with(
        self, senses: Senses, assistant: Assistant, turn: Turn, business: Business, row: InboxRow
    ) -> tuple[Sequence[Reply], tuple[CustomerMessage, ...]]:
        """Ask with what came along; what was heard is kept in words, which no item holds."""
        async with senses.perceive(turn.messages, turn.phone_number_id, business) as messages:
            replies = await assistant.reply(dataclasses.replace(turn, messages=messages))
        said = await senses.speak(replies, messages, business)
        row.heard = any(message.heard for message in messages)
        return said, messages

    async def _upload(self, row: InboxRow, business: Business, replies: Sequence[Reply]) -> Sequence[Reply]:
        """Give ids to the media of a reply. What is uploaded twice, because we die before the commit, harms nothing."""
        if self._attachments is None:
            return replies
        try:
            return await self._attachments.upload(row, business, replies)
        except UploadFailed as error:
            why = self.failed(row, f"the upload of media: {error}")
            if isinstance(why, Later) and error.retry_after_s:
                why.delay_s += error.retry_after_s
            raise why from error

    def _build(self, row: InboxRow, replies: Sequence[Reply]) -> list[Part]:
        try:
            return [
                Part(body=body, attempt=row.sends, void_attempts=row.sends, words=_unwritten_words(reply))
                for reply in replies
                for body in build_parts(reply)
            ]
        except ReplyInvalid as error:
            raise self.failed(row, f"the assistant's reply: {error}") from error

    def failed(self, row: InboxRow, why: str) -> CannotGoOn:
        """Count a failed attempt; return what follows from it."""
        if row.attempts >= MAX_ATTEMPTS:
            return Dead(f"failed {MAX_ATTEMPTS} times: {why}")
        delay_s = self._rng.uniform(0.5, 1.0) * self._retry_base_s * 2**row.attempts
        row.attempts += 1
        return Later(Stage.BACKOFF, delay_s)

    async def _commit(self, row: InboxRow) -> None:
        """Store what will be said and what it answers, before anything is sent."""
        if row.parts:
            begin(row, 0)
        values: dict[str, object] = {
            "members": row.members,
            "parts": [part.to_document() for part in row.parts],
            "times": row.times,
            **row.words(),
        }
        await write_stage(self._outcomes, row, values, stage=Stage.REPLYING)
        await self._outcomes.finish_members(row)


def _has_limit(business: Business) -> bool:
    return business.assistant is not None and business.assistant.max_turns_per_day is not None


def _to_unsupported(messages: Sequence[CustomerMessage], choice: AssistantChoice | None) -> Sequence[Reply] | None:
    """Return the business's own words for messages that say nothing; None where the assistant is to answer."""
    if choice is None or choice.unsupported_text is None:
        return None
    if not all(is_unsupported(message.content) for message in messages if wants_reply(message.kind)):
        return None
    return [Text(body=choice.unsupported_text)] if choice.unsupported_text.strip() else []


def _goes_alone(queued: InboxRow) -> bool:
    """Whether a message that waits must not be taken into another's turn: poison, or a dead letter with company."""
    return queued.attempts >= GATHERS_UNTIL or bool(queued.members or queued.parts)


def _unwritten_words(reply: Reply) -> str:
    return reply.words if isinstance(reply, Audio) else ""


def customer_message(row: InboxRow) -> CustomerMessage:
    """Read what an assistant is shown of a message."""
    kind, text = read_text(row.item)
    return CustomerMessage(id=row.message_id, kind=kind, text=text, timestamp=row.place, raw=row.item)


def entry_of(row: InboxRow, business: Business, *, reply: str) -> Entry:
    """Return what is remembered of a turn."""
    return Entry(
        conversation=row.conversation,
        turn_id=row.id,
        business_id=business.id,
        customer=row.said,
        reply=reply,
        timestamp=row.place,
        arrival=row.arrival,
        names=() if row.is_joined else other_names(row.item, row.customer),
    )


def pause_of(business: Business) -> timedelta:
    """Return how long the assistant is silent after somebody else has answered."""
    minutes = business.assistant.pause_minutes if business.assistant else None
    return timedelta(minutes=DEFAULT_PAUSE_MINUTES if minutes is None else minutes)


def joined(messages: Iterable[CustomerMessage]) -> str:
    """Return the words of several messages as one text."""
    return "\n".join(message.text for message in messages)
