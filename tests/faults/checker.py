"""Whether a history keeps what the hub promises (pure). One small function for each clause of an invariant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.faults import once, order
from tests.faults.history import Delivery, History
from tests.faults.sightings import Sightings
from whatsapp_hub.inbox.document import State

#: The driver hangs up after 5 s, and its timer may be a little early.
SLOWEST_S: Final = 4.9


def check(history: History) -> list[str]:
    """Return what is wrong, each beginning with the id of the invariant that is hurt; nothing if all hold."""
    seen = Sightings(history)
    return [f"{invariant} {violation}" for invariant, clause in CLAUSES for violation in clause(seen)]


# I1: nothing acknowledged is lost


def check_durability(seen: Sightings) -> Iterator[str]:
    for message in seen.history.messages:
        if message.acked_at is not None and message.key not in seen.rows:
            yield f"{message.label} was acknowledged and has no row"


def check_rows_hold_their_message(seen: Sightings) -> Iterator[str]:
    for key, message in seen.messages.items():
        row = seen.rows.get(key)
        if row is None:
            continue
        if row["conversation"] != f"{message.number}:{message.customer}":
            yield f"{message.label} is stored under another conversation"
        if message.label.encode() not in bytes(row["item"]):
            yield f"{message.label} is not what its row holds"


# I4 and I5: nothing comes from nowhere, nothing stays behind


def check_rows_are_messages(seen: Sightings) -> Iterator[str]:
    for row_id, times in Counter(row["_id"] for row in seen.history.rows).items():
        if times > 1:
            yield f"{seen.name(row_id)} has {times} rows"
        if row_id not in seen.messages:
            yield f"{row_id} has a row, and nobody sent it"


def check_states_add_up(seen: Sightings) -> Iterator[str]:
    counts = Counter(str(row["state"]) for row in seen.rows.values())
    for state in sorted(counts.keys() - set(State)):
        yield f"{counts[state]} rows are in the state {state!r}, which is none"
    left = counts[State.ACTIVE] + counts[State.QUEUED]
    if seen.history.at_rest and left:
        yield f"at rest, {left} rows are neither done nor dead"


def check_nothing_stays_behind(seen: Sightings) -> Iterator[str]:
    for row in seen.rows.values() if seen.history.at_rest else ():
        if row["state"] in {State.ACTIVE, State.QUEUED}:
            yield f"{seen.name(row['_id'])} is still {row['state']}, in the stage {row['stage']}"
        elif "owner" in row:
            yield f"{seen.name(row['_id'])} is {row['state']} and has an owner"


def check_recovery_is_quick(seen: Sightings) -> Iterator[str]:
    for recovery in seen.history.recoveries:
        if recovery.first_progress_at is None:
            yield "nothing went on after a fault was over"
        elif (took_s := recovery.first_progress_at - recovery.cleared_at) > recovery.limit_s:
            yield f"it took {took_s:.1f} s until something went on after a fault, {recovery.limit_s:.1f} are allowed"


# I9: an answer to a webhook is honest


def check_what_was_answered_200_is_stored(seen: Sightings) -> Iterator[str]:
    for message in seen.history.messages:
        if message.key not in seen.rows and any(delivery.status == 200 for delivery in message.deliveries):
            yield f"{message.label} was answered 200 and has no row"


def check_refusals_are_honest(seen: Sightings) -> Iterator[str]:
    for message in seen.history.messages:
        for delivery in message.deliveries:
            if not _is_honest(delivery):
                again = "with" if delivery.retry_after else "without"
                yield f"{message.label} was answered {delivery.status} {again} Retry-After"


def _is_honest(delivery: Delivery) -> bool:
    match delivery.status:
        case 0 | 200:
            return True
        case 503:
            return delivery.retry_after
        case 502 | 504:
            return "nginx" in delivery.body  # its own page: no hub answered
    return False


def check_answers_are_quick(seen: Sightings) -> Iterator[str]:
    for message in seen.history.messages:
        for delivery in message.deliveries:
            took_s = delivery.ended_at - delivery.began_at
            if took_s > SLOWEST_S and not seen.was_paused(delivery.began_at, delivery.ended_at):
                yield f"{message.label} waited {took_s:.1f} s for an answer"


# I11: a status never goes back


def check_ranks_never_fall(seen: Sightings) -> Iterator[str]:
    greatest: dict[tuple[str, int, int], int] = defaultdict(int)
    for look in [*seen.history.ranks, *seen.last_ranks()]:
        key = (look.row_id, look.part, look.attempt)
        if look.rank < greatest[key]:
            yield f"part {look.part} of {seen.name(look.row_id)} fell from rank {greatest[key]} to {look.rank}"
        greatest[key] = max(greatest[key], look.rank)


# I12: nothing is given away


def check_nothing_is_told(seen: Sightings) -> Iterator[str]:
    bodies = {delivery.body for message in seen.history.messages for delivery in message.deliveries}
    for name, text in [*seen.history.texts, *(("the answer to a webhook", body) for body in sorted(bodies))]:
        for secret in sorted(seen.history.secrets):
            if (at := text.find(secret)) >= 0:
                yield f"{name} tells a secret of {len(secret)} characters in line {text.count(chr(10), 0, at) + 1}"


Clause = Callable[[Sightings], Iterator[str]]
CLAUSES: Final[Sequence[tuple[str, Clause]]] = (
    ("I1", check_durability),
    ("I1", check_rows_hold_their_message),
    ("I2", once.check_every_row_is_covered),
    ("I2", once.check_members_are_done),
    ("I2", once.check_answers_reach_who_asked),
    ("I2", once.check_labels_are_said_in_one_turn),
    ("I2", once.check_copies_are_told),
    ("I2", once.check_copies_say_the_same),
    ("I2", once.check_no_copy_that_a_status_would_have_spared),
    ("I3", order.check_messages_are_answered_in_order),
    ("I3", order.check_parts_are_in_order),
    ("I3", order.check_turns_do_not_mix),
    ("I3", order.check_sendings_do_not_overlap),
    ("I4", check_rows_are_messages),
    ("I4", check_states_add_up),
    ("I5", check_nothing_stays_behind),
    ("I5", check_recovery_is_quick),
    ("I9", check_what_was_answered_200_is_stored),
    ("I9", check_refusals_are_honest),
    ("I9", check_answers_are_quick),
    ("I11", check_ranks_never_fall),
    ("I12", check_nothing_is_told),
)
