"""The inbox document: its states, its parts, and how it is read and written (pure).

One document is one message of a customer, or one that the business sends by itself. At most one document of a
conversation is ``active``, which a unique index in the database holds; it is the lock of the conversation and carries
the turn's progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import ConversationId, InboundMessage, customer_of, phone_number_id_of
from whatsapp_hub.inbox.outbound import Origin, OutboundMessage


class State(StrEnum):
    """Where a message stands."""

    #: Holds the lock of its conversation.
    ACTIVE = "active"
    #: Durable, waits for its conversation.
    QUEUED = "queued"
    #: Answered, taken into another one's turn, or needs no answer.
    DONE = "done"
    #: Will not be answered unless somebody retries it; says why.
    DEAD = "dead"


class Stage(StrEnum):
    """How far an active message has come."""

    #: Nothing decided yet.
    NEW = "new"
    #: The reply is stored; a part of it may have been sent.
    REPLYING = "replying"
    #: Nobody knows whether a part was sent; a status would tell.
    AMBIGUOUS = "ambiguous"
    #: Its business cannot send now; waits for the operator.
    HELD = "held"
    #: Waits before it is tried again. What dies now did not die of it.
    BACKOFF = "backoff"


class Outcome(StrEnum):
    """How a message got done."""

    REPLIED = "replied"
    #: Answered by the turn of another message (``turn`` names it).
    IN_TURN = "in_turn"
    NO_REPLY = "no_reply"
    #: A dead letter that an operator put away.
    DISCARDED = "discarded"


class PartState(StrEnum):
    """How far one part of a reply has come."""

    WAITING = "waiting"
    #: It may have been sent.
    SENDING = "sending"
    SENT = "sent"


#: Not a code of Meta's: what a part had to wait for is over.
HEEDED: Final = -1
#: A message that was being worked on when a process died, so often, may be what killed it.
SUSPECT_FROM_CRASHES: Final = 2

# Owners that are no node. The next round of any node takes what they own.
NOBODY: Final = ""  #: of a dead letter that is retried
SPILLED: Final = "spilled:"  #: and a phone number id: no node had room for it in memory
ALL_SPILLED: Final = {"$gte": SPILLED, "$lt": "spilled;"}  #: a condition on ``owner``; ``;`` comes after ``:``


def spilled(phone_number_id: str) -> str:
    """Return the owner of what waits in the database alone, by number so that nobody's backlog hides the others'."""
    return f"{SPILLED}{phone_number_id}"


@dataclass(slots=True, kw_only=True)
class Part:
    """One message of a reply, as its turn works on it."""

    body: bytes = field(repr=False)  #: JSON, without the recipient
    state: PartState = PartState.WAITING
    attempt: int = 0  #: counts the sends begun; the status webhooks name it
    failures: int = 0  #: counts the sends that Graph refused for now
    wamid: str = ""  #: Meta's id of what was sent; empty as long as it is not known
    rank: int = 0  #: the greatest that a status has told
    void_attempts: int = 0  #: statuses of attempts up to this one are of something else, or of what had failed
    error: int | None = None  #: the code of its ``failed`` status
    resends: int = 0  #: how often it was sent again because of one that may pass
    heed: int | None = None  #: the code that has to be acted on before it is sent again; ``HEEDED``: it was
    words: str = field(default="", repr=False)  #: what it says, where its body does not tell
    dropped: bool = False  #: decided, but not to be sent any more
    posted: tuple[int, ...] = ()  #: unix ns by the hub's clock: its last send begun and, if Graph took it, accepted

    def to_document(self) -> dict[str, Any]:
        """Return the part as it is stored."""
        document: dict[str, Any] = {
            "body": self.body,
            "state": self.state.value,
            "attempt": self.attempt,
            "failures": self.failures,
            "wamid": self.wamid,
            "rank": self.rank,
        }
        if self.void_attempts:
            document["void_attempts"] = self.void_attempts
        if self.words:
            document["words"] = self.words
        if self.dropped:
            document["dropped"] = True
        if self.posted:
            document["posted"] = self.posted
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Part:
        """Read a stored part."""
        return cls(
            body=bytes(document["body"]),
            state=PartState(document["state"]),
            attempt=document["attempt"],
            failures=document["failures"],
            wamid=document["wamid"],
            rank=document.get("rank", 0),
            void_attempts=document.get("void_attempts", 0),
            error=document.get("error"),
            resends=document.get("resends", 0),
            heed=document.get("heed"),
            words=document.get("words", ""),
            dropped=document.get("dropped", False),
            posted=tuple(document.get("posted", ())),
        )


@dataclass(slots=True, kw_only=True, eq=False)
class InboxRow:
    """An inbox document as the node that owns it knows it. Changed only by the task that holds it."""

    id: str
    conversation: ConversationId = field(repr=False)
    owner: str
    epoch: int
    state: State
    stage: Stage
    attempts: int  #: how often an assistant was or is being asked
    crashes: int = 0  #: how often a process died while it worked on it
    place: int  #: its place in the order: Meta's timestamp in seconds, or when it was retried
    arrival: int  #: orders what has the same place: when it came, in nanoseconds
    item: bytes = field(repr=False)  #: the message as Meta sent it, JSON
    profile_name: str = field(default="", repr=False)
    sends: int = 0  #: the greatest attempt number of parts that a retry dropped: late statuses must not match new ones
    members: list[str] = field(default_factory=list)  #: messages that this one's turn answers too
    parts: list[Part] = field(default_factory=list)
    origin: Origin | None = None  #: set where the business sends it by itself: nobody has to be asked what to say
    times: dict[str, int] = field(default_factory=dict)  #: when its steps were, as ``inbox/timeline.py`` reads them
    # What only the process that works on the turn knows:
    cleared: int | None = None  #: the part that was marked as "may have been sent" for a send not yet begun
    waiting_since: float = 0.0  #: monotonic seconds; when it began to wait for a status
    said: str = field(default="", repr=False)  #: what the customer said in this turn
    slot: tuple[float, float] | None = None  #: monotonic seconds; when its next part may go, and when that was said
    is_joined: bool = False  #: the names that its message tells are known to be one person's
    heard: bool = False  #: some of that was spoken, so that no item tells it; stored then

    @property
    def phone_number_id(self) -> str:
        """The business's phone number that the message was sent to."""
        return phone_number_id_of(self.id)

    @property
    def message_id(self) -> str:
        """Meta's id of the message (wamid)."""
        return self.id.partition(":")[2]

    @property
    def customer(self) -> str:
        """Who wrote it: a phone number or a BSUID."""
        return customer_of(self.conversation)

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what kills the processes: it is tried with little or no company."""
        return self.crashes >= SUSPECT_FROM_CRASHES

    @property
    def order(self) -> tuple[int, int]:
        """What to sort by: Meta's timestamp, then arrival."""
        return (self.place, self.arrival)

    def begin_turn(self, now_ns: int) -> None:
        """Note that its turn begins, once more perhaps: the times of an attempt that failed give way."""
        stored_ns = self.times.get("stored")
        self.times = {"begun": now_ns} if stored_ns is None else {"stored": stored_ns, "begun": now_ns}

    def words(self) -> dict[str, Any]:
        """Return the words of a turn that do not stand in its items; nearly never any."""
        return {"said": self.said} if self.heard else {}

    def to_document(self) -> dict[str, Any]:
        """Return the document of a message that has just come."""
        document: dict[str, Any] = {
            "_id": self.id,
            "conversation": self.conversation,
            "state": self.state.value,
            "stage": self.stage.value,
            "owner": self.owner,
            "epoch": self.epoch,
            "attempts": self.attempts,
            "place": self.place,
            "arrival": self.arrival,
            "item": self.item,
            "profile_name": self.profile_name,
        }
        if self.origin is not None:
            document["origin"] = self.origin.to_document()
            document["parts"] = [part.to_document() for part in self.parts]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> InboxRow:
        """Read a stored document."""
        return cls(
            id=document["_id"],
            conversation=ConversationId(document["conversation"]),
            owner=document.get("owner", NOBODY),
            epoch=document["epoch"],
            state=State(document["state"]),
            stage=Stage(document["stage"]),
            attempts=document["attempts"],
            crashes=document.get("crashes", 0),
            place=document["place"],
            arrival=document["arrival"],
            item=bytes(document["item"]),
            profile_name=document.get("profile_name", ""),
            sends=document.get("sends", 0),
            members=list(document.get("members", ())),
            parts=[Part.from_document(part) for part in document.get("parts", ())],
            said=document.get("said", ""),
            origin=Origin.from_document(document["origin"]) if "origin" in document else None,
            times=dict(document.get("times", ())),
        )


def row_of(message: InboundMessage | OutboundMessage, *, owner: str, state: State, arrival_ns: int) -> InboxRow:
    """Make the row of a message that has just come. The first attempt is counted with the insert.

    What the business sends by itself is decided from the start: it is past the commit point when it is stored.
    """
    row = InboxRow(
        id=message.key,
        conversation=message.conversation,
        owner=owner,
        epoch=1,
        state=state,
        stage=Stage.NEW,
        attempts=1 if state is State.ACTIVE else 0,
        place=message.timestamp,
        arrival=arrival_ns,
        item=message.item,
        profile_name=message.profile_name,
    )
    if isinstance(message, OutboundMessage):
        row.stage, row.origin = Stage.REPLYING, message.origin
        row.parts = [Part(body=body) for body in message.parts]
    return row
