"""The inbox as a plain dictionary: what each step of the protocol does to its documents (pure).

Written from the rules of the protocol, not from the store: one message at a time, no queries, no batches. What a turn
does to them stands in ``inbox_turn_model``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

Document = dict[str, Any]

RANKS: Final = {"sent": 1, "delivered": 2, "read": 3, "played": 4, "failed": 9}
FAILED: Final = RANKS["failed"]
WORKING: Final = ("new", "replying")  #: in these stages a death counts as an attempt
SUSPECT_FROM: Final = 2  #: crashes
NOBODY: Final = ""
SPILLED: Final = "spilled:"
UNDELIVERED: Final = "Meta could not deliver the reply"
PASSING: Final = 131016  #: an error of Meta's that may pass
MOST_RESENDS: Final = 3

_KEPT: Final = {
    *("conversation", "state", "stage", "owner", "epoch", "attempts", "place", "arrival", "deliveries", "crashes"),
    *("members", "outcome", "turn", "reason", "retried", "sends"),
}
#: What a process that reads a document believes of it as it stands.
_CLAIMED: Final = ("conversation", "owner", "epoch", "state", "stage", "attempts", "size")


def visible(stored: Mapping[str, Any]) -> Document:
    """Return what the model knows of a stored document."""
    seen = {key: value for key, value in stored.items() if key in _KEPT}
    if "reason" in seen:
        seen["reason"] = seen["reason"].partition(":")[0]
    if "parts" in stored:
        hidden = {"body", "void_attempts", "posted"}  # the second shows in which statuses count; the third is a clock
        seen["parts"] = [{key: part[key] for key in part if key not in hidden} for part in stored["parts"]]
    return {**seen, "size": len(stored["item"])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A status as a webhook brings it."""

    number: str
    customer: str
    message: str
    part: int
    attempt: int
    wamid: str
    name: str
    code: int | None = None
    at: int = 0


