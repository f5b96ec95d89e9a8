"""What the inbox promises, one promise a test: what no other test of the queue holds by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymongo.read_concern import ReadConcern

from tests.integration.inbox_model import Status
from tests.integration.inbox_process import Arrival, Copy, prepared
from tests.integration.inbox_side_by_side import SideBySide
from tests.integration.inbox_turn_model import FINISHED, LET_GO, PAUSED, STEPPED_BACK, WAITS, Script, wamid_of
from whatsapp_hub.cloud_api.messages import InboundMessage, Webhook
from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import InboxRow, State, row_of
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.inbox.journal import Journal
from whatsapp_hub.inbox.outbound import Origin, OutboundMessage
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.inbox.store import InboxStore
from whatsapp_hub.telemetry.metrics import Metrics

MANY = 200
LATELY = 1_700_000_000


def message(n: int) -> InboundMessage:
    return InboundMessage(phone_number_id="101", id=f"m{n}", sender=f"49{n}", timestamp=LATELY, item=b'{"type":"text"}')


class Noted:
    """An intake that notes what became of each message."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}

    def enter(self, message: InboundMessage | OutboundMessage) -> InboxRow:
        return row_of(message, owner="us", state=State.ACTIVE, arrival_ns=1)

    def busy(self, row: InboxRow) -> None:
        row.state, row.attempts = State.QUEUED, 0

    def stored(self, row: InboxRow) -> None:
        self.ends[row.message_id] = "stored"

    def gone(self, row: InboxRow, *, unknown: bool) -> None:
        self.ends[row.message_id] = "unknown" if unknown else "copy"

    def status_arrived(self, row_id: str) -> None: ...


