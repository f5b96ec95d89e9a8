"""The protocol of the inbox on a real database, in whatever order Hypothesis thinks of, step by step beside its model.

As it is it does the same every time. ``HYPOTHESIS_SEEDS=20`` adds twenty runs of others, each named by its seed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.integration.inbox_model import PASSING, Status
from tests.integration.inbox_process import Arrival, Copy, prepared
from tests.integration.inbox_side_by_side import CONVERSATIONS, NUMBERS, SideBySide
from tests.integration.inbox_turn_model import PAUSED, WAITS, Script, wamid_of
from whatsapp_hub.database import Database

Picked = TypeVar("Picked")

LONG_AGO: Final = 1
LATELY: Final = 1_700_000_000
NOBODYS: Final = "101:m0"
RARELY: Final = st.sampled_from([False, False, False, False, True])

ARRIVALS: Final = st.lists(
    st.builds(
        Arrival,
        conversation=st.sampled_from(CONVERSATIONS),
        name=st.sampled_from(["new", "new", "new", "copy"]),
        wish=st.sampled_from([*["active"] * 5, *["queued"] * 3, "spilled"]),
        place=st.sampled_from([*(LATELY + n for n in (1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6)), LONG_AGO]),
        letters=st.sampled_from([5, 5, 7_000]),
    ),
    min_size=1,
    max_size=3,
)
#: What Graph answers to one send after the other, until the turn has to wait for an answer.
ANSWERS: Final = (
    *(("sent",) * 3, ("sent",) * 3, ("sent", "sent, no id", "sent"), ("sent",), ("sent", "unknown"), ("sent", "dead")),
    *((), ("unknown",), ("unknown",), ("refused",), ("dead",), ("refused", "sent")),
)
SCRIPTS: Final = st.builds(
    Script, reply=st.sampled_from([1, 2, 2, 3, 1, 2, 0, "paused", "fails"]), sends=st.sampled_from(ANSWERS)
)
TWISTS: Final = st.sampled_from([*[""] * 10, "number", "customer", "earlier", "later", "wamid", "part"])
NAMES: Final = st.sampled_from(["sent", "delivered", "read", "played", "failed", "failed"])


class InboxMachine(RuleBasedStateMachine):
    """What may happen to an inbox that two processes share.

    One rule, because Hypothesis leaves rules out at random, and little comes about where half of the protocol is
    missing.
    """

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self.both = SideBySide(runner, database)
        self.seen: dict[str, list[Copy]] = {conversation: [] for conversation in CONVERSATIONS}
        self._names = 0
        self._times = 0

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        self._data = data
        possible = {step.__name__: step for step in self._find_possible()}
        weighted = [name for name in possible for _ in range(WEIGHTS.get(name, 1))]
        possible[data.draw(st.sampled_from(weighted))]()

    def _find_possible(self) -> Iterator[Callable[[], None]]:
        model, joined = self.both.model, self.both.joined
        if self.both.working:
            yield from (self.turns_go_on, self.database_goes_away_during_a_turn, self.process_loses_sight_of_a_message)
        if joined:
            yield from (self.messages_arrive, self.process_thinks_itself_lost)
        if joined and any(map(model.queued, CONVERSATIONS)):
            yield self.oldest_is_promoted
        if self.both.turns.begun:
            yield self.statuses_arrive
        if model.dead:
            yield self.dead_letter_is_retried_or_discarded
        if self.both.ghosts:
            yield self.write_of_a_ghost_lands
        if self.both.stale:
            yield self.stale_owner_changes_nothing
        if model.documents:
            yield self.copies_are_counted
        yield from (self.process_does_a_round, self.process_ends, self.business_changes)
        if model.nodes:
            yield self.node_is_forgotten
        if model.nodes and joined:
            yield self.node_is_declared_dead

    # Messages, the lock, turns

    def messages_arrive(self) -> None:
        """Perhaps nobody learns whether they were stored."""
        process = self._pick(self.both.joined)
        arrivals = [self._name(arrival) for arrival in self._data.draw(ARRIVALS)]
        self.both.arrive(process, arrivals, is_lost=self._data.draw(RARELY))

    def copies_are_counted(self) -> None:
        """Of keys that are, of one that is not, or of copies that name another sender."""
        documents = self.both.model.documents
        keys = self._data.draw(st.lists(st.sampled_from([*documents, NOBODYS]), min_size=1, max_size=3))
        elsewhere = self._data.draw(st.sampled_from(["", "", "102:491", "101:493"]))
        self.both.count_copies([(key, elsewhere or documents.get(key, {}).get("conversation", "")) for key in keys])

    def oldest_is_promoted(self) -> None:
        """Or what was the oldest when somebody looked some time ago."""
        process = self._pick(self.both.joined)
        waiting = [c for c in CONVERSATIONS if self.both.model.queued(c)]
        conversation, ago = self._data.draw(st.sampled_from(waiting)), self._data.draw(st.sampled_from([0, 0, 0, 1, 2]))
        seen = self.seen[conversation]
        if found := self.both.look(process, conversation):
            seen.append(found)
        self.both.promote(process, seen.pop(-1 - min(ago, len(seen) - 1)))

    def turns_go_on(self) -> None:
        """All of a process at once, so that their writes ride in batches."""
        copies = {copy.claim.conversation: copy for copy in self._pick(self.both.working).holding.copies.values()}
        self.both.advance([(copy, self._data.draw(SCRIPTS)) for copy in copies.values()])

    def database_goes_away_during_a_turn(self) -> None:
        copy, script = self._pick(self._copies()), self._data.draw(SCRIPTS)
        self.both.advance([(copy, script)], writes_left=self._data.draw(st.integers(0, 3)))

    def process_loses_sight_of_a_message(self) -> None:
        self.both.lose_sight(self._pick(self._copies()))

    def write_of_a_ghost_lands(self) -> None:
        ghost = self._pick(self.both.ghosts)
        if self.both.advance([(ghost, self._data.draw(SCRIPTS))])[0] not in {WAITS, PAUSED}:
            self.both.ghosts.remove(ghost)

    def stale_owner_changes_nothing(self) -> None:
        self.both.try_everything(self._pick(self.both.stale))

    # Statuses, dead letters, businesses

    def statuses_arrive(self) -> None:
        """Perhaps the database goes away in the middle."""
        statuses = [self._draw_status() for _ in range(self._data.draw(st.integers(1, 3)))]
        self.both.apply(statuses, is_interrupted=self._data.draw(RARELY))

    def dead_letter_is_retried_or_discarded(self) -> None:
        """Or something is that is none."""
        dead = self.both.list_dead_letters()
        key = self._data.draw(st.sampled_from([*dead, *dead, *dead, *self.both.model.documents, NOBODYS]))
        if self._data.draw(RARELY):
            self.both.discard(key)
        else:
            self.both.retry(key)

    def business_changes(self) -> None:
        state = self._data.draw(st.sampled_from(["fine", "fine", "fine", "fine", "off", "unserved"]))
        self.both.change_business(self._data.draw(st.sampled_from(NUMBERS)), state)

    # Nodes

    def process_does_a_round(self) -> None:
        has_room, sweeps = self._data.draw(st.sampled_from([True, True, False])), self._data.draw(st.booleans())
        self.both.round(self._pick(self.both.processes), has_room=has_room, sweeps=sweeps)

    def process_thinks_itself_lost(self) -> None:
        self.both.give_up(self._pick(self.both.joined))

    def node_is_declared_dead(self) -> None:
        """Perhaps while some process renews itself."""
        observer, node_id = self._pick(self.both.joined), self._pick_node()
        renewing = self._pick(self.both.joined) if self._data.draw(st.booleans()) else None
        self.both.declare_dead(observer, node_id, meanwhile=renewing)

    def node_is_forgotten(self) -> None:
        self.both.forget(self._pick_node())

    def process_ends(self) -> None:
        self.both.end(self._pick(self.both.processes), cleanly=self._data.draw(st.booleans()))

    # After every step, and after the last one

    @invariant()
    def both_say_the_same(self) -> None:
        self.both.check()

    def teardown(self) -> None:
        if self.both.is_sound:
            self.both.come_to_rest()
            self.both.check()

    # Drawing

    def _pick(self, of: Sequence[Picked]) -> Picked:
        """Draw one of several, by a name that can be read."""
        named = {repr(one): one for one in of}
        return named[self._data.draw(st.sampled_from(list(named)))]

    def _pick_node(self) -> str:
        """Draw one of all nodes that are remembered; what they are called differs from run to run."""
        nodes = list(self.both.model.nodes)
        return nodes[self._data.draw(st.integers(0, len(nodes) - 1))]

    def _copies(self) -> list[Copy]:
        return [copy for process in self.both.working for copy in process.holding.copies.values()]

    def _name(self, arrival: Arrival) -> Arrival:
        """Make it a new message, or a copy of one that came to the same conversation."""
        documents = self.both.model.documents
        known = [key for key in documents if documents[key]["conversation"] == arrival.conversation]
        if arrival.name == "copy" and known:
            return replace(arrival, name=self._data.draw(st.sampled_from(known)).partition(":")[2])
        self._names += 1
        return replace(arrival, name=f"m{self._names}")

    def _draw_status(self) -> Status:
        """Draw a status of something that Graph may have got, mostly a right one."""
        begun, unfinished = self.both.turns.begun, self.both.model.unfinished
        of_unfinished = [send for send in begun if send[0] in unfinished]
        key, part, attempt = self._data.draw(st.sampled_from([*of_unfinished, *of_unfinished, *begun]))
        twist, name = self._data.draw(TWISTS), self._data.draw(NAMES)
        number, _, message = key.partition(":")
        self._times += 1
        return Status(
            number="102" if twist == "number" else number,
            customer="499" if twist == "customer" else begun[key, part, attempt],
            message=message,
            part=part + (twist == "part"),
            attempt=max(1, attempt + {"earlier": -1, "later": 9}.get(twist, 0)),
            wamid="somebody else's" if twist == "wamid" else wamid_of(key, part, attempt),
            name=name,
            code=self._data.draw(st.sampled_from([131026, PASSING])) if name == "failed" else None,
            at=self._times,
        )


#: How often a step is taken, compared with the others that are possible.
WEIGHTS: Final = {
    InboxMachine.messages_arrive.__name__: 4,
    InboxMachine.oldest_is_promoted.__name__: 4,
    InboxMachine.turns_go_on.__name__: 8,
    InboxMachine.statuses_arrive.__name__: 5,
    InboxMachine.dead_letter_is_retried_or_discarded.__name__: 3,
    InboxMachine.process_does_a_round.__name__: 2,
}


SEEDS: Final = [None, *range(int(os.environ.get("HYPOTHESIS_SEEDS", "0")))]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", SEEDS, ids=lambda number: "same every time" if number is None else f"seed-{number}")
def test_inbox_does_what_the_model_says(mongodb_uri: str, number: int | None) -> None:
    with prepared(mongodb_uri) as runner_and_database:
        machine: Any = partial(InboxMachine, *runner_and_database)
        run_state_machine_as_test(
            machine if number is None else seed(number)(machine),
            settings=settings(
                derandomize=number is None,
                database=None,
                max_examples=30,
                stateful_step_count=50,
                deadline=None,
                phases=(Phase.generate,),  # to make small what is found takes minutes: Phase.shrink does
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