@dataclass(slots=True, kw_only=True)
class Node:
    """A process by its name among the others."""

    id: str
    joined: bool = False
    former: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a process has in memory when a round begins."""

    conversations: Collection[str]
    messages: Collection[str]
    waiting: Collection[str]  #: messages that wait for a status
    room: bool  #: for further conversations
    in_doubt: bool  #: whether the result of a write was unknown


@dataclass(slots=True, kw_only=True)
class Claim:
    """What a process believes of a message. By now it may be wrong."""

    id: str
    conversation: str
    owner: str
    epoch: int
    state: str
    stage: str
    attempts: int
    crashes: int
    order: tuple[int, int]
    size: int
    sends: int
    members: list[str]
    parts: list[Document]
    cleared: int | None = None  #: the part that is marked for a send which has not begun
    waited: bool = False  #: whether it waited for a status already

    @property
    def decided(self) -> bool:
        """Whether what will be said, or that nothing will be, is stored."""
        return bool(self.parts) or self.stage == "replying"

    @property
    def beliefs(self) -> Document:
        """What has to stand in the row that the process works on."""
        parts = [{key: part[key] for key in ("state", "attempt", "failures", "wamid", "rank")} for part in self.parts]
        known = {key: getattr(self, key) for key in ("owner", "epoch", "state", "stage", "attempts", "members")}
        return {**known, "parts": parts, "cleared": self.cleared}


def undelivered(code: int | None) -> str:
    """Return why a message died whose reply Meta reported as failed."""
    return f"{UNDELIVERED} (error {code})" if code else UNDELIVERED


def is_worth_another_send(part: Mapping[str, Any], code: int | None) -> bool:
    """Whether a part that failed is sent again."""
    return code == PASSING and part.get("resends", 0) < MOST_RESENDS


def order(document: Mapping[str, Any]) -> tuple[int, int]:
    """Return what decides who goes first."""
    return (document["place"], document["arrival"])


class Model:
    """All documents, and the rules. Each method returns what the hub has to return."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.nodes: dict[str, str] = {}  #: ``living``, ``dead`` or ``stopped``, by id
        self.since: dict[tuple[str, int], int] = {}  #: the last attempt that a retry has put an end to, by part

    @property
    def dead(self) -> dict[str, Document]:
        """The dead letters."""
        return {key: document for key, document in self.documents.items() if document["state"] == "dead"}

    @property
    def unfinished(self) -> dict[str, Document]:
        """What is neither done nor dead."""
        return {key: document for key, document in self.documents.items() if "owner" in document}

    # Arriving

    def insert(self, key: str, document: Document) -> str:
        """Store a message, unless it is there already or its conversation is locked."""
        if key in self.documents:
            return "duplicate"
        if document["state"] == "active" and self.is_locked(document["conversation"]):
            return "busy"
        self.documents[key] = document
        return "stored"

    def count_delivery(self, key: str, conversation: str) -> bool:
        """Count another copy where the first one is, whatever sender the copy names."""
        del conversation
        document = self.documents.get(key)
        if document is None:
            return False
        document["deliveries"] = document.get("deliveries", 0) + 1
        return True

    # The lock

    def is_locked(self, conversation: str) -> bool:
        """Whether a message of the conversation is active."""
        return any(d["state"] == "active" for d in self.documents.values() if d["conversation"] == conversation)

    def queued(self, conversation: str) -> list[str]:
        """Return what waits in a conversation, the oldest first."""
        here = {key: d for key, d in self.documents.items() if d["conversation"] == conversation}
        return sorted((key for key in here if here[key]["state"] == "queued"), key=lambda key: order(here[key]))

    def claim(self, key: str) -> Claim:
        """Return what a process believes that has just read a document."""
        document = deepcopy(self.documents[key])
        return Claim(
            id=key,
            order=order(document),
            sends=document.get("sends", 0),
            crashes=document.get("crashes", 0),
            members=document.get("members", []),
            parts=document.get("parts", []),
            **{name: document[name] for name in _CLAIMED},
        )

    def is_current(self, claim: Claim, state: str) -> bool:
        """Whether a write of this claim matches: owner and epoch still are the document's."""
        document = self.documents.get(claim.id, {})
        return [document.get(key) for key in ("owner", "epoch", "state")] == [claim.owner, claim.epoch, state]

    def promote(self, claim: Claim, owner: str) -> bool:
        """Make a queued message the active one, unless somebody was faster or the conversation is locked."""
        if not self.is_current(claim, "queued") or self.is_locked(claim.conversation):
            return False
        claim.state, claim.owner = "active", owner
        claim.epoch += 1
        claim.attempts += 1
        if claim.stage == "new" and claim.crashes >= SUSPECT_FROM:
            claim.stage = "backoff"
        document = self.documents[claim.id]
        document.update(state="active", stage=claim.stage, owner=owner, epoch=claim.epoch)
        document["attempts"] += 1
        return True

    # Statuses

    def apply(self, statuses: Sequence[Status], *, interrupted: bool = False) -> list[bool]:
        """Raise the ranks of parts; what was answered and failed is sent again or dies.

        Unless the database goes away before that.
        """
        matched = [self._raise_rank(status) for status in statuses]
        failed = [status for status in statuses if status.name == "failed" and not interrupted]
        for status in failed:
            self._reopen(status)
        for status in failed:
            self._kill(status)
        return matched

    def _raise_rank(self, status: Status) -> bool:
        part = self._find_part(status)
        if part is None:
            return False
        part["rank"] = max(part["rank"], RANKS[status.name])
        part["wamid"] = status.wamid
        part["times"] = {**part.get("times", {}), status.name: status.at}
        if status.name == "failed":
            part["error"] = status.code
        return True

    def _find_part(self, status: Status) -> Document | None:
        """Find the part that a status is about, if it was sent for that number, to that customer, as that attempt."""
        key = f"{status.number}:{status.message}"
        document = self.documents.get(key, {})
        parts = document.get("parts", ())
        if document.get("conversation") != f"{status.number}:{status.customer}" or status.part >= len(parts):
            return None
        part: Document = parts[status.part]
        # A delivery of an earlier attempt means that it is there; a failure of it says nothing of the present one.
        earliest = part["attempt"] if status.name == "failed" else 0
        fits = max(earliest, self.since.get((key, status.part), -1) + 1) <= status.attempt <= part["attempt"]
        return part if fits and part["wamid"] in {status.wamid, ""} else None

    def _reopen(self, status: Status) -> None:
        """Queue what was answered again, if what it failed of may pass: at its old place, for whoever finds it."""
        document = self._find_failed(status)
        if document is None or document["parts"][status.part]["attempt"] != status.attempt:
            return
        part = document["parts"][status.part]
        if not is_worth_another_send(part, status.code):
            return
        self.put_back(f"{status.number}:{status.message}", status.part, part, status.code)
        document.update(state="queued", stage="replying", owner=NOBODY, epoch=document["epoch"] + 1)
        document["attempts"] -= 1
        del document["outcome"]

    def put_back(self, key: str, index: int, part: Document, code: int | None) -> None:
        """Make a part that failed one that has still to be sent."""
        self.since[key, index] = part["attempt"]
        part.update(state="waiting", attempt=part["attempt"] + 1, wamid="", rank=0)
        part.update(heed=code, resends=part.get("resends", 0) + 1)

    def _kill(self, status: Status) -> None:
        document = self._find_failed(status)
        if document is not None:
            document.update(state="dead", reason=undelivered(status.code))
            del document["outcome"]

    def _find_failed(self, status: Status) -> Document | None:
        """Find what counts as answered though the part that a status is about has failed."""
        document = self.documents.get(f"{status.number}:{status.message}", {})
        parts = document.get("parts", ())
        ours = document.get("conversation") == f"{status.number}:{status.customer}" and status.part < len(parts)
        failed = ours and document.get("outcome") == "replied" and parts[status.part]["rank"] == FAILED
        return document if failed else None

    # Dead letters

    def retry(self, key: str, place: int, arrival: int) -> bool:
        """Queue a dead letter again, at the end; what reached the customer stays, the rest is sent or decided anew."""
        document = self.documents.get(key, {})
        if document.get("state") != "dead":
            return False
        parts: list[Document] = document.get("parts", [])
        sends = max([document.get("sends", 0), *(part["attempt"] for part in parts)])
        if not any(map(is_there, parts)):
            parts = []
        for index, part in enumerate(parts):
            if part["rank"] == FAILED:
                self.since[key, index] = part["attempt"]
            if not is_there(part):
                part.pop("heed", None)
                part.pop("resends", None)
                part.update(state="waiting", attempt=part["attempt"] + 1, failures=0, wamid="", rank=0)
        document.update(state="queued", stage="replying" if parts else "new", owner=NOBODY, attempts=0, place=place)
        document.update(arrival=arrival, retried=True, sends=sends, parts=parts, epoch=document["epoch"] + 1)
        del document["reason"]
        return True

    def discard(self, key: str) -> bool:
        """Put a dead letter away."""
        document = self.documents.get(key, {})
        if document.get("state") != "dead":
            return False
        document.update(state="done", outcome="discarded")
        return True

    # Nodes

    def join(self, node: Node, new_id: str) -> None:
        """A process appears under a new name, and gives up the old one."""
        if self.nodes.get(node.id) == "living":
            self.nodes[node.id] = "dead"
        node.former.add(node.id)
        node.id, node.joined = new_id, True
        self.nodes[new_id] = "living"

    def declare_dead(self, node_id: str, *, renewed: bool) -> bool:
        """Declare a node dead, unless it was faster."""
        if self.nodes.get(node_id) != "living" or renewed:
            return False
        self.nodes[node_id] = "dead"
        return True

    def stop(self, node: Node) -> None:
        """A process says that it stopped."""
        if node.id in self.nodes:
            self.nodes[node.id] = "stopped"

    def forget(self, node_id: str) -> None:
        """Nobody remembers a node any more that is not alive."""
        if self.nodes.get(node_id) != "living":
            self.nodes.pop(node_id, None)

    def round(self, node: Node, memory: Memory, *, sweeps: bool) -> tuple[list[str], list[str]] | None:
        """Take over and adopt: return what went into memory and what was told by a status; None where it is lost."""
        if self.nodes.get(node.id) != "living":
            node.joined = False
            return None
        owners = {d["owner"] for d in self.documents.values() if "owner" in d}
        gone = {o for o in owners if o == NOBODY or self.nodes.get(o, "living") != "living"}
        if sweeps:
            gone |= {o for o in owners if o not in self.nodes and not o.startswith(SPILLED)}
        taken = self._take([key for key, d in self.documents.items() if d.get("owner") in gone], node, memory, [])
        if memory.room:
            spilled = [key for key, d in self.documents.items() if d.get("owner", "").startswith(SPILLED)]
            taken += self._take(spilled, node, memory, taken)
        if memory.in_doubt:
            own = [key for key, d in self.documents.items() if d.get("owner") == node.id]
            taken += self._take([k for k in own if k not in {*memory.messages, *taken}], node, memory, taken)
        return taken, [key for key in memory.waiting if self._is_told(key)]

    def _take(self, keys: list[str], node: Node, memory: Memory, taken: list[str]) -> list[str]:
        known = {*memory.conversations, *(self.documents[key]["conversation"] for key in taken)}
        for key in keys:
            document = self.documents[key]
            if self._died(node, document["owner"]) and document["state"] == "active" and document["stage"] in WORKING:
                document["attempts"] += 1
                document["crashes"] = document.get("crashes", 0) + 1
                if document["stage"] == "new" and document["crashes"] >= SUSPECT_FROM:
                    document["stage"] = "backoff"  # from now on an attempt counts when it begins
            document["epoch"] += 1
            has_room = memory.room or document["conversation"] in known
            document["owner"] = node.id if has_room else SPILLED + document["conversation"].partition(":")[0]
        return [key for key in keys if self.documents[key]["owner"] == node.id]

    def _died(self, node: Node, owner: str) -> bool:
        """Whether work was cut short by a death: neither by a clean stop nor by a loss of our own."""
        ended_well = owner in {NOBODY, node.id, *node.former} or self.nodes.get(owner) == "stopped"
        return not ended_well and not owner.startswith(SPILLED)

    def _is_told(self, key: str) -> bool:
        return any(part["state"] == "sending" and part["rank"] > 0 for part in self.documents[key].get("parts", ()))


def is_there(part: Mapping[str, Any]) -> bool:
    """Whether a part has reached the customer, as far as is known."""
    return bool((part["state"] == "sent" or part["rank"] > 0) and part["rank"] != FAILED)
