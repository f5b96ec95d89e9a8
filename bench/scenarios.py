"""What is measured: the plans, whom they are offered to, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from bench.plan import Plan
from bench.stage import Subject, bare, hub

LONG_S: Final = 3600
QUICK_FACTOR: Final = 4  #: so much shorter is what is only to see that it works


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a user would pick instead, and what it is offered: less than the hub, where it takes less."""

    subject: Subject
    plan: Plan

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.subject.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The hub, its floor and what both are offered."""

    name: str
    title: str
    unit: str
    plan: Plan
    hub: Subject
    floor: Subject | None
    max_ratio: float | None = None  #: the budget: this many times the floor's CPU
    peers: tuple[Peer, ...] = ()

    def offered_to(self, who: str) -> tuple[Subject, Plan]:
        """Return whom a name means, ``hub``, ``floor`` or a peer's, and what it is offered."""
        for peer in self.peers:
            if peer.name == who:
                return peer.subject, peer.plan
        subject = self.floor if who == "floor" else self.hub
        assert subject is not None
        return subject, self.plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The budget of a scenario without a floor, in milliseconds."""

    ack_p50: float = 10
    ack_p99: float = 50
    added_p99: float = 250


_ACKS: Final = Plan(
    unit="ack",
    rate=None,
    connections=500,
    warm_up=5_000,
    measured=40_000,
    customers=2_000,
    phone_numbers=50,
    prime=True,
)
#: pywa on FastAPI and uvicorn; it stores nothing.
PYWA: Final = Peer(
    subject=Subject(name="pywa", module="bench.peers.pywa_ack"),
    plan=replace(_ACKS, prime=False, warm_up=1_000, measured=8_000),
)

ACK: Final = Scenario(
    name="ack",
    title="one durable ack, of a message that waits behind another (no turn runs), 500 connections, closed loop",
    unit="ack",
    plan=_ACKS,
    peers=(PYWA,),
    hub=hub(assistant="echo", has_tokens=False, timing={"held_recheck_s": LONG_S}),
    floor=bare("ack"),
    max_ratio=1.8,
)

NO_REPLY: Final = Scenario(
    name="no-reply",
    title="one durable ack and its whole turn without a reply (ASSISTANT=none), 1,000 messages/s offered",
    unit="message",
    plan=Plan(
        unit="ack", rate=1_000, connections=200, warm_up=1_500, measured=6_000, customers=2_000, phone_numbers=50
    ),
    hub=hub(assistant="none"),
    floor=bare("ack"),
)

_ANSWERS: Final = Plan(
    unit="answer", rate=1_000, connections=200, warm_up=3_000, measured=8_000, customers=2_000, phone_numbers=50
)
#: The guide's own architecture. It answers Meta when all is done, so 500 connections offer it as much as it takes.
GUIDE: Final = Peer(
    subject=Subject(name="the guide's", module="bench.peers.guide", needs_database=True),
    plan=replace(_ANSWERS, rate=None, connections=500, warm_up=600, measured=300, drain_s=120),
)

ANSWERED: Final = Scenario(
    name="answered",
    title="one answered message: assistant and send over HTTP, typing off, 1,000 messages/s offered",
    unit="answer",
    plan=_ANSWERS,
    peers=(GUIDE,),
    hub=hub(assistant="openai", typing_indicator=False),
    floor=bare("relay"),
    max_ratio=2.0,
)

LOAD: Final = Plan(
    unit="answer",
    rate=500,
    connections=500,
    warm_up=2_500,
    measured=30_000,
    customers=10_000,
    chatty=100,
    phone_numbers=50,
    model_s=(0.5, 2.0),
    graph_s=(0.15, 0.4),
    drain_s=60,
)


def _load(name: str, *, rate: float = 500, minutes: int = 1, typing: bool = False, **pools: int) -> Scenario:
    words = "".join(f", {setting.upper()}={most:,}" for setting, most in pools.items())
    subject = hub(assistant="openai", typing_indicator=typing)
    return Scenario(
        name=name,
        title=f"500 connections, the assistant takes 0.5-2 s, Graph 150-400 ms:"
        f" {rate:.0f}/s for {minutes} min, typing {'on' if typing else 'off'}{words}",
        unit="answer",
        plan=replace(LOAD, rate=rate, warm_up=int(5 * rate), measured=int(60 * minutes * rate)),
        hub=replace(subject, options={**subject.options, **pools}),
        floor=None,
    )


COSTS: Final = (ACK, NO_REPLY, ANSWERED)
LOADS: Final = (_load("load"), _load("load-typing", typing=True))
LONG_LOADS: Final = (
    _load("load-long", minutes=5),
    _load("load-long-typing", minutes=5, typing=True),
    _load("load-double", rate=1_000),
    _load("load-double-wide", rate=1_000, graph_max_connections=400, ai_max_connections=2_000),
)
LOAD_LIMITS: Final = Limits()


def shortened(scenario: Scenario, factor: int) -> Scenario:
    """Return the scenario with a window so many times shorter; where a peer is slow, with less at once."""
    plan = scenario.plan
    return replace(
        scenario,
        plan=replace(plan, measured=plan.measured // factor, warm_up=max(plan.warm_up // factor, 1_000)),
        peers=tuple(shortened_peer(peer, factor) for peer in scenario.peers),
    )


def shortened_peer(peer: Peer, factor: int) -> Peer:
    """Return a peer that is offered so many times less."""
    plan = peer.plan
    less = replace(
        plan,
        connections=plan.connections // factor,
        warm_up=plan.warm_up // factor,
        measured=plan.measured // factor,
    )
    return replace(peer, plan=less)


def lengthened(scenario: Scenario, factor: int) -> Scenario:
    """Return the scenario with a window so many times longer."""
    return replace(scenario, plan=replace(scenario.plan, measured=scenario.plan.measured * factor))


def slowed_down(scenario: Scenario, rate: float) -> Scenario:
    """Return the scenario at a lower rate, over the same time."""
    plan = scenario.plan
    assert plan.rate is not None
    share = rate / plan.rate
    return replace(
        scenario,
        plan=replace(plan, rate=rate, measured=int(plan.measured * share), warm_up=int(plan.warm_up * share)),
    )
