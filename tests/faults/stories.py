"""Histories in which everything holds, made up from plans: what the checker is tried on (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tests.faults.history import Delivery, History, Message, RankSeen, Recovery, Sending
from whatsapp_hub.cloud_api.messages import FAILED_RANK, InboundMessage
from whatsapp_hub.cloud_api.outgoing import callback_data, text_part
from whatsapp_hub.inbox.document import Outcome, Part, PartState, Stage, State, row_of

TOKEN: Final = "EAAthetokenofabusiness"
EPOCH_S: Final = 1_700_000_000
SEND_S: Final = 0.5  # one sending begins when the one before it ends
NGINX_PAGE: Final = "<center>nginx</center>"
REFUSALS: Final[Sequence[dict[str, Any]]] = (  # in turn
    {"status": 503, "retry_after": True, "body": '{"error": "try again"}'},
    {"status": 0},
    {"status": 502, "body": NGINX_PAGE},
    {"status": 504, "body": NGINX_PAGE},
)


class Fate(StrEnum):
    """What becomes of a turn."""

    REPLIED = "replied"
    NO_REPLY = "no reply"  #: its business was switched off
    BURIED = "buried"  #: dead before anything was sent
    CUT_SHORT = "cut short"  #: dead after the first part
    FAILED = "failed"  #: sent, and reported as not delivered
    DISCARDED = "discarded"
    RETRIED = "retried"  #: failed, and answered after everything else
    REVIVED = "revived"  #: buried, and answered after everything else


class Arrival(StrEnum):
    """How the messages of a turn came."""

    ONE_BY_ONE = "one by one"
    TOGETHER = "together"  #: all sent before the first was acknowledged: any order is right
    FALLING = "falling"  #: each with a smaller timestamp than the one before it


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """One turn."""

    messages: int = 1
    leader: int = 0
    parts: int = 1
    fate: Fate = Fate.REPLIED
    arrival: Arrival = Arrival.ONE_BY_ONE
    refusals: int = 0  #: of each message, before it is taken
    acked: bool = True
    refused_sends: int = 0  #: of each part, before one is accepted
    resends: int = 0  #: of each part, since the hub died after each


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One conversation."""

    number: str
    customer: str
    turns: Sequence[TurnPlan]
    backlog: bool = False  #: everything comes before the first turn


@dataclass(slots=True, kw_only=True)
class Telling:
    """A conversation as it happens; its clock is its own."""

    plan: Plan
    now: float = 0.0
    timestamp: int = EPOCH_S
    messages: list[Message] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranks: list[RankSeen] = field(default_factory=list)


def tell(*plans: Plan) -> History:
    """Return what is seen when these conversations happen."""
    tellings = [_tell(plan) for plan in plans]
    turns = [(plan, turn) for plan in plans for turn in plan.turns]
    return History(
        messages=[message for telling in tellings for message in telling.messages],
        sendings=[sending for telling in tellings for sending in telling.sendings],
        rows=[row for telling in tellings for row in telling.rows.values()],
        ranks=[rank for telling in tellings for rank in telling.ranks],
        texts=[("hub.log", '{"message": "ready"}\n{"message": "stopped"}\n'), ("metrics", "whatsapp_hub_ready 1\n")],
        secrets=frozenset({TOKEN, *(plan.customer for plan in plans)}),
        recoveries=[Recovery(cleared_at=1.0, first_progress_at=3.0, limit_s=2.0)],
        silent_numbers=frozenset(plan.number for plan, turn in turns if turn.fate is Fate.NO_REPLY),
        statuses_echoed=not any(turn.resends for _, turn in turns),
    )


def _tell(plan: Plan) -> Telling:
    telling = Telling(plan=plan)
    arrived: list[tuple[TurnPlan, list[Message]]] = []
    for turn in plan.turns:
        arrived.append((turn, _arrive(telling, turn)))
        if not plan.backlog:
            _answer(telling, *arrived[-1])
    for turn, messages in arrived if plan.backlog else ():
        _answer(telling, turn, messages)
    for turn, messages in arrived:
        if turn.fate in {Fate.RETRIED, Fate.REVIVED}:
            _retry(telling, turn, messages)
    return telling


def _arrive(telling: Telling, turn: TurnPlan) -> list[Message]:
    """Let the messages of a turn come; return them in the order in which they are to be answered."""
    telling.timestamp += turn.messages
    first_at = telling.now
    telling.now += 1.0
    messages: list[Message] = []
    for index in range(turn.messages):
        sent_at = first_at + index / 10 if turn.arrival is Arrival.TOGETHER else telling.now
        fallen_s = index if turn.arrival is Arrival.FALLING else 0
        messages.append(_deliver(telling, turn, sent_at, telling.timestamp - fallen_s))
        telling.rows[messages[-1].key] = _stored(messages[-1])
    return messages if turn.arrival is Arrival.ONE_BY_ONE else messages[::-1]


