"""I3, everything is answered in order: messages, the parts of a turn, and one sending after the other (pure)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter

from tests.faults.history import Message
from tests.faults.sightings import PartKey, Sent, Sightings

Position = tuple[int, int]  # which sending of its conversation, which word of its text
Stairs = list[tuple[int, Position, str]]  # timestamp, position, label: both of the first rise


def check_messages_are_answered_in_order(seen: Sightings) -> Iterator[str]:
    messages: dict[tuple[str, str], list[Message]] = defaultdict(list)
    for message in seen.messages.values():
        messages[message.number, message.customer].append(message)
    for conversation, sendings in seen.conversations.items():
        positions = _find_positions(seen, sendings)
        answered = [message for message in messages[conversation] if message.label in positions]
        for earlier, later in _find_overtaken(answered, positions):
            yield f"{later} was answered before {earlier}"


def _find_positions(seen: Sightings, sendings: Sequence[Sent]) -> dict[str, Position]:
    """Return where each label was first said; those of retried dead letters have no place."""
    positions: dict[str, Position] = {}
    for index, copy in enumerate(sendings):
        if copy.sending.accepted:
            for word, label in enumerate(copy.labels):
                if not seen.is_excepted(seen.labels[label].key):
                    positions.setdefault(label, (index, word))
    return positions


def _find_overtaken(messages: Sequence[Message], positions: Mapping[str, Position]) -> Iterator[tuple[str, str]]:
    """Yield for each message one that came in order before it and was answered after it."""
    acked = sorted((one for one in messages if one.acked_at is not None), key=attrgetter("acked_at"))
    stairs: Stairs = []
    done = 0
    for later in sorted(messages, key=attrgetter("sent_at")):
        while done < len(acked) and (acked[done].acked_at or 0.0) <= later.sent_at:
            _climb(stairs, acked[done], positions[acked[done].label])
            done += 1
        step = bisect_right(stairs, later.timestamp, key=itemgetter(0))
        if step and stairs[step - 1][1] > positions[later.label]:
            yield stairs[step - 1][2], later.label


def _climb(stairs: Stairs, message: Message, position: Position) -> None:
    """Note a message, so that the step at a timestamp is the last position of all timestamps up to it."""
    step = bisect_right(stairs, message.timestamp, key=itemgetter(0))
    if step and stairs[step - 1][1] >= position:
        return
    end = step
    while end < len(stairs) and stairs[end][1] <= position:
        end += 1
    stairs[step:end] = [(message.timestamp, position, message.label)]


def check_parts_are_in_order(seen: Sightings) -> Iterator[str]:
    for row_id, copies in seen.accepted.items():
        parts = list(dict.fromkeys(copy.part for copy in copies))
        if parts != sorted(parts):
            yield f"the parts of {seen.name(row_id)} came as {parts}"


def check_turns_do_not_mix(seen: Sightings) -> Iterator[str]:
    for sendings in seen.conversations.values():
        firsts: dict[PartKey, None] = {}
        for copy in sendings:
            if copy.sending.accepted and not seen.is_excepted(copy.row_id):
                firsts.setdefault((copy.row_id, copy.part))
        turns = [turn for turn, _ in firsts]
        begun = [turn for turn, before in zip(turns, [None, *turns], strict=False) if turn != before]
        for turn, times in Counter(begun).items():
            if times > 1:
                yield f"another turn came between the parts of {seen.name(turn)}"


def check_sendings_do_not_overlap(seen: Sightings) -> Iterator[str]:
    for sendings in seen.conversations.values():
        newest: dict[PartKey, int] = {}
        under_way: list[Sent] = []
        for copy in sendings:
            if copy.attempt < newest.get(copy.key, 0):
                continue  # of a process that was asleep: the copies are counted
            newest[copy.key] = copy.attempt
            under_way = [other for other in under_way if _is_under_way(other, copy)]
            for other in under_way:
                yield f"the sendings for {seen.name(other.row_id)} and {seen.name(copy.row_id)} overlap"
            under_way.append(copy)


def _is_under_way(other: Sent, now: Sent) -> bool:
    """Whether a sending goes on when the next begins. One without an end died, or was given up for a newer attempt."""
    given_up = other.key == now.key and other.attempt < now.attempt
    return now.sending.began_at < other.sending.ended_at < math.inf and not given_up
