"""The turns, put together: the part of the application's wiring that is about one reply."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

import limits

from whatsapp_hub.assistants.registry import Assistants
from whatsapp_hub.cloud_api.client import GraphClient
from whatsapp_hub.cloud_api.media import MediaClient
from whatsapp_hub.conversation.attachments import Attachments
from whatsapp_hub.conversation.decision import Decision
from whatsapp_hub.conversation.delivery import Delivery
from whatsapp_hub.conversation.history import History
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.conversation.mending import Mending
from whatsapp_hub.conversation.pacing import Pacer
from whatsapp_hub.conversation.senses import Senses
from whatsapp_hub.conversation.slowdowns import Slowdowns
from whatsapp_hub.conversation.turn import Turns
from whatsapp_hub.conversation.turn_limits import TurnLimits
from whatsapp_hub.conversation.typing_indicator import TypingIndicator
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.clock import DatabaseClock
from whatsapp_hub.inbox.daily_turns import DailyTurns
from whatsapp_hub.inbox.nodes import Nodes
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What turns work with."""

    settings: Settings
    database: Database
    graph: GraphClient
    media: MediaClient
    assistants: Assistants
    nodes: Nodes
    health: Health
    metrics: Metrics
    outcomes: Outcomes
    history: History
    holds: Holds
    typing: TypingIndicator
    slowdowns: Slowdowns


def make_turns(of: Resources) -> Turns:
    """Make what runs turns."""
    rng = Random()  # noqa: S311 - jitter
    now = DatabaseClock(of.database).now
    attachments = Attachments(of.graph, of.holds)
    mending = Mending(outcomes=of.outcomes, history=of.history, database_now=now, forget_media=attachments.forget)
    return Turns(
        decision=_make_decision(of, attachments, rng),
        delivery=_make_delivery(of, mending, rng),
        outcomes=of.outcomes,
        history=of.history,
        holds=of.holds,
        metrics=of.metrics,
        reply_max_age_s=of.settings.reply_max_age_s,
        database_now=now,
    )


def _make_decision(of: Resources, attachments: Attachments, rng: Random) -> Decision:
    return Decision(
        outcomes=of.outcomes,
        history=of.history,
        holds=of.holds,
        choose_assistant=of.assistants.choose,
        show_typing=of.typing.show,
        metrics=of.metrics,
        rng=rng,
        retry_base_s=of.settings.timing.assistant_retry_base_s,
        limits=TurnLimits(DailyTurns(of.database)),
        senses=Senses(of.media, of.assistants.voice),
        attachments=attachments,
    )


def _make_delivery(of: Resources, mending: Mending, rng: Random) -> Delivery:
    return Delivery(
        outcomes=of.outcomes,
        holds=of.holds,
        sender=of.graph,
        may_send=of.nodes.may_send,
        health=of.health,
        metrics=of.metrics,
        rng=rng,
        timing=of.settings.timing,
        slowdowns=of.slowdowns,
        mending=mending,
    )


def make_slowdowns(settings: Settings, metrics: Metrics) -> Slowdowns:
    """Make what keeps Meta's limits, and show whom it slows."""
    rate, timing = limits.parse(settings.rate_limit_business), settings.timing
    slowdowns = Slowdowns(
        amount=rate.amount, per_s=rate.get_expiry(), pause_s=timing.retry_base_s, max_pause_s=timing.retry_max_s
    )
    metrics.show_slowed(lambda: slowdowns.slowed(time.monotonic()))
    return slowdowns


def make_pacer(rate: str) -> Pacer:
    """Make what keeps a rate like ``80/second``, for each key."""
    item = limits.parse(rate)
    return Pacer(amount=item.amount, per_s=item.get_expiry())
