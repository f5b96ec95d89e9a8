"""Interleavings of the inbox protocol that a review found: each test is one of them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.hub import text_message, until, webhook_of
from whatsapp_hub import app as app_module
from whatsapp_hub.cloud_api.messages import ConversationId, InboundMessage, StatusUpdate, Webhook
from whatsapp_hub.cloud_api.outgoing import CallbackData
from whatsapp_hub.conversation.dispatcher import Dispatcher
from whatsapp_hub.conversation.holds import HoldKind, Holds
from whatsapp_hub.conversation.pacing import Pacer
from whatsapp_hub.conversation.steps import End
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox.dead import DeadLetters
from whatsapp_hub.inbox.document import InboxRow, Stage, State
from whatsapp_hub.inbox.group_commit import GroupCommit
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.inbox.journal import Journal
from whatsapp_hub.inbox.nodes import Nodes, View
from whatsapp_hub.inbox.outbound import OutboundMessage
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.inbox.store import InboxStore, StatusWrite
from whatsapp_hub.inbox.takeover import Takeover
from whatsapp_hub.settings import Timing
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import read_business

CUSTOMER = "491700000001"
PART = {"body": b'{"type":"text","text":{"body":"decided"}}', "attempt": 1, "failures": 0, "wamid": "", "rank": 0}


def document(wamid: str, *, customer: str = CUSTOMER, **values: Any) -> dict[str, Any]:
    """Return a message as a process that is no more left it."""
    text = f"hello {wamid}".encode()
    return {
        "_id": f"101:{wamid}",
        "conversation": f"101:{customer}",
        "state": "active",
        "stage": "new",
        "owner": "a node that nobody remembers",
        "epoch": 1,
        "attempts": 1 if values.get("state", "active") == "active" else 0,
        "place": int(time.time()),
        "arrival": time.time_ns(),
        "item": b'{"type":"text","text":{"body":"%s"}}' % text,
        "profile_name": "",
        **values,
    }


async def prepare(database: Database) -> None:
    await ensure_inbox_indexes(database, done_days=14, dead_days=90, conversation_days=90)


@asynccontextmanager
async def failing(database: Database, collection: str | None, mode: Any, **data: Any) -> AsyncIterator[None]:
    """Have the database fail commands, on one collection or on all."""
    client = database.client
    if collection is not None:
        data["namespace"] = f"{database.inbox.database.name}.{collection}"
    await client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
    try:
        yield
    finally:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


# What a round starts inherits the round's deadline (pymongo.timeout is a context variable)


async def test_ambiguous_send_that_was_taken_over_is_settled_when_the_wait_is_longer_than_the_deadline_of_a_round(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await prepare(database)
    await database.businesses.insert_one(webhooks.business("101"))
    await database.inbox.insert_one(document("wamid.1", stage="replying", parts=[{**PART, "state": "sending"}]))
    hub = await start_hub(timing={"status_wait_s": 5.5})
    async with asyncio.timeout(9):
        while (await hub.row("101", "wamid.1"))["state"] != "done":
            await asyncio.sleep(0.05)
    assert hub.texts == ["decided"]


async def test_backlog_that_takes_longer_than_the_deadline_of_a_round_is_answered(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await prepare(database)
    await database.businesses.insert_one(webhooks.business("101"))
    count = 600  # 80 at once, then 80 a second
    await database.inbox.insert_many([document(f"wamid.{n}", customer=f"4917{n:08}") for n in range(count)])
    hub = await start_hub()
    async with asyncio.timeout(20):
        while await database.inbox.count_documents({"owner": {"$exists": True}}):
            await asyncio.sleep(0.1)
    assert await database.inbox.count_documents({"state": "dead"}) == 0
    assert len(hub.texts) == count
    assert await database.inbox.count_documents({"attempts": {"$gt": 2}}) == 0


# What has become ours in the database has to be in memory, or be adopted


async def test_documents_whose_takeover_was_not_read_back_are_adopted(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await prepare(database)
    await database.businesses.insert_one(webhooks.business("101"))
    hub = await start_hub()
    await asyncio.sleep(0.2)
    # The write that takes it over happens, but is not confirmed.
    async with failing(
        database, "inbox", {"times": 1}, failCommands=["update"], writeConcernError={"code": 64, "errmsg": "slow"}
    ):
        await database.inbox.insert_one(document("wamid.1", owner=""))
        async with asyncio.timeout(5):
            while (await hub.row("101", "wamid.1"))["owner"] == "":
                await asyncio.sleep(0.01)
    row = await hub.row_where("101", "wamid.1", state="done")
    assert row["outcome"] == "replied"


# Conversations of a lost node


class Noted:
    """Turns that end at once, or never."""

    def __init__(self, *, hang: bool = False) -> None:
        self.hang = hang
        self.begun = 0

    async def advance(self, row: InboxRow) -> End:
        self.begun += 1
        if self.hang:
            await asyncio.Event().wait()
        return End.FINISHED


class NothingQueued:
    """Counts who looks for queued messages."""

    def __init__(self) -> None:
        self.looks = 0

    async def queued(self, conversation: str) -> list[InboxRow]:
        self.looks += 1
        await asyncio.Event().wait()
        return []


def make_dispatcher(turns: Any, outcomes: Any, *, max_turns: int = 10) -> Dispatcher:
    return Dispatcher(
        own_id=lambda: "us",
        turns=turns,
        outcomes=outcomes,
        metrics=Metrics(),
        loop_is_late=lambda: False,
        timing=Timing(max_turns=max_turns),
        business_pacer=Pacer(amount=10_000, per_s=1.0),
        customer_pacer=None,
    )


def message(n: int, customer: str = CUSTOMER) -> InboundMessage:
    return InboundMessage(
        phone_number_id="101", id=f"wamid.{n}", sender=customer, timestamp=int(time.time()), item=b'{"type":"text"}'
    )


async def count_steps(steps: int = 50) -> int:
    """Return how many tasks other than this one there are after a while."""
    for _ in range(steps):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


async def test_message_stored_after_the_node_was_lost_leaves_no_task_behind() -> None:
    dispatcher = make_dispatcher(Noted(), NothingQueued())
    first, second = dispatcher.enter(message(1)), dispatcher.enter(message(2))
    dispatcher.abandon()
    dispatcher.stored(first)
    dispatcher.stored(second)
    assert await count_steps() == 0


async def test_look_for_queued_messages_ends_when_the_node_is_lost() -> None:
    dispatcher = make_dispatcher(Noted(), NothingQueued())
    first, second = dispatcher.enter(message(1)), dispatcher.enter(message(2))
    dispatcher.gone(first, unknown=False)
    dispatcher.stored(second)
    third = dispatcher.enter(message(3))
    await asyncio.sleep(0.01)
    dispatcher.stored(third)  # waits, while somebody looks
    dispatcher.abandon()
    assert await count_steps() == 0


async def test_turn_that_was_cancelled_before_its_first_step_gives_its_place_back() -> None:
    dispatcher = make_dispatcher(Noted(), NothingQueued(), max_turns=1)
    row = dispatcher.enter(message(1))
    dispatcher.stored(row)
    dispatcher.abandon()
    await asyncio.sleep(0.01)
    assert dispatcher.running == 0


async def test_rows_of_a_lost_node_do_not_use_up_the_pace_of_their_business() -> None:
    turns = Noted()
    dispatcher = Dispatcher(
        own_id=lambda: "us",
        turns=turns,  # type: ignore[arg-type]
        outcomes=NothingQueued(),  # type: ignore[arg-type]
        metrics=Metrics(),
        loop_is_late=lambda: False,
        timing=Timing(max_turns=10),
        business_pacer=Pacer(amount=10, per_s=1.0),
        customer_pacer=None,
    )
    for n in range(30):
        dispatcher.stored(dispatcher.enter(message(n, f"49170000{n:04}")))
    await asyncio.sleep(0.01)
    assert turns.begun == 10
    dispatcher.abandon()
    dispatcher.stored(dispatcher.enter(message(100)))
    await asyncio.sleep(0.5)
    assert turns.begun == 11


# Holds


class OneTenant:
    """A business whose reading can be kept waiting."""

    def __init__(self, business: Business) -> None:
        self.business = business
        self.go_on = asyncio.Event()

    async def find(self, phone_number_id: str) -> Business:
        return self.business

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        return self.business.sub_domain

    async def find_past_cache(self, phone_number_id: str) -> Business:
        await self.go_on.wait()
        return self.business


async def test_two_looks_at_one_hold_release_it_once(webhooks: Any) -> None:
    """The periodic look and the one after a change of the business meet."""
    business = read_business({"_id": "x", **webhooks.business("101")}, lambda stored: stored)
    tenants = OneTenant(business)
    holds = Holds(tenants, Metrics(), assistant_fault=lambda _: None, says_nothing=lambda _: False, recheck_s=1)
    holds.hold("101", HoldKind.UNSERVED, "no business has this phone number", None)
    looks = [asyncio.create_task(holds.recheck("101")) for _ in range(2)]
    await asyncio.sleep(0)
    tenants.go_on.set()
    await asyncio.gather(*looks)
    assert len(holds) == 0


async def test_hold_that_ends_while_the_row_is_being_stored_as_held_wakes_it(
    database: Database, hub: Any, webhooks: Any
) -> None:
    """The write of ``held`` takes half a second; the business appears meanwhile."""
    async with failing(database, "inbox", {"times": 1}, failCommands=["update"], blockConnection=True, blockTimeMS=700):
        await hub.say("999", "hello", "wamid.1")
        await asyncio.sleep(0.15)
        await database.businesses.insert_one(webhooks.business("999"))
        await asyncio.sleep(0.6)
    async with asyncio.timeout(4):
        while (await hub.row("999", "wamid.1"))["state"] != "done":
            await asyncio.sleep(0.02)
    assert hub.texts == ["hello"]


# Dead letters


async def test_retried_dead_letter_is_not_taken_into_the_turn_of_a_newer_message(
    database: Database, hub: Any, webhooks: Any
) -> None:
    """What it would have answered along with its own message would be answered by nobody."""
    hub.graph.control.latency_s = (0.3, 0.3)
    await hub.say("101", "first", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="replying")
    await hub.say("101", "leader", "wamid.2")
    await hub.say("101", "member", "wamid.3")
    hub.graph.control.faults.arm(Fault(code=131047, status=400, text="leader"))
    row = await hub.row_where("101", "wamid.2", state="dead")
    assert row["members"] == ["101:wamid.3"]
    await hub.say("101", "busy", "wamid.4")
    await hub.row_where("101", "wamid.4", stage="replying")
    await hub.say("101", "newer", "wamid.5")
    assert await DeadLetters(database).retry("101:wamid.2")
    await hub.at_rest()
    lines = [line for text in hub.texts for line in text.split("\n")]
    assert sorted(lines) == sorted(["first", "busy", "newer", "leader", "member"])


async def test_decided_turn_that_is_too_old_takes_its_members_with_it(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    """Its process died between the commit point and marking the members."""
    await prepare(database)
    await database.businesses.insert_one(webhooks.business("101"))
    now = int(time.time())
    parts = [{**PART, "attempt": 0, "state": "waiting"}]
    await database.inbox.insert_many(
        [
            document("wamid.1", stage="replying", parts=parts, members=["101:wamid.2"], place=now - 6 * 3600 - 10),
            document("wamid.2", state="queued", place=now - 60),
        ]
    )
    hub = await start_hub()
    await hub.row_where("101", "wamid.1", state="dead")
    await hub.at_rest()
    assert await DeadLetters(database).retry("101:wamid.1")
    await hub.row_where("101", "wamid.1", state="done")
    lines = [line for text in hub.texts for line in text.split("\n")]
    assert sorted(lines) == ["hello wamid.1", "hello wamid.2"]


async def test_discarded_dead_letter_stays_discarded_when_its_status_comes_again(database: Database) -> None:
    await prepare(database)
    part = {**PART, "state": "sent", "rank": 9, "wamid": "wamid.reply"}
    letter = document("wamid.1", state="dead", reason="Meta could not deliver the reply", parts=[part])
    del letter["owner"]
    await database.inbox.insert_one({**letter, "dead_at": None})
    assert await DeadLetters(database).discard("101:wamid.1")
    status = StatusUpdate(
        phone_number_id="101",
        id="wamid.reply",
        status="failed",
        timestamp=1,
        callback_data="",
        error_code=131026,
        item=b"{}",
    )
    target = CallbackData(customer=CUSTOMER, message_id="wamid.1", part=0, attempt=1)
    await InboxStore(database).apply_statuses([StatusWrite(status=status, target=target)])
    row = await database.inbox.find_one({"_id": "101:wamid.1"})
    assert row is not None
    assert row["state"] == "done"


# Attempts


async def test_outage_of_the_database_burns_no_attempts(database: Database, hub: Any) -> None:
    """Only what may have killed a process counts."""
    async with failing(database, "conversations", "alwaysOn", failCommands=["find"], errorCode=50):
        await hub.say("101", "hello", "wamid.1")
        await asyncio.sleep(2)
    row = await hub.row_where("101", "wamid.1", state="done", outcome="replied")
    assert row["attempts"] == 1


async def test_clean_stop_burns_no_attempt_of_what_had_not_begun(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    await database.businesses.insert_one(webhooks.business("101"))
    hub = await start_hub(rate_limit_business="1/hour")
    for n in range(8):
        await hub.say("101", "hello", f"wamid.{n}", sender=f"49170000000{n}")
    await hub.stop()
    for _ in range(3):
        hub = await start_hub(rate_limit_business="1/hour")
        await asyncio.sleep(0.2)
        await hub.stop()
    waiting = [row["attempts"] async for row in database.inbox.find({"state": "active"})]
    assert waiting
    assert max(waiting) == 1


# Stopping


async def test_process_that_drains_takes_nothing_over(database: Database, hub: Any) -> None:
    hub.graph.control.latency_s = (1.2, 1.2)
    await hub.say("101", "slow", "wamid.1")
    await asyncio.sleep(0.1)
    stopping = asyncio.create_task(hub.stop())
    await asyncio.sleep(0.3)
    await database.inbox.insert_one(document("wamid.2", customer="4917", owner=""))
    await asyncio.sleep(0.4)
    row = await hub.row("101", "wamid.2")
    await stopping
    assert row["owner"] == ""


# The journal


class Taken:
    """An intake that forgets."""

    def enter(self, message: InboundMessage | OutboundMessage) -> InboxRow:
        return InboxRow(
            id=message.key,
            conversation=message.conversation,
            owner="us",
            epoch=1,
            state=State.ACTIVE,
            stage=Stage.NEW,
            attempts=1,
            place=message.timestamp,
            arrival=1,
            item=message.item,
            profile_name=message.profile_name,
        )

    def busy(self, row: InboxRow) -> None: ...

    def stored(self, row: InboxRow) -> None: ...

    def gone(self, row: InboxRow, *, unknown: bool) -> None: ...

    def status_arrived(self, row_id: str) -> None: ...


async def test_webhook_with_nothing_that_can_be_encoded_is_stored_raw(database: Database) -> None:
    journal = Journal(InboxStore(database), Taken(), Metrics(), is_open=lambda: True, ack_timeout_s=5)
    odd = InboundMessage(phone_number_id="101", id="wamid.1", sender="\ud800", timestamp=1, item=b"{}")
    await journal.accept(Webhook(messages=(odd,), statuses=(), others=()))
    assert await database.events.count_documents({}) == 1


async def test_promotion_of_one_message_by_two_nodes_has_one_winner(database: Database) -> None:
    """Both begin to count their stamps at one."""
    await prepare(database)
    await database.inbox.insert_one(document("wamid.1", state="queued"))
    store = InboxStore(database)
    rows = [(await store.find_rows(["101:wamid.1"]))["101:wamid.1"] for _ in range(2)]
    won = [
        await Outcomes(store, batch_interval_s=0).promote(row, node) for row, node in zip(rows, ("a", "b"), strict=True)
    ]
    assert won == [True, False]


class Holding:
    """Who has room for everything and has nothing yet."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def holds(self, row_id: str, conversation: ConversationId, state: State) -> bool:
        return False

    def take(self, row: InboxRow) -> None:
        self.taken.append(row.id)

    def knows(self, conversation: ConversationId) -> bool:
        return False

    def room(self, phone_number_id: str) -> int:
        return 100


