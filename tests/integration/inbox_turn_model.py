"""A turn on the model of the inbox: what one message's way to its answer does to the documents (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from tests.integration.inbox_model import FAILED, Claim, Document, Model, is_worth_another_send, order, undelivered

MOST_ATTEMPTS: Final = 5
MOST_GATHERED: Final = 50
MOST_CHARACTERS: Final = 16_000
GATHERS_UNTIL: Final = 2
TOO_OLD: Final = 1_000_000  #: places below it were written too long ago

UNSERVED: Final = "no business has this number"
REFUSED: Final = "a parameter is wrong"
SWITCHED_OFF: Final = "the business was switched off before its reply was sent"

# How a stretch of a turn ends.
FINISHED: Final = "finished"
STEPPED_BACK: Final = "stepped back"
WAITS: Final = "waits"
PAUSED: Final = "paused"  #: for an answer of the assistant or of Graph
LET_GO: Final = "let go"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the world does in one stretch of a turn. Where the script ends, the turn waits for an answer."""

    reply: int | str = 1  #: how many parts the assistant answers with; or it ``fails``, or the turn is ``paused``
    sends: tuple[str, ...] = ()  #: ``sent``, ``sent, no id``, ``refused``, ``unknown`` or ``dead``


class Ended(Exception):
    """A stretch of a turn ends here."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


def wamid_of(key: str, part: int, attempt: int) -> str:
    """Return what Graph calls a send."""
    return f"out.{key.partition(':')[2]}.{part}.{attempt}"


def _new_part(attempt: int) -> Document:
    return {"state": "waiting", "attempt": attempt, "failures": 0, "wamid": "", "rank": 0}


class TurnModel:
    """The turns of all processes."""

    def __init__(self, model: Model) -> None:
        """Work on these documents."""
        self.model = model
        self.businesses: dict[str, str] = {}  #: ``fine``, ``off`` or ``unserved``, by number
        self.sent: list[tuple[str, int, int]] = []  #: message, part and attempt of all that Graph took
        self.begun: dict[tuple[str, int, int], str] = {}  #: what Graph may have got, and for which customer
        self.writes_left: int | None = None  #: before the database goes away; None: it stays

    def advance(self, claim: Claim, script: Script) -> str:
        """Go one stretch: until the turn ends, waits, or would hear from the assistant or from Graph."""
        try:
            self._go_on(claim, script)
            self._finish(claim)
        except Ended as ended:
            return ended.how
        return FINISHED

    def _go_on(self, claim: Claim, script: Script) -> None:
        if claim.decided:
            self.finish_members(claim)
        if claim.stage != "ambiguous" and claim.order[0] < TOO_OLD:
            self._bury(claim, "too old")
        business = self.businesses[claim.conversation.partition(":")[0]]
        if not claim.decided:
            if claim.attempts > MOST_ATTEMPTS:
                self._bury(claim, f"failed {MOST_ATTEMPTS} times")
            if business == "unserved":
                self._hold(claim)
            if business == "fine":
                self._decide(claim, script)
        if claim.parts:
            if business == "unserved":
                self._hold(claim)
            if business == "off":
                self._bury(claim, SWITCHED_OFF)
            self._deliver(claim, iter(script.sends))

    # What is said

    def _decide(self, claim: Claim, script: Script) -> None:
        members = self._gather(claim)
        if claim.stage != "new":
            self._write(claim, (), stage="new")  # from now on a death counts
        match script.reply:
            case "paused":
                raise Ended(PAUSED)
            case "fails":
                if claim.attempts >= MOST_ATTEMPTS:
                    self._bury(claim, f"failed {MOST_ATTEMPTS} times")
                claim.attempts += 1
                self._wait(claim, "backoff")
            case count:
                claim.members, claim.parts = members, [_new_part(claim.sends) for _ in range(int(count))]
        if claim.parts or claim.members:
            self._commit(claim)

    def _gather(self, claim: Claim) -> list[str]:
        """Choose what else the turn answers: in order, as much as fits; older ones that fill it go first."""
        documents = self.model.documents
        waiting = self.model.queued(claim.conversation)
        if claim.attempts > GATHERS_UNTIL:
            if any(order(documents[key]) < claim.order for key in waiting):
                self._step_back(claim)
            waiting = []
        alone = {key for key in waiting if documents[key]["attempts"] >= GATHERS_UNTIL}
        alone |= {key for key in waiting if documents[key].get("members") or documents[key].get("parts")}
        candidates = [(order(documents[key]), key, documents[key]["size"]) for key in [*waiting, *claim.members]]
        taken: list[str] = []
        characters = 0
        for _, key, size in sorted([*candidates, (claim.order, claim.id, claim.size)]):
            characters += size
            if key in alone or (taken and (len(taken) == MOST_GATHERED or characters > MOST_CHARACTERS)):
                break
            taken.append(key)
        if claim.id not in taken:
            self._step_back(claim)
        return [key for key in taken if key != claim.id]

    def _commit(self, claim: Claim) -> None:
        """Store what is said, and what it answers, before anything is sent."""
        if claim.parts:
            self._begin(claim, 0)
        self._ours(claim).update(members=list(claim.members), parts=deepcopy(claim.parts), stage="replying")
        if claim.sends:
            self.model.since.update({(claim.id, index): claim.sends for index in range(len(claim.parts))})
        claim.stage = "replying"
        self.finish_members(claim)

    def finish_members(self, claim: Claim) -> None:
        """What a turn answers along with its own message is done. Anyone may say so, any number of times."""
        if claim.members:
            self._spend()
        for key in claim.members:
            member = self.model.documents[key]
            if member["state"] == "queued":
                member.update(state="done", outcome="in_turn", turn=claim.id)
                del member["owner"]

    # How it gets out

    def _deliver(self, claim: Claim, answers: Iterator[str]) -> None:
        """Send the parts, one after the other. The last one is settled together with the outcome."""
        for index, part in enumerate(claim.parts):
            if part["rank"] == FAILED:
                self._take_back(claim, index)
            if _is_through(part):
                continue
            if part["state"] == "sending" and claim.cleared != index:
                self._clear_up(claim, index)
            if part.get("heed", -1) != -1:
                part["heed"] = -1
                part["failures"] += 1
                self._wait(claim, "backoff")
            if part["state"] == "waiting":
                self._begin_durably(claim, index)
            if claim.cleared == index:
                self._send(claim, index, next(answers, PAUSED))
            if index + 1 < len(claim.parts):
                if not _is_through(claim.parts[index + 1]):
                    self._begin(claim, index + 1)
                self._write(claim, (index, index + 1), stage="replying")

    def _send(self, claim: Claim, index: int, answer: str) -> None:
        part = claim.parts[index]
        if answer in {PAUSED, "sent", "sent, no id", "unknown"}:
            self.begun[claim.id, index, part["attempt"]] = claim.conversation.partition(":")[2]
        if answer == PAUSED:
            raise Ended(PAUSED)
        claim.cleared = None
        match answer:
            case "sent" | "sent, no id":
                self.sent.append((claim.id, index, part["attempt"]))
                part["state"] = "sent"
                if answer == "sent":
                    part["wamid"] = wamid_of(claim.id, index, part["attempt"])
            case "unknown":
                claim.waited = True
                self._wait(claim, "ambiguous")
            case "dead":
                part["state"] = "waiting"
                self._bury(claim, REFUSED)
            case "refused":
                part["state"] = "waiting"
                part["failures"] += 1
                self._wait(claim, "backoff")

    def _clear_up(self, claim: Claim, index: int) -> None:
        """Nobody knows whether a part was sent: a status tells, or else it is sent again after the wait."""
        if not self.model.is_current(claim, "active"):
            raise Ended(LET_GO)
        part, stored = claim.parts[index], self.model.documents[claim.id]["parts"][index]
        part.update(rank=stored["rank"], wamid=stored["wamid"], error=stored.get("error"))
        if part["rank"] == FAILED:
            self._take_back(claim, index)
        elif part["rank"] > 0:
            part["state"] = "sent"
        elif claim.stage != "ambiguous" or not claim.waited:
            claim.waited = True
            self._wait(claim, "ambiguous")
        else:
            self._begin_durably(claim, index)

    def _take_back(self, claim: Claim, index: int) -> None:
        """See to a part that failed: it is sent again, or the message dies of it."""
        part = claim.parts[index]
        if not is_worth_another_send(part, part.get("error")):
            self._bury(claim, undelivered(part.get("error")))
        stored = self._ours(claim)
        self.model.put_back(claim.id, index, stored["parts"][index], part["error"])
        part.update(stored["parts"][index])
        stored["stage"] = claim.stage = "replying"

    def _begin(self, claim: Claim, index: int) -> None:
        part, claim.cleared = claim.parts[index], index
        part["state"] = "sending"
        part["attempt"] += 1

    def _begin_durably(self, claim: Claim, index: int) -> None:
        """Mark a part for its next send, unless a status says that an earlier one reached the customer."""
        self._begin(claim, index)
        if self.model.is_current(claim, "active") and self.model.documents[claim.id]["parts"][index]["rank"] > 0:
            raise Ended(LET_GO)
        self._write(claim, (index,), stage="replying")

    # How it ends

    def _hold(self, claim: Claim) -> None:
        if claim.stage != "held":
            self._write(claim, range(len(claim.parts)), stage="held", reason=UNSERVED)
        raise Ended(WAITS)

    def _wait(self, claim: Claim, stage: str) -> None:
        self._write(claim, range(len(claim.parts)), stage=stage, attempts=claim.attempts)
        raise Ended(WAITS)

    def _step_back(self, claim: Claim) -> None:
        """Go behind older ones; the next promotion counts an attempt, and this one was none."""
        self._ours(claim).update(state="queued", stage="new", attempts=claim.attempts - 1)
        raise Ended(STEPPED_BACK)

    def _finish(self, claim: Claim) -> None:
        """Release the lock, but not against a ``failed`` status that was faster."""
        document = self.model.documents[claim.id]
        if self.model.is_current(claim, "active") and any(p["rank"] == FAILED for p in document.get("parts", ())):
            self._spend()
            for part, stored in zip(claim.parts, document["parts"], strict=True):
                part.update(rank=stored["rank"], wamid=stored["wamid"] or part["wamid"], error=stored.get("error"))
            self._deliver(claim, iter(()))
        outcome = "replied" if claim.parts else "no_reply"
        self._write(claim, (len(claim.parts) - 1,), state="done", outcome=outcome)
        del document["owner"]

    def _bury(self, claim: Claim, reason: str) -> None:
        self._write(claim, range(len(claim.parts)), state="dead", reason=reason, attempts=claim.attempts)
        del self.model.documents[claim.id]["owner"]
        raise Ended(FINISHED)

    # Writing

    def _write(self, claim: Claim, indexes: Iterable[int], **values: Any) -> None:
        """Write what the turn knows of these parts. Ranks belong to the statuses."""
        document = self._ours(claim)
        document.update(values)
        for index in set(indexes) & set(range(len(claim.parts))):
            part, stored = claim.parts[index], document["parts"][index]
            stored.update({key: part[key] for key in ("state", "attempt", "failures")})
            stored["wamid"] = part["wamid"] or stored["wamid"]
            if "heed" in part:
                stored["heed"] = part["heed"]
        claim.stage = values.get("stage", claim.stage)

    def _ours(self, claim: Claim) -> Document:
        """Return the document for a fenced write; the turn lets go where it is another's by now."""
        self._spend()
        if not self.model.is_current(claim, "active"):
            raise Ended(LET_GO)
        return self.model.documents[claim.id]

    def _spend(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Ended(LET_GO)


def _is_through(part: Document) -> bool:
    return bool(part["state"] == "sent" or part["rank"] > 0)
