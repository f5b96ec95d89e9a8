"""What is known of a dead letter, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.document import PartState, State

Event = tuple[datetime | None, str]

#: What customers write, or who they are, is not read in the first place.
_WITHOUT: Final = {"item": 0, "profile_name": 0, "conversation": 0, "parts.body": 0, "parts.words": 0, "said": 0}
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


async def read_timeline(database: Database, letter_id: str) -> list[Event]:
    """Return the events of a dead letter; those without a time come first. Empty where it is dead no more."""
    query = {"_id": letter_id, "state": State.DEAD.value}
    document = await database.inbox.find_one(query, _WITHOUT)
    return build_timeline(document) if document else []


def build_timeline(document: Mapping[str, Any]) -> list[Event]:
    """Put the events of an inbox document into their order."""
    return sorted(_find_events(document), key=lambda event: event[0] or _BEGINNING)


def _find_events(document: Mapping[str, Any]) -> Iterator[Event]:
    attempts, deliveries = document["attempts"], document.get("deliveries", 0)
    if origin := document.get("origin"):
        yield None, f"sent by the business itself, with its API key {origin['key']}"
    else:
        yield None, f"asked for an answer {attempts} time{'s' * (attempts != 1)}"
    if deliveries and origin:
        yield (
            None,
            f"asked for {deliveries} more time{'s' * (deliveries != 1)} under the same Idempotency-Key, and taken once",
        )
    elif deliveries:
        yield None, f"delivered by Meta {deliveries} more time{'s' * (deliveries != 1)}, and taken once"
    if document.get("retried"):
        yield _from_seconds(document["place"]), "put back by an operator"
    else:
        if not origin:
            yield _from_seconds(document["place"]), "written, by Meta's clock"
        yield _from_seconds(document["arrival"] / 1e9), "received"
    for number, part in enumerate(document.get("parts", ()), start=1):
        yield from _find_part_events(f"part {number} of the {'message' if origin else 'reply'}", part)
    if document.get("dead_at") is not None:
        yield document["dead_at"], f"given up: {document.get('reason') or 'no reason is known'}"


def _find_part_events(name: str, part: Mapping[str, Any]) -> Iterator[Event]:
    words = {
        PartState.WAITING.value: "was not sent",
        PartState.SENDING.value: "may have been sent",
        PartState.SENT.value: "was sent",
    }
    attempt = part["attempt"]
    counted = f", in {attempt} attempt{'s' * (attempt != 1)}" if attempt else ""
    yield None, f"{name} {words.get(part['state'], part['state'])}{counted}"
    for status, seconds in part.get("times", {}).items():
        error = f" (error {part['error']})" if status == "failed" and part.get("error") else ""
        yield _from_seconds(seconds), f"{name}: Meta says {status}{error}"


def _from_seconds(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # whatever the payload said
        return None