@pytest.mark.parametrize("promotes", [True, False])
async def test_what_this_node_promotes_while_it_takes_over_is_not_taken_over_too(
    database: Database, promotes: bool
) -> None:
    """Both lead to the same owner and the same epoch, and two turns of one message would send everything twice."""
    await prepare(database)
    await database.inbox.insert_one(document("wamid.1", state="queued", owner="dead"))
    store, nodes, holding = InboxStore(database), Nodes(database, Timing()), Holding()

    async def between_the_look_and_the_write() -> None:
        if promotes:
            row = (await store.find_rows(["101:wamid.1"]))["101:wamid.1"]
            assert await Outcomes(store, batch_interval_s=0).promote(row, nodes.id)

    takeover = Takeover(database, nodes, holding, renew=between_the_look_and_the_write)
    view = View(
        lost=False,
        living=frozenset({nodes.id}),
        gone=("dead",),
        stopped=frozenset(),
        cache_cleared=0,
        cache_warmed=0,
    )
    await takeover.take_over(view, set())
    assert holding.taken == ([] if promotes else ["101:wamid.1"])


async def test_error_of_a_read_that_nobody_waits_for_any_more_is_not_reported(database: Database, hub: Any) -> None:
    reported: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def is_accepted() -> bool:  # mongod 6.0.5 now and then fails an insert at this point too
        return bool(await hub.post(webhook_of(text_message("hello", wamid="wamid.1"), number="101")) == 200)

    async with failing(database, None, {"times": 8}, failCommands=["find"], errorCode=50):
        await until(is_accepted)
        await asyncio.sleep(0.3)
    await hub.row_where("101", "wamid.1", state="done")
    gc.collect()
    await asyncio.sleep(0.01)
    assert [context["message"] for context in reported] == []


