"""What is known of a conversation when a turn begins, read from the documents of all names of its customer (pure).

A document says under which other names the same person is known (``aliases``). Its marks (``human_at``,
``resumed_at``, ``paused_until``) are of the person, whatever name they were told for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from whatsapp_hub.assistants.base import PastTurn
from whatsapp_hub.cloud_api.messages import ConversationId, conversation_id, customer_of, phone_number_id_of

MAX_NAMES: Final = 8  #: of one person; what is beyond is not looked at

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is known of a conversation."""

    turns: tuple[PastTurn, ...] = ()  #: oldest first
    is_joined: bool = True  #: the names that were asked for are known to be one person's
    human_at: datetime | None = None  #: when somebody else last answered
    resumed_at: datetime | None = None
    paused_until: datetime | None = None

    def is_silenced(self, now: datetime, pause: timedelta) -> bool:
        """Tell whether the assistant has to be silent; ``pause`` is how long another's answer counts."""
        if self.paused_until is not None and now < self.paused_until:
            return True
        if self.human_at is None or (self.resumed_at is not None and self.human_at <= self.resumed_at):
            return False
        return now < self.human_at + pause


def reachable(conversation: ConversationId, names: Iterable[str], documents: Documents) -> list[ConversationId]:
    """Return the ids of the documents of one person, as far as the documents at hand tell; the first is its own."""
    number = phone_number_id_of(conversation)
    found = list(dict.fromkeys([conversation, *(conversation_id(number, name) for name in names)]))
    for at in found:  # grows while it is walked through
        aliases = documents[at].get("aliases", ()) if at in documents else ()
        for alias in aliases:
            other = conversation_id(number, alias)
            if other not in found and len(found) < MAX_NAMES:
                found.append(other)
    return found[:MAX_NAMES]


def alias_ids(document: Mapping[str, Any]) -> set[ConversationId]:
    """Return the ids of the documents that a document leads to."""
    aliases = document.get("aliases")
    number = phone_number_id_of(document["_id"]) if aliases else ""
    return {conversation_id(number, alias) for alias in aliases or ()}


def remember(
    conversation: ConversationId, names: Sequence[str], documents: Documents, *, keep_turns: int
) -> Remembered:
    """Put together what the documents of one person say; ``names`` are further ones that a message has just told."""
    known = [documents[key] for key in reachable(conversation, names, documents) if key in documents]
    turns = sorted((turn for one in known for turn in one.get("turns", ())), key=_order)
    resumed_at = _latest(known, "resumed_at")
    return Remembered(
        turns=tuple(map(_read_turn, turns[-keep_turns:])) if keep_turns else (),
        is_joined=all(_are_joined(conversation, name, documents) for name in names),
        human_at=_latest(known, "human_at"),
        resumed_at=resumed_at,
        paused_until=_latest([one for one in known if _pause_counts(one, resumed_at)], "paused_until"),
    )


def _order(turn: Mapping[str, Any]) -> tuple[int, int]:
    return turn.get("at", 0), turn.get("arrival", 0)


def _read_turn(turn: Mapping[str, Any]) -> PastTurn:
    # What was stored by an older version has no time: it came before all that has.
    return PastTurn(
        customer=turn["customer"],
        reply=turn["reply"],
        timestamp=turn.get("at", 0),
        by_human=turn.get("by_human", False),
    )


def _are_joined(conversation: ConversationId, name: str, documents: Documents) -> bool:
    other = conversation_id(phone_number_id_of(conversation), name)
    there, back = documents.get(conversation, {}), documents.get(other, {})
    return name in there.get("aliases", ()) and customer_of(conversation) in back.get("aliases", ())


def _pause_counts(document: Mapping[str, Any], resumed_at: datetime | None) -> bool:
    paused_at = document.get("paused_at")
    return paused_at is not None and (resumed_at is None or paused_at > resumed_at)


def _latest(documents: Sequence[Mapping[str, Any]], field: str) -> datetime | None:
    return max((document[field] for document in documents if field in document), default=None)
