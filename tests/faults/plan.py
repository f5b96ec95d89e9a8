"""What the nemesis is going to do, and when: a pure function of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from random import Random
from typing import Any, Final

from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan


class Kind(StrEnum):
    """What is done."""

    HUB_KILL = "hub kill"  #: started again after a while
    HUB_PAUSE = "hub pause"
    HUB_STOP = "hub stop"  #: in peace, and started again
    DATABASE_KILL = "database kill"
    DATABASE_PAUSE = "database pause"
    STEP_DOWN = "step down"
    COMMANDS = "commands fail"  #: of the database: they fail, block, or their answers are lost
    GRAPH = "graph"
    ASSISTANT = "assistant"
    STATUSES = "statuses"  #: come late, backwards or twice
    REPLAY = "replay"  #: of messages that were acknowledged long ago
    BURST = "burst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One thing that is done."""

    at_s: float
    kind: Kind
    for_s: float = 0.0  #: how long it lasts
    target: int = 0  #: which hub; of the database servers: 0 the primary, the others behind it
    count: int = 1  #: how many messages, or how many commands
    fault: Fault | None = None
    failure: Mapping[str, Any] = field(default_factory=dict)  #: what ``failCommand`` is told
    statuses: StatusPlan | None = None


Draw = Callable[[Random, float], Deed]  # given the time

_COLLECTIONS: Final = ("inbox",) * 5 + ("conversations", "nodes")
_COMMANDS: Final = ("insert", "update", "find")
_DATABASE_ERRORS: Final = (50, 91, 189, 11600)  # too slow, shutting down, stepped down, interrupted
_GRAPH_FAULTS: Final[Sequence[Callable[[Random, int], Fault]]] = (
    lambda _, times: Fault(effect=Effect.CLOSE_BEFORE, times=times),
    lambda _, times: Fault(effect=Effect.CLOSE_AFTER, times=times),
    lambda _, times: Fault(effect=Effect.CUT, times=times),
    lambda _, times: Fault(effect=Effect.NO_ID, times=times),
    lambda _, times: Fault(effect=Effect.TRUNCATED, times=times),
    lambda _, times: Fault(effect=Effect.GARBAGE, status=502, times=times),
    lambda rng, times: Fault(effect=Effect.HANG, delay_s=rng.uniform(0.5, 4), times=times),
    lambda rng, times: Fault(effect=Effect.SLOW_BODY, delay_s=rng.uniform(0.2, 2), times=times),
    lambda _, times: Fault(status=429, code=130429, retry_after="1", times=times),
    lambda rng, times: Fault(status=500, code=rng.choice((131000, 131016, 2)), times=times),
)
_ASSISTANT_FAULTS: Final[Sequence[Callable[[Random, int], Fault]]] = (
    lambda rng, times: Fault(endpoint="chat", status=rng.choice((500, 429, 503)), times=times),
    lambda rng, times: Fault(endpoint="chat", effect=Effect.HANG, delay_s=rng.uniform(0.5, 3), times=times),
    lambda rng, times: Fault(endpoint="chat", effect=Effect.SLOW_BODY, delay_s=rng.uniform(0.5, 3), times=times),
    lambda _, times: Fault(endpoint="chat", effect=Effect.CLOSE_BEFORE, times=times),
    lambda _, times: Fault(endpoint="chat", effect=Effect.GARBAGE, status=502, times=times),
    lambda _, times: Fault(endpoint="chat", effect=Effect.TRUNCATED, times=times),
)


def plan(seed: int, minutes: float, hubs: int, servers: int) -> list[Deed]:
    """Return the deeds of a run in the order of time.

    Each lane is a row of deeds that do not overlap: one for each hub, one for what stops the database, and so on.
    """
    rng = Random(seed)
    end_s = 60 * minutes
    lanes: list[tuple[Draw, float]] = [
        *((_hub_lane(hub), 2.0 + hubs) for hub in range(hubs)),
        (_database_lane(servers), 6.0),
        (_draw_failing_commands, 1.0),
        (_draw_graph_fault, 1.0),
        (_draw_assistant_fault, 1.5),
        (_draw_statuses, 3.0),
        (_draw_traffic, 2.0),
    ]
    deeds = [deed for draw, gap_s in lanes for deed in _fill(Random(rng.random()), draw, gap_s, end_s)]
    return sorted(deeds, key=attrgetter("at_s"))