def _deliver(telling: Telling, turn: TurnPlan, sent_at: float, timestamp: int) -> Message:
    answers = [REFUSALS[index % len(REFUSALS)] for index in range(turn.refusals)]
    deliveries: list[Delivery] = []
    for answer in [*answers, {"status": 200}] if turn.acked else answers:
        deliveries.append(Delivery(began_at=telling.now, ended_at=telling.now + 0.5, **answer))
        telling.now += 0.5
    plan = telling.plan
    name = f"{plan.number}-{plan.customer[-4:]}"
    message = Message(
        number=plan.number,
        customer=plan.customer,
        wamid=f"wamid.{name}.{len(telling.messages)}",
        label=f"{name}#{len(telling.messages)}",
        timestamp=timestamp,
        sent_at=sent_at,
        acked_at=telling.now if turn.acked else None,
        deliveries=tuple(deliveries),
    )
    telling.messages.append(message)
    return message


def _stored(message: Message) -> dict[str, Any]:
    inbound = InboundMessage(
        phone_number_id=message.number,
        id=message.wamid,
        sender=message.customer,
        timestamp=message.timestamp,
        item=b'{"text":{"body":"%s good day"}}' % message.label.encode(),
    )
    document = row_of(inbound, owner="", state=State.DONE, arrival_ns=int(message.sent_at * 1e9)).to_document()
    del document["owner"]
    return document


def _answer(telling: Telling, turn: TurnPlan, messages: Sequence[Message]) -> None:
    rows = [telling.rows[message.key] for message in messages]
    leader = rows[turn.leader % len(rows)]
    for row in rows:
        row |= {"outcome": Outcome.IN_TURN.value, "turn": leader["_id"]}
    del leader["turn"]
    leader["members"] = [row["_id"] for row in rows if row is not leader]
    leader |= _END_OF[turn.fate]
    if turn.fate not in {Fate.NO_REPLY, Fate.BURIED, Fate.DISCARDED, Fate.REVIVED}:
        _reply(telling, turn, messages, leader)


_DEAD: Final = {"state": State.DEAD.value, "outcome": "", "reason": "the model does not answer"}
_END_OF: Final = {
    Fate.REPLIED: {"outcome": Outcome.REPLIED.value},
    Fate.NO_REPLY: {"outcome": Outcome.NO_REPLY.value},
    Fate.BURIED: _DEAD,
    Fate.CUT_SHORT: _DEAD,
    Fate.FAILED: _DEAD,
    Fate.DISCARDED: {**_DEAD, "state": State.DONE.value, "outcome": Outcome.DISCARDED.value},
    Fate.RETRIED: _DEAD,
    Fate.REVIVED: _DEAD,
}


def _retry(telling: Telling, turn: TurnPlan, messages: Sequence[Message]) -> None:
    leader = telling.rows[messages[turn.leader % len(messages)].key]
    leader |= {"state": State.DONE.value, "outcome": Outcome.REPLIED.value, "retried": True}
    leader["sends"] = max((part["attempt"] for part in leader.get("parts", ())), default=0)
    _reply(telling, turn, messages, leader)


def _reply(telling: Telling, turn: TurnPlan, messages: Sequence[Message], leader: dict[str, Any]) -> None:
    leader["stage"] = Stage.REPLYING.value
    attempt = leader.get("sends", 0)
    labels = [message.label for message in messages]
    greeting = "sorry, you said" if "retried" in leader else "you said"
    parts: list[Part] = []
    for index in range(turn.parts):
        last = index == turn.parts - 1
        said = labels[index:] if last or turn.fate is Fate.CUT_SHORT else labels[index : index + 1]
        text = "\n".join([f"{greeting} {label} to us" for label in said] or ["and that is all"])
        part = Part(body=text_part(text), attempt=attempt)
        parts.append(part)
        if index == 0 or turn.fate is not Fate.CUT_SHORT:
            _send(telling, turn, leader["_id"], text, index, part)
        if turn.fate in {Fate.FAILED, Fate.RETRIED} and "retried" not in leader and last:
            part.rank = FAILED_RANK
        rank = RankSeen(row_id=leader["_id"], part=index, attempt=part.attempt, rank=part.rank, at=telling.now)
        telling.ranks.append(rank)
    leader["parts"] = [part.to_document() for part in parts]


def _send(telling: Telling, turn: TurnPlan, row_id: str, text: str, index: int, part: Part) -> None:
    """Send a part: first the refused ones, then those after which the hub died, and at last the one that it saw."""
    outcomes = [(False, False)] * turn.refused_sends + [(True, True)] * turn.resends + [(True, False)]
    for accepted, died in outcomes:
        part.attempt += 1
        telling.sendings.append(_sending(telling, row_id, text, index, part, accepted=accepted, died=died))
        for rank in (0, 1) if accepted and not died else (0,):
            telling.ranks.append(RankSeen(row_id=row_id, part=index, attempt=part.attempt, rank=rank, at=telling.now))
        telling.now += SEND_S
    part.state, part.failures, part.rank = PartState.SENT, turn.refused_sends, 1


def _sending(
    telling: Telling, row_id: str, text: str, index: int, part: Part, *, accepted: bool, died: bool
) -> Sending:
    plan = telling.plan
    return Sending(
        number=plan.number,
        customer=plan.customer,
        text=text,
        callback=callback_data(plan.customer, row_id.partition(":")[2], index, part.attempt),
        began_at=telling.now,
        ended_at=math.inf if died else telling.now + SEND_S,
        accepted=accepted,
        wamid=f"wamid.out.{len(telling.sendings)}" if accepted else None,
    )