async def test_message_with_attempts_behind_it_goes_behind_older_ones(
    database: Database, start_hub: Any, webhooks: Any
) -> None:
    """It gathers nothing, but that is no reason to overtake."""
    await prepare(database)
    await database.businesses.insert_one(webhooks.business("101"))
    now = int(time.time())
    await database.inbox.insert_many(
        [document("wamid.new", attempts=2, place=now), document("wamid.old", state="queued", place=now - 10)]
    )
    hub = await start_hub()
    await hub.at_rest()
    assert hub.texts == ["hello wamid.old", "hello wamid.new"]


async def test_sweep_takes_nothing_from_a_node_that_joined_after_the_look(hub: Any, start_hub: Any) -> None:
    takeover = rounds_of(hub)._takeover
    takeover._swept_at = float("-inf")
    owners = await takeover.list_owners()
    view = await takeover._nodes.look()
    hub.graph.control.latency_s = (1.0, 1.0)
    second = await start_hub()
    await second.say("101", "hello", "wamid.1")
    row = await second.row_where("101", "wamid.1", stage="replying")
    await takeover.take_over(view, owners)
    assert (await second.row("101", "wamid.1"))["owner"] == row["owner"]


async def test_what_nobody_waits_for_any_more_is_not_written() -> None:
    """An outage at full load must leave nothing behind that a stop has to wait for."""
    written: list[int] = []
    first = asyncio.Event()

    async def write(items: Sequence[int]) -> Sequence[None]:
        await first.wait()
        written.extend(items)
        return [None] * len(items)

    lane: GroupCommit[int, None] = GroupCommit(write)
    under_way = lane.submit(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = [lane.submit(n) for n in range(1, 1000)]
    for future in late:
        future.cancel()
    first.set()
    await lane.flush()
    await under_way
    assert written == [0]


def rounds_of(hub: Any) -> Any:
    """Return the recovery of a hub, from the task that runs its rounds."""
    task = next(t for t in hub.app[app_module._SIDE_TASKS]._tasks.values() if t.get_name() == "rounds")
    return task.get_coro().cr_frame.f_locals["self"]