def _fill(rng: Random, draw: Draw, gap_s: float, end_s: float) -> Iterator[Deed]:
    """Yield deeds one after the other, so far apart on average."""
    at_s = rng.expovariate(1 / gap_s)
    while at_s < end_s:
        deed = draw(rng, at_s)
        yield deed
        at_s += deed.for_s + rng.expovariate(1 / gap_s)


def _hub_lane(hub: int) -> Draw:
    def draw(rng: Random, at_s: float) -> Deed:
        kind = rng.choice((Kind.HUB_KILL, Kind.HUB_KILL, Kind.HUB_PAUSE, Kind.HUB_STOP))
        for_s = rng.choice((0.0, 0.0, rng.uniform(0.5, 4)))
        if kind is Kind.HUB_PAUSE:  # shorter than a lease, or longer
            for_s = rng.choice((rng.uniform(0.2, 1.4), rng.uniform(2, 6)))
        return Deed(at_s=at_s, kind=kind, target=hub, for_s=for_s)

    return draw


def _database_lane(servers: int) -> Draw:
    kinds = (Kind.DATABASE_KILL, Kind.DATABASE_PAUSE) + ((Kind.STEP_DOWN,) if servers > 1 else ())
    longest_s = 6.0 if servers > 1 else 3.0

    def draw(rng: Random, at_s: float) -> Deed:
        target = rng.choice((0, 0, *range(1, servers)))
        kind = rng.choice(kinds) if target == 0 else rng.choice(kinds[:2])
        return Deed(at_s=at_s, kind=kind, target=target, for_s=rng.choice((0.1, rng.uniform(0.5, longest_s))))

    return draw


def _draw_failing_commands(rng: Random, at_s: float) -> Deed:
    commands = rng.sample(_COMMANDS, rng.choice((1, 1, 2)))
    failure = rng.choice(
        (
            {"closeConnection": True},
            {"errorCode": rng.choice(_DATABASE_ERRORS)},
            {"blockConnection": True, "blockTimeMS": rng.choice((50, 300, 700, 1500))},
            {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        )
    )
    if "writeConcernError" in failure:
        commands = [command for command in commands if command != "find"] or ["update"]
    told = {"failCommands": commands, "collection": rng.choice(_COLLECTIONS), **failure}
    return Deed(at_s=at_s, kind=Kind.COMMANDS, count=rng.choice((1, 1, 2, 3, 6)), failure=told)


def _draw_graph_fault(rng: Random, at_s: float) -> Deed:
    times = rng.choice((1, 1, 2, 4))
    return Deed(at_s=at_s, kind=Kind.GRAPH, count=times, fault=rng.choice(_GRAPH_FAULTS)(rng, times))


def _draw_assistant_fault(rng: Random, at_s: float) -> Deed:
    times = rng.choice((1, 1, 2, 4))
    return Deed(at_s=at_s, kind=Kind.ASSISTANT, count=times, fault=rng.choice(_ASSISTANT_FAULTS)(rng, times))


def _draw_statuses(rng: Random, at_s: float) -> Deed:
    names = rng.choice((("sent", "delivered", "read"), ("read", "delivered", "sent"), ("delivered",)))
    late_s = rng.choice((0.0, 0.3, rng.uniform(0.5, 2)))
    steps = tuple((name, late_s + 0.05 * index) for index, name in enumerate(names))
    statuses = StatusPlan(steps=steps, copies=rng.choice((1, 1, 3)))
    return Deed(at_s=at_s, kind=Kind.STATUSES, for_s=rng.uniform(0.5, 3), statuses=statuses)


def _draw_traffic(rng: Random, at_s: float) -> Deed:
    kind = rng.choice((Kind.REPLAY, Kind.REPLAY, Kind.BURST))
    count = rng.randint(1, 5) if kind is Kind.REPLAY else rng.randint(20, 80)
    return Deed(at_s=at_s, kind=kind, for_s=1.0, count=count)
