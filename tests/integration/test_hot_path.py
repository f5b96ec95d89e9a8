"""What one answered message costs, in things that can be counted: a guard against what creeps in.

One message at a time has no company in its batches, so these are the most that a message can cost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import pytest

from tests.hub import StartHub, business
from whatsapp_hub.database import Database

MESSAGES: Final = 20
#: By collection, operation and what it looks for. Batches share them: at full load it is a fraction of each.
OPERATIONS: Final = {
    ("inbox", "insert", ()): 1,  # stored, and the conversation locked
    ("inbox", "query", ("conversation", "state")): 1,  # what else waits
    ("conversations", "query", ("_id",)): 1,  # the history
    ("inbox", "update", ("_id", "conversation", "state", "owner", "epoch")): 1,  # the commit point
    ("inbox", "update", ("_id", "conversation", "state", "owner", "epoch", "parts.rank")): 1,  # sent, done, unlocked
    ("conversations", "update", ("_id", "turns.id")): 1,  # remembered
}
#: A batch for each of these, and the turn.
TASKS: Final = {"GroupCommit._fly": len(OPERATIONS), "Dispatcher._run": 1}


class CountingTasks:
    """A task factory that counts the hub's tasks by the name of what they run."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        code = getattr(coro, "cr_code", None)
        if code is not None and "/whatsapp_hub/" in code.co_filename and "/demo/" not in code.co_filename:
            self.count[code.co_qualname] += 1
        return asyncio.Task(coro, loop=loop, **options)


async def test_message_costs_what_the_design_says(
    database: Database, start_hub: StartHub, caplog: pytest.LogCaptureFixture
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(assistant="openai", ai_model="stand-in", timing={"round_s": 60.0})
    hub.graph.statuses.target = None
    await hub.say("101", "the first reads the business", "wamid.first", sender="490")
    await hub.at_rest()
    mongo, tasks = database.inbox.database, CountingTasks()
    caplog.clear()
    caplog.set_level("INFO")
    asked, sent = len(hub.graph.model.requests), len(hub.graph.log.accepted)
    await mongo.command("profile", 2)
    asyncio.get_running_loop().set_task_factory(tasks)
    try:
        for n in range(MESSAGES):
            await hub.say("101", f"message {n}", f"wamid.{n}", sender=f"49{n + 1}")
            await hub.row_where("101", f"wamid.{n}", state="done")
    finally:
        asyncio.get_running_loop().set_task_factory(None)
        await mongo.command("profile", 0)
    assert await count_operations(mongo) == {what: MESSAGES * times for what, times in OPERATIONS.items()}
    assert tasks.count == {what: MESSAGES * times for what, times in TASKS.items()}
    assert len(hub.graph.model.requests) - asked == MESSAGES
    assert len(hub.graph.log.accepted) - sent == MESSAGES
    assert [record.message for record in caplog.records] == []


async def count_operations(mongo: Any) -> Counter[tuple[str, str, tuple[str, ...]]]:
    """Count what was asked of the two collections, by the server's own profiler, without this test's own looks."""
    count: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    async for entry in mongo["system.profile"].find({"op": {"$in": ["insert", "query", "update"]}}):
        collection, command = entry["ns"].partition(".")[2], entry["command"]
        what = collection, entry["op"], tuple(command.get("filter") or command.get("q") or ())
        if collection in {"inbox", "conversations"} and what != ("inbox", "query", ("_id",)):
            count[what] += 1
    return count
