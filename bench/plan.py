"""What one run offers and what comes back: the words between the bench and its driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.stats import Latencies

APP_SECRET = "bench-app-secret"  # signs the webhooks
ENCRYPTION_SECRET = "bench-encryption-secret"
GRAPH_VERSION = "v26.0"
BACKLOG_CUSTOMERS = 5_000
BACKLOG_NUMBERS = 50  # behind the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the driver does in one run. Messages are numbered in the order in which they are sent."""

    unit: Literal["ack", "answer"]  #: what CPU is divided by
    #: Messages a second at times fixed in advance; None: every connection sends again as soon as it has its answer.
    rate: float | None
    connections: int
    warm_up: int  #: messages before the window
    measured: int  #: messages in it
    customers: int
    phone_numbers: int
    chatty: int = 0  #: this many of the customers write a tenth of all messages
    prime: bool = False  #: a message of every customer goes first, and the bench says when to go on
    backlog: int = 0  #: so many messages go first, to businesses of their own that can answer nobody
    zipf: bool = False  #: a few businesses have most of the customers (Zipf's law), or all have as many
    past_turns: int = 0  #: what each customer had said and heard before
    model_s: tuple[float, float] = (0.0, 0.0)  #: how long the model takes: drawn evenly from this range
    graph_s: tuple[float, float] = (0.0, 0.0)
    drain_s: float = 30.0  #: how long to wait for the last answers
    seed: int = 1

    @property
    def held(self) -> int:
        """How many messages go first, to businesses that the hub holds."""
        return self.backlog + (self.customers if self.prime else 0)

    @property
    def held_conversations(self) -> int:
        """Of how many customers they are."""
        return min(self.backlog, BACKLOG_CUSTOMERS) + (self.customers if self.prime else 0)

    @property
    def first(self) -> int:
        """The number of the first message in the window."""
        return self.held + self.warm_up

    @property
    def total(self) -> int:
        """How many messages there are; in a closed loop the last ones keep the other connections busy."""
        return self.first + self.measured + (self.connections if self.rate is None else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom the driver sends to, and whose CPU it reads."""

    host: str
    ports: Sequence[int]  #: of each process of the subject; the connections are spread over them
    pids: Mapping[str, Sequence[int]]  #: by role: ``subject``, ``database``
    cores: Sequence[int]  #: the subject's


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU time of one process, all its threads, as the kernel accounts it."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s

    def since(self, earlier: Cpu) -> Cpu:
        return Cpu(user_s=self.user_s - earlier.user_s, system_s=self.system_s - earlier.system_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the driver saw in one run. Times and CPU are those of the window, faults those of the whole run."""

    units: int
    window_s: float
    cpu: Mapping[str, Cpu]  #: by role: ``subject``, ``database``, ``driver``
    busy: Mapping[str, float]  #: how much of the subject's core, and of the others, was used by anybody
    ack_ms: Latencies | None
    reply_ms: Latencies | None  #: from the webhook to the send
    added_ms: Latencies | None  #: the same without what the turn before, the model and Graph took
    late_ms: Latencies | None  #: how late the driver itself sent, contained in the others
    statuses: Mapping[str, int]  #: answers to webhooks
    acked: int = 0
    lost: int = 0  #: acknowledged and never answered
    duplicated: int = 0
    out_of_order: int = 0
    gathered: int = 0  #: answered in another one's turn
    under_way: int = 0  #: acknowledged and not yet answered when the window ended
    typings: int = 0
    stored: Mapping[str, int] = field(default_factory=dict)  #: documents in the database by state, afterwards
    commands: Mapping[str, int] = field(default_factory=dict)  #: of the database, by kind
    journal_sync_ms: float | None = None  #: what the database's journal took to be synced to the disk, on average

    @property
    def cpu_us(self) -> float:
        """The subject's CPU for one unit."""
        return 1e6 * self.cpu["subject"].total_s / self.units

    @property
    def system_us(self) -> float:
        """What of it was spent in the kernel."""
        return 1e6 * self.cpu["subject"].system_s / self.units

    @property
    def database_us(self) -> float | None:
        """The database's CPU for one unit."""
        return 1e6 * self.cpu["database"].total_s / self.units if "database" in self.cpu else None

    @property
    def commands_per_unit(self) -> float | None:
        """How many commands the database got for one unit: what is batched shares one."""
        return sum(self.commands.values()) / self.units if self.commands else None

    @property
    def per_s(self) -> float:
        """Units a second."""
        return self.units / self.window_s

    @property
    def faults(self) -> list[str]:
        """What must not happen and did, in words."""
        counts = {
            "not answered 200": sum(count for status, count in self.statuses.items() if status != "200"),
            "acknowledged and not in the database": max(0, self.acked - sum(self.stored.values()))
            if self.stored
            else 0,
            "dead": self.stored.get("dead", 0),
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order": self.out_of_order,
        }
        return [f"{count} {words}" for words, count in counts.items() if count]
