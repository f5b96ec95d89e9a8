"""What was seen of a run: what the driver sent, what the Graph stand-in received, and what the database holds (pure).

All times are monotonic seconds of the process that drove the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One try of the driver to deliver a message."""

    began_at: float
    ended_at: float
    status: int  #: 0: no answer, the connection was lost
    retry_after: bool = False
    body: str = ""  #: of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a customer, however often it was delivered."""

    number: str
    customer: str
    wamid: str
    label: str  #: ``<conversation>#<n>``: a word of the text, of this message only
    timestamp: int  #: Meta's seconds
    sent_at: float
    acked_at: float | None  #: when a try was answered 200
    deliveries: tuple[Delivery, ...]

    @property
    def key(self) -> str:
        """The ``_id`` of its row."""
        return f"{self.number}:{self.wamid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One send that the Graph stand-in saw."""

    number: str
    customer: str
    text: str
    callback: str  #: ``biz_opaque_callback_data``, as it came
    began_at: float
    ended_at: float  #: when it was answered, or its connection was seen to end; infinity where neither was seen
    accepted: bool
    wamid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSeen:
    """What the greatest status of a part was when somebody looked."""

    row_id: str
    part: int
    attempt: int
    rank: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How long it took until something went on after a fault was over."""

    cleared_at: float
    first_progress_at: float | None  #: None: nothing went on
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A time in which a process that answers webhooks was stopped (SIGSTOP)."""

    began_at: float
    ended_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that was seen."""

    messages: Sequence[Message]
    sendings: Sequence[Sending]
    rows: Sequence[Mapping[str, Any]]  #: all inbox documents at the end, as stored
    ranks: Sequence[RankSeen] = ()
    texts: Sequence[tuple[str, str]] = ()  #: name and whole text of each log, metrics page and error body
    secrets: frozenset[str] = frozenset()  #: what must appear in none of the texts
    recoveries: Sequence[Recovery] = ()
    pauses: Sequence[Pause] = ()  #: what hung in one of them is not the hub's fault
    silent_numbers: frozenset[str] = frozenset()  #: of businesses that were switched off for a while: may say nothing
    fallback_texts: frozenset[str] = frozenset()  #: what an assistant says that failed: answers without labels
    allowed_copies: int = 0  #: one for each process that was stopped between its lease check and its send
    statuses_echoed: bool = True
    at_rest: bool = True