class Inbox:
    """A journal and outcomes on an empty inbox."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.intake, self.metrics = Noted(), Metrics()
        self.store = InboxStore(database)
        self.journal = Journal(self.store, self.intake, self.metrics, is_open=lambda: True, ack_timeout_s=5)
        self.outcomes = Outcomes(self.store, batch_interval_s=0)

    async def accept(self, *messages: InboundMessage) -> None:
        await self.journal.accept(Webhook(messages=messages, statuses=(), others=()))

    async def durable(self, n: int) -> Mapping[str, Any] | None:
        """Return a document as a majority of the servers has it."""
        inbox = self.database.inbox.with_options(read_concern=ReadConcern("majority"))
        return await inbox.find_one({"_id": f"101:m{n}"})

    @asynccontextmanager
    async def failing(self, **data: Any) -> AsyncIterator[None]:
        """Have the database misbehave on commands of the inbox."""
        inbox, admin = self.database.inbox, self.database.client.admin
        data["namespace"] = f"{inbox.database.name}.{inbox.name}"
        await admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        try:
            yield
        finally:
            await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.fixture
async def inbox(database: Database) -> Inbox:
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)
    return Inbox(database)


# Group commit


async def test_concurrent_writes_are_durable_on_return(inbox: Inbox) -> None:
    async def accept(n: int) -> bool:
        await inbox.accept(message(n))
        return await inbox.durable(n) is not None

    assert all(await asyncio.gather(*map(accept, range(MANY))))
    assert inbox.intake.ends == {f"m{n}": "stored" for n in range(MANY)}
    batches = inbox.metrics.registry.get_sample_value("whatsapp_hub_commit_rows_count")
    assert batches is not None
    assert batches < MANY / 2


async def test_concurrent_outcomes_are_durable_on_return(inbox: Inbox) -> None:
    await inbox.accept(*map(message, range(MANY)))
    rows = await inbox.store.find_rows([f"101:m{n}" for n in range(MANY)])

    async def finish(n: int) -> str:
        assert await inbox.outcomes.write(rows[f"101:m{n}"], {"state": "done", "outcome": f"outcome {n}"})
        document = await inbox.durable(n)
        assert document is not None
        return str(document["outcome"])

    assert await asyncio.gather(*map(finish, range(MANY))) == [f"outcome {n}" for n in range(MANY)]


async def test_concurrent_writes_return_the_error_of_the_database(inbox: Inbox) -> None:
    await inbox.accept(*map(message, range(10)))
    rows = await inbox.store.find_rows([f"101:m{n}" for n in range(10)])
    async with inbox.failing(failCommands=["insert", "update"], errorCode=50):
        inserts = [inbox.accept(message(n)) for n in range(10, MANY)]
        updates = [inbox.outcomes.write(row, {"stage": "held"}) for row in rows.values()]
        results = await asyncio.gather(*inserts, *updates, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert [inbox.intake.ends[f"m{n}"] for n in range(10, MANY)] == ["unknown"] * (MANY - 10)
    assert await inbox.database.inbox.count_documents({"stage": "new"}) == 10
    await inbox.accept(message(10))
    assert inbox.intake.ends["m10"] == "stored"


async def test_duplicate_count_is_acked_only_if_it_matched(inbox: Inbox) -> None:
    """The first copy is rolled back between the insert that finds it and the count: this one is needed."""
    await inbox.accept(message(1))
    async with inbox.failing(failCommands=["update"], blockConnection=True, blockTimeMS=300):
        copy = asyncio.create_task(inbox.accept(message(1)))
        await asyncio.sleep(0.1)
        assert not copy.done()
        await inbox.database.inbox.delete_one({"_id": "101:m1"})
        await copy
    assert inbox.intake.ends == {"m1": "stored"}
    document = await inbox.durable(1)
    assert document is not None
    assert "deliveries" not in document


# Several nodes


async def test_queued_by_another_node_is_promoted(hub: Any, start_hub: Any) -> None:
    """Whoever accepted it sees to it; the one that has the lock knows nothing of it."""
    second = await start_hub()
    hub.graph.control.latency_s = (0.4, 0.4)
    await hub.say("101", "one", "wamid.1")
    first = await hub.row_where("101", "wamid.1", stage="replying")
    await second.say("101", "two", "wamid.2")
    waiting = await second.row("101", "wamid.2")
    assert (waiting["state"], waiting["owner"] == first["owner"]) == ("queued", False)
    promoted = await second.row_where("101", "wamid.2", state="active")
    assert promoted["owner"] == waiting["owner"]
    await second.at_rest()
    assert second.texts == ["one", "two"]


async def test_queued_while_the_turn_ends_is_promoted(hub: Any) -> None:
    """The turn looks for what waits before it is there."""
    hub.graph.control.latency_s = (0.2, 0.2)
    await hub.say("101", "one", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="replying")
    data = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 500}
    await hub.database.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    second = asyncio.create_task(hub.say("101", "two", "wamid.2"))
    first = await hub.row_where("101", "wamid.1", state="done")
    assert await hub.database.inbox.count_documents({}) == 1
    await second
    row = await hub.row_where("101", "wamid.2", state="done", outcome="replied")
    assert row["arrival"] / 1e9 < first["done_at"].timestamp()
    assert hub.texts == ["one", "two"]


# What order means


@pytest.fixture
def both(mongodb_uri: str) -> Iterator[SideBySide]:
    with prepared(mongodb_uri) as runner_and_database:
        yield SideBySide(*runner_and_database)


def said(name: str, place: int = 0, wish: str = "active", letters: int = 5) -> Arrival:
    return Arrival(conversation="101:491", name=name, wish=wish, place=LATELY + place, letters=letters)


def held_by(both: SideBySide, name: str) -> Copy:
    """Return the one copy of an active message that a process has."""
    (copy,) = (p.holding.copies[f"101:{name}"] for p in both.processes if f"101:{name}" in p.holding.copies)
    return copy


def advance(both: SideBySide, name: str, *sends: str, reply: int | str = 1, writes_left: int | None = None) -> str:
    end = both.advance([(held_by(both, name), Script(reply=reply, sends=sends))], writes_left=writes_left)
    both.check()
    return end[0]


def documents(both: SideBySide, *names: str) -> Sequence[Mapping[str, Any]]:
    return [both.model.documents[f"101:{name}"] for name in names]


def hand_over(both: SideBySide, *, cleanly: bool = False) -> None:
    """End the first process; the second one finds that, and takes over."""
    first, second = both.processes
    name = first.node.id
    both.end(first, cleanly=cleanly)
    if not cleanly:
        both.declare_dead(second, name)
    both.round(second)
    both.check()


def test_oldest_is_promoted_first(both: SideBySide) -> None:
    first, second = both.processes
    both.arrive(first, [said("newest", 3, "queued"), said("oldest", 1, "queued")])
    both.arrive(second, [said("later", 2, "queued")])
    seen = both.look(second, "101:491")
    assert seen is not None
    both.promote(second, seen)
    assert held_by(both, "oldest").process is second
    assert advance(both, "oldest", "sent") == FINISHED
    assert documents(both, "oldest")[0]["members"] == ["101:later", "101:newest"]


def test_turn_gathers_what_is_older_and_waits(both: SideBySide) -> None:
    both.arrive(both.processes[0], [said("newcomer", 2)])
    both.arrive(both.processes[1], [said("older", 1, "queued"), said("newer", 3, "queued")])
    assert advance(both, "newcomer", "sent") == FINISHED
    assert documents(both, "newcomer")[0]["members"] == ["101:older", "101:newer"]
    assert [one["turn"] for one in documents(both, "older", "newer")] == ["101:newcomer"] * 2


def test_members_are_done_before_their_leader(both: SideBySide) -> None:
    """The database goes away right after the commit point: whoever goes on ends the members before it sends."""
    both.arrive(both.processes[0], [said("leader"), said("member", wish="queued")])
    assert advance(both, "leader", "sent", writes_left=1) == LET_GO
    assert [one["state"] for one in documents(both, "leader", "member")] == ["active", "queued"]
    both.round(both.processes[0])
    assert advance(both, "leader") == WAITS
    assert [one["state"] for one in documents(both, "leader", "member")] == ["active", "done"]
    assert both.world.sent == []


def test_stale_epoch_cannot_finish(both: SideBySide) -> None:
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m") == PAUSED
    stale = held_by(both, "m")
    both.lose_sight(stale)
    both.round(both.processes[0])
    assert stale.row.owner == held_by(both, "m").row.owner
    both.try_everything(stale)
    assert both.advance([(stale, Script(sends=("sent",)))]) == [LET_GO]
    both.check()
    assert documents(both, "m")[0]["state"] == "active"


def test_late_write_of_a_turn_that_stepped_back_changes_nothing(both: SideBySide) -> None:
    """Neither owner nor epoch have changed since: only the state tells."""
    both.arrive(both.processes[0], [said("newcomer", 9)])
    both.arrive(both.processes[0], [said(f"older{n}", n, "queued", letters=7_000) for n in range(3)])
    assert advance(both, "newcomer", "sent") == STEPPED_BACK
    both.try_everything(both.ghosts[-1])
    both.check()
    assert [(one["state"], one["attempts"]) for one in documents(both, "newcomer")] == [("queued", 0)]


@pytest.mark.parametrize(
    ("stage", "how"),
    [("ambiguous", {"sends": ("unknown",)}), ("backoff", {"sends": ("refused",)}), ("held", {"business": "unserved"})],
)
@pytest.mark.parametrize("cleanly", [True, False])
def test_waiting_burns_no_attempts(both: SideBySide, stage: str, how: Mapping[str, Any], *, cleanly: bool) -> None:
    both.change_business("101", how.get("business", "fine"))
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m", *how.get("sends", ())) == WAITS
    hand_over(both, cleanly=cleanly)
    assert held_by(both, "m").process is both.processes[1]
    assert [(one["stage"], one["attempts"]) for one in documents(both, "m")] == [(stage, 1)]


@pytest.mark.parametrize(("cleanly", "attempts"), [(True, 1), (False, 2)])
@pytest.mark.parametrize("reply", [1, "paused"])
def test_attempts_survive_a_death_while_it_worked(
    both: SideBySide, reply: int | str, *, cleanly: bool, attempts: int
) -> None:
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m", reply=reply) == PAUSED
    hand_over(both, cleanly=cleanly)
    assert documents(both, "m")[0]["attempts"] == attempts


# Dead letters of which a part has reached the customer


def status(name: str, part: int, attempt: int) -> Status:
    wamid = wamid_of("101:m", part, attempt)
    code = 131026 if name == "failed" else None
    return Status(
        number="101", customer="491", message="m", part=part, attempt=attempt, wamid=wamid, name=name, code=code, at=1
    )


def retry(both: SideBySide) -> None:
    """Have the dead letter be the active message again."""
    both.retry("101:m")
    both.round(both.processes[0])
    seen = both.look(both.processes[0], "101:491")
    assert seen is not None
    both.promote(both.processes[0], seen)
    both.check()


def test_part_that_is_there_is_not_sent_again_when_one_before_it_failed(both: SideBySide) -> None:
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m", "sent", "sent", "sent", reply=3) == FINISHED
    both.apply([status("failed", 0, 1)])
    retry(both)
    assert advance(both, "m", "sent") == FINISHED
    assert [part for _, part, _ in both.world.sent] == [0, 1, 2, 0]


def test_part_that_a_status_told_of_is_not_sent_again(both: SideBySide) -> None:
    """Its turn ended before it had heard that."""
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m", "sent", "unknown", reply=2) == WAITS
    both.apply([status("delivered", 1, 1), status("failed", 0, 1)])
    hand_over(both)
    assert advance(both, "m") == FINISHED
    assert documents(both, "m")[0]["state"] == "dead"
    retry(both)
    assert advance(both, "m", "sent") == FINISHED
    assert [part for _, part, _ in both.world.sent] == [0, 0]


@pytest.mark.parametrize("parts", [1, 2])
def test_late_status_of_what_failed_does_not_settle_what_is_sent_after_a_retry(both: SideBySide, parts: int) -> None:
    """With one part the reply is decided anew, with two the second one is sent again."""
    both.arrive(both.processes[0], [said("m")])
    assert advance(both, "m", "sent", "sent", reply=parts) == FINISHED
    both.apply([status("failed", parts - 1, 1)])
    retry(both)
    assert advance(both, "m", "unknown", reply=parts) == WAITS
    both.apply([status("sent", parts - 1, 1), status("failed", parts - 1, 1)])
    both.check()
    assert documents(both, "m")[0]["parts"][-1]["rank"] == 0
    assert advance(both, "m", "sent", "sent") == FINISHED
    assert documents(both, "m")[0]["outcome"] == "replied"


# What businesses send by themselves


def outbound(n: int) -> OutboundMessage:
    origin = Origin(business_id="b", key_id="k", digest="d")
    parts = (b'{"type":"text","text":{"body":"hello"}}',)
    return OutboundMessage(
        phone_number_id="101", id=f"m{n}", customer=f"49{n}", timestamp=LATELY, parts=parts, origin=origin
    )


async def test_message_from_outside_is_durable_on_return_and_its_copy_is_told(inbox: Inbox) -> None:
    results = await asyncio.gather(*(inbox.journal.accept_outbound(outbound(1)) for _ in range(3)))
    document = await inbox.durable(1)
    assert document is not None
    assert sorted(results) == [False, False, True]
    assert InboxRow.from_document(document).origin == outbound(1).origin
    assert (document["state"], document["stage"], document["attempts"]) == ("active", "replying", 1)
    assert await inbox.journal.accept_outbound(outbound(1)) is False
    assert inbox.intake.ends == {"m1": "copy"}


async def test_message_from_outside_waits_where_its_conversation_is_busy(inbox: Inbox) -> None:
    await inbox.accept(message(1))
    waiting = replace(outbound(2), customer="491")
    assert await inbox.journal.accept_outbound(waiting)
    document = await inbox.durable(2)
    assert document is not None
    assert (document["state"], document["stage"], document["attempts"]) == ("queued", "replying", 0)
    assert inbox.intake.ends == {"m1": "stored", "m2": "stored"}


async def test_message_from_outside_that_is_not_confirmed_is_let_go_of(inbox: Inbox) -> None:
    async with inbox.failing(failCommands=["insert"], errorCode=50):
        with pytest.raises(StoreUnavailable):
            await inbox.journal.accept_outbound(outbound(1))
    assert inbox.intake.ends == {"m1": "unknown"}
