"""What the console's pages are told of messages, as JSON (pure). No number, no name and no word of anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from whatsapp_hub.cloud_api.messages import FAILED_RANK, STATUS_RANKS, customer_of, phone_number_id_of
from whatsapp_hub.cloud_api.part_words import words_of
from whatsapp_hub.cloud_api.reading import read_text
from whatsapp_hub.inbox.dead import DeadLetter
from whatsapp_hub.inbox.dead_advice import advise
from whatsapp_hub.inbox.document import Outcome, Stage, State
from whatsapp_hub.inbox.timeline import Step, Timeline, build_timeline, from_ns, from_seconds
from whatsapp_hub.telemetry.redaction import outlined

Json = dict[str, Any]

_STAGES: Final = {
    Stage.NEW: ("", "being answered", "Its turn is on."),
    Stage.REPLYING: ("", "being sent", "What to say is decided; it is on its way to WhatsApp."),
    Stage.AMBIGUOUS: (
        "warn",
        "unclear",
        "The connection broke while it was sent. A status of Meta's decides within 30 s.",
    ),
    Stage.HELD: ("bad", "held", "Nothing can be sent for its business now. It goes on by itself once that is mended."),
    Stage.BACKOFF: ("warn", "waiting", "It is tried again soon; it may have failed before, or have to keep its pace."),
}
_OUTCOMES: Final = {
    Outcome.IN_TURN: ("good", "answered", "Answered together with another message."),
    Outcome.NO_REPLY: ("", "no answer", "Nothing had to be said, or the assistant said nothing."),
    Outcome.DISCARDED: ("", "discarded", "An operator put it away; it gets no answer."),
}
_RANKS: Final = {
    STATUS_RANKS["sent"]: "sent",
    STATUS_RANKS["delivered"]: "delivered",
    STATUS_RANKS["read"]: "read",
    STATUS_RANKS["played"]: "read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a message stands, for people."""

    tone: str  #: good, warn, bad, or empty for neither
    label: str  #: one or two words
    words: str  #: a sentence

    def to_json(self) -> Json:
        """Return it as pages are told it."""
        return {"tone": self.tone, "label": self.label, "words": self.words}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How numbers and conversations are called."""

    business_of: Callable[[str], str | None]  #: the subdomain, by phone number id
    reference_to: Callable[[str], str]

    def of(self, conversation: str) -> Json:
        """Return who talks with whom."""
        number = phone_number_id_of(conversation)
        return {
            "conversation": self.reference_to(conversation),
            "business": self.business_of(number),
            "phone_number_id": number,
            "customer": outlined(customer_of(conversation)),
        }


def standing_of(document: Mapping[str, Any]) -> Standing:
    """Say where a message stands."""
    state = State(document["state"])
    if state is State.QUEUED:
        return Standing(tone="", label="queued", words="It waits for an earlier message of its conversation.")
    if state is State.DEAD:
        return Standing(tone="bad", label="dead letter", words=_sentence(document.get("reason") or "not answered"))
    if state is State.ACTIVE:
        stage = Stage(document["stage"])
        tone, label, words = _STAGES[stage]
        reason = f" {_sentence(document['reason'])}" if stage is Stage.HELD and document.get("reason") else ""
        return Standing(tone=tone, label=label, words=f"{words}{reason}")
    outcome = document.get("outcome")
    if outcome in _OUTCOMES:
        tone, label, words = _OUTCOMES[Outcome(outcome)]
        return Standing(tone=tone, label=label, words=words)
    return _answered(document)


def _answered(document: Mapping[str, Any]) -> Standing:
    ranks = [part.get("rank", 0) for part in document.get("parts", ()) if not part.get("dropped")]
    if FAILED_RANK in ranks:
        return Standing(tone="warn", label="failed", words="Meta could not deliver a part of it.")
    label = _RANKS.get(min(ranks, default=0), "accepted")
    return Standing(tone="good", label=label, words="All of it was accepted by WhatsApp.")


def message_view(document: Mapping[str, Any], turn: Mapping[str, Any] | None, names: Names) -> Json:
    """Return what the page of one message shows."""
    timeline = build_timeline(document, turn)
    is_dead = document["state"] == State.DEAD.value
    return names.of(document["conversation"]) | {
        "id": document["_id"],
        "kind": kind_of(document),
        "standing": standing_of(document).to_json(),
        "ended": document["state"] in {State.DEAD.value, State.DONE.value},
        "dead": is_dead,
        "advice": advise(document.get("reason", "")) if is_dead else None,
        "received_at": told(received_at(document)),
        "turn": document.get("turn"),
        "members": list(document.get("members", ())),
        "parts": len((turn or document).get("parts", ())),
        **_timeline_view(timeline),
    }


def _timeline_view(timeline: Timeline) -> Json:
    return {
        "facts": list(timeline.facts),
        "steps": [_step_view(step) for step in timeline.steps],
        "reply_s": timeline.reply_s,
    }


def _step_view(step: Step) -> Json:
    return {
        "kind": step.kind.value,
        "words": step.words,
        "at": told(step.at),
        "since_s": step.since_s,
        "is_rough": step.is_rough,
        "clock": step.clock.value,
        "part": step.part,
    }


def row_view(document: Mapping[str, Any]) -> Json:
    """Return one line of a conversation."""
    return {
        "id": document["_id"],
        "kind": kind_of(document),
        "received_at": told(received_at(document)),
        "standing": standing_of(document).to_json(),
        "reply_s": build_timeline(document).reply_s,
        "parts": len(document.get("parts", ())),
        "turn": document.get("turn"),
        "kept": True,
    }


def past_view(turn: Mapping[str, Any]) -> Json:
    """Return one line of a conversation of which the history alone is left."""
    by_human = bool(turn.get("by_human"))
    words = (
        "Somebody at the business wrote it." if by_human else "Its steps have expired; what was said is kept longer."
    )
    label = "by a person" if by_human else "answered"
    return {
        "id": turn["id"],
        "kind": "text",
        "received_at": told(from_seconds(turn["at"]) if "at" in turn else None),
        "standing": Standing(tone="", label=label, words=words).to_json(),
        "reply_s": None,
        "parts": 0,
        "turn": None,
        "kept": False,
    }


def conversation_view(history: Mapping[str, Any], active: Mapping[str, Any] | None, names: Names) -> Json:
    """Return one line of the list of conversations."""
    return names.of(history["_id"]) | {
        "updated_at": told(history.get("updated_at")),
        "turns": len(history.get("turns", ())),
        "standing": standing_of(active).to_json() if active else None,
    }


def waiting_view(row: Mapping[str, Any], names: Names) -> Json:
    """Return one line of the list of what waits."""
    return names.of(row["conversation"]) | {
        "id": row["_id"],
        "received_at": told(received_at(row)),
        "standing": standing_of(row).to_json(),
    }


def letter_view(letter: DeadLetter, names: Names) -> Json:
    """Return one line of the list of dead letters."""
    return {
        "id": letter.id,
        "business": names.business_of(letter.phone_number_id),
        "phone_number_id": letter.phone_number_id,
        "reason": letter.reason,
        "advice": advise(letter.reason),
        "attempts": letter.attempts,
        "received_at": told(letter.received_at),
        "died_at": told(letter.died_at),
        "parts": letter.parts,
        "parts_sent": letter.parts_sent,
        "members": len(letter.members),
        "retried": letter.retried,
    }


def words_view(document: Mapping[str, Any], turn: Mapping[str, Any] | None = None) -> Json:
    """Return what was said: by the customer, and to the customer."""
    parts: Sequence[Mapping[str, Any]] = (turn or document).get("parts", ())
    asked = "" if "origin" in document else document.get("said") or read_text(bytes(document["item"]))[1]
    return {
        "id": document["_id"],
        "asked": asked,
        "answered": [part.get("words") or words_of(bytes(part["body"])) for part in parts if not part.get("dropped")],
    }


def kind_of(document: Mapping[str, Any]) -> str:
    """Return Meta's kind of a message; ``sent`` for one that the business sent by itself."""
    return "sent" if "origin" in document else read_text(bytes(document["item"]))[0]


def received_at(document: Mapping[str, Any]) -> datetime | None:
    """Return when a message came, first of all."""
    return from_ns((document.get("first") or document)["arrival"])


def told(moment: datetime | None) -> str | None:
    """Return a moment as pages are told it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '?', '!')) else '.'}"
