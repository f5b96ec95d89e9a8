"""I2, everything is answered once: by one turn, to whom it belongs, and seen by the customer once (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.sightings import Row, Sightings, is_retried, leader_of
from whatsapp_hub.inbox.document import Outcome, State


def check_every_row_is_covered(seen: Sightings) -> Iterator[str]:
    for row in seen.rows.values():
        match row["state"]:
            case State.DEAD:
                if not row.get("reason"):
                    yield f"{seen.name(row['_id'])} is dead without a reason"
            case State.DONE:
                yield from _find_uncovered(seen, row)


def _find_uncovered(seen: Sightings, row: Row) -> Iterator[str]:
    name = seen.name(row["_id"])
    match row.get("outcome"):
        case Outcome.REPLIED:
            yield from _find_unsent(seen, row)
        case Outcome.IN_TURN:
            yield from _find_unanswered_member(seen, row)
        case Outcome.NO_REPLY:
            if row["_id"].partition(":")[0] not in seen.history.silent_numbers:
                yield f"{name} is done without a reply"
        case Outcome.DISCARDED:
            pass
        case outcome:
            yield f"{name} is done as {outcome!r}, which is no outcome"


def _find_unsent(seen: Sightings, row: Row) -> Iterator[str]:
    name, parts = seen.name(row["_id"]), len(row.get("parts", ()))
    sent = {copy.part for copy in seen.accepted[row["_id"]]}
    if not parts:
        yield f"{name} is done as replied, without a part"
    for part in range(parts):
        if part not in sent:
            yield f"{name} is done as replied, but its part {part} was never sent"
    yield from _find_unsaid(seen, row)


def _find_unanswered_member(seen: Sightings, row: Row) -> Iterator[str]:
    name = seen.name(row["_id"])
    leader = seen.rows.get(leader_of(row))
    if leader is None:
        yield f"{name} was taken into the turn of a message that has no row"
    elif leader.get("outcome") == Outcome.IN_TURN or leader["conversation"] != row["conversation"]:
        yield f"{name} was taken into a turn that is none of its conversation"
    elif row["_id"] not in leader.get("members", ()):
        yield f"{name} was taken into the turn of {seen.name(leader['_id'])}, which does not know it"
    elif leader.get("outcome") == Outcome.REPLIED:
        yield from _find_unsaid(seen, row)


def _find_unsaid(seen: Sightings, row: Row) -> Iterator[str]:
    message, copies = seen.messages.get(row["_id"]), seen.accepted[leader_of(row)]
    if any(copy.sending.text in seen.history.fallback_texts for copy in copies):
        return
    if message is not None and all(message.label not in copy.labels for copy in copies):
        yield f"{message.label} is done, but nothing that was sent for it says it"


def check_members_are_done(seen: Sightings) -> Iterator[str]:
    for row in seen.rows.values():
        if row["state"] not in {State.DONE, State.DEAD}:
            continue
        for member in row.get("members", ()):
            if member not in seen.rows or leader_of(seen.rows[member]) != row["_id"]:
                yield f"{seen.name(member)} was answered in the turn of {seen.name(row['_id'])} and does not know it"


def check_answers_reach_who_asked(seen: Sightings) -> Iterator[str]:
    for sending in seen.nameless:
        if sending.accepted:
            yield f"number {sending.number} sent something that names no message of its customer"
    for copy in seen.all_accepted:
        message = seen.messages.get(copy.row_id)
        if message is None:
            yield f"number {copy.sending.number} answered {copy.row_id}, which nobody sent to it"
        elif message.customer != copy.sending.customer:
            yield f"the answer to {message.label} went to another customer"
        elif copy.row_id not in seen.rows:
            yield f"{message.label} was answered and has no row"


def check_labels_are_said_in_one_turn(seen: Sightings) -> Iterator[str]:
    found = {(label, copy.row_id) for copy in seen.all_accepted for label in copy.labels}
    for label, turn in sorted(found):
        message = seen.labels[label]
        row = seen.rows.get(message.key)
        if row is None:
            yield f"{label} was said in the turn of {seen.name(turn)} and has no row"
        elif turn != leader_of(row) and not (is_retried(row) and turn == message.key):
            yield f"{label} was said in the turn of {seen.name(turn)}, which is not the one that answers it"


def check_copies_are_told(seen: Sightings) -> Iterator[str]:
    for (row_id, part), copies in seen.copies.items():
        row = seen.rows.get(row_id)
        if row is None:
            continue
        name = f"part {part} of {seen.name(row_id)}"
        if len({copy.attempt for copy in copies}) < len(copies):
            yield f"{name} was seen twice under one attempt"
        if part < len(row.get("parts", ())):
            stored = row["parts"][part]
            told = stored["attempt"] - (0 if is_retried(row) else stored["failures"])
            if len(copies) > told or any(copy.attempt > stored["attempt"] for copy in copies):
                yield f"{name} was seen {len(copies)} times, and its row tells of {told}"
        elif not is_retried(row):
            yield f"{name} was seen, and its row has no such part"


def check_copies_say_the_same(seen: Sightings) -> Iterator[str]:
    for (row_id, part), copies in seen.copies.items():
        if len({copy.sending.text for copy in copies}) > 1 and not seen.is_excepted(row_id):
            yield f"the copies of part {part} of {seen.name(row_id)} differ"


def check_no_copy_that_a_status_would_have_spared(seen: Sightings) -> Iterator[str]:
    if not seen.history.statuses_echoed:
        return
    extra = {key: len(copies) - 1 for key, copies in seen.copies.items() if not seen.is_excepted(key[0])}
    if sum(extra.values()) > seen.history.allowed_copies:
        names = ", ".join(f"part {part} of {seen.name(row_id)}" for (row_id, part), more in extra.items() if more)
        yield f"{sum(extra.values())} copies too many, {seen.history.allowed_copies} are allowed: {names}"
