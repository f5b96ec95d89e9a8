"""F17: a message that its assistant cannot stand, in every way that code of an operator's own can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import name_customer
from tests.faults.history import Message
from tests.faults.world import DATABASE, World, open_world
from tests.hub import until

MODULE = '''
"""Says what it is told; some words it cannot stand, unless there is an antidote. Notes whom it was asked for."""
import asyncio, os, time
from pathlib import Path

FOLDER = Path(__file__).parent


class Frail:
    async def reply(self, turn):
        with (FOLDER / "asked").open("a") as asked:
            asked.write(f"{turn.id}\\n")
        text = " ".join(message.text for message in turn.messages)
        if "patience" in text:
            await asyncio.sleep(0.5)
        if not (FOLDER / "antidote").exists():
            suffer(text)
        return text


def suffer(text):
    if "raise" in text:
        raise ValueError("not understood")
    if "quote" in text:
        raise ValueError(f"what does {text} mean?")
    if "exit" in text:
        os._exit(9)
    if "hoard" in text:
        hoard = [b"x" * 2**26 for _ in range(32)]
    if "loop" in text:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            pass
'''
TIMING: Mapping[str, float] = {
    "retry_base_s": 0.05,
    "assistant_retry_base_s": 0.05,
    "heartbeat_s": 0.2,
    "self_fence_s": 0.6,
    "lease_s": 1.0,
}
MORE_BYTES = 2**29  # a quarter of what is hoarded; the stacks of the driver's threads need their part
MOST_ATTEMPTS = 5
VICTIM = name_customer(1)


@asynccontextmanager
async def open_frail_world(
    folder: Path, *, hubs: int = 1, timing: Mapping[str, float] = TIMING
) -> AsyncIterator[World]:
    """Open a world whose assistant is frail, and whose hubs are started again when they end."""
    (folder / "frail.py").write_text(MODULE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {"ASSISTANTS": "frail=frail:Frail", "PYTHONPATH": path}
    async with (
        open_world(hubs=hubs, environment=environment, timing=timing, assistant="frail") as world,
        asyncio.TaskGroup() as group,
    ):
        restarting = group.create_task(restart_forever(world))
        yield world
        restarting.cancel()


async def restart_forever(world: World) -> None:
    """Start hubs that have ended, as systemd does."""
    while True:
        for hub in world.hubs:
            if not hub.alive:
                hub.start()
        await asyncio.sleep(0.05)


def times_asked(folder: Path, message: Message) -> int:
    asked = folder / "asked"
    return asked.read_text().splitlines().count(message.key) if asked.exists() else 0


async def poison(world: World, folder: Path, text: str) -> Message:
    """Have a message said, and wait until its assistant suffers from it alone."""
    message = await world.driver.say("101", VICTIM, text=text)

    async def suffers() -> bool:
        return times_asked(folder, message) > 0

    await until(suffers)
    return message


async def row_of(world: World, message: Message) -> dict[str, Any]:
    row: dict[str, Any] | None = await world.database.inbox.find_one({"_id": message.key})
    assert row is not None
    return row


async def until_settled(world: World, message: Message, timeout_s: float = 60.0) -> dict[str, Any]:
    async def settled() -> dict[str, Any] | None:
        row = await row_of(world, message)
        return row if row["state"] in {"done", "dead"} else None

    return await until(settled, timeout_s)


def said(world: World, message: Message) -> float | None:
    """Return when a message was answered."""
    sends = [send for send in world.graph.log.accepted if message.label in send.text.split()]
    return sends[0].time if sends else None


async def run_hub_command(world: World, *arguments: str) -> str:
    """Run a command of the command line on the world's database and return what it printed."""
    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "whatsapp_hub", *arguments],
        env={**os.environ, "MONGODB_URI": world.databases.uri, "MONGODB_DB_NAME": DATABASE},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("text", "error"), [("raise", "ValueError"), ("hoard", "MemoryError")])
async def test_message_whose_assistant_raises_dies_after_five_attempts_and_delays_nobody(
    tmp_path: Path, text: str, error: str
) -> None:
    async with open_frail_world(tmp_path) as world:
        hub = world.hubs[0]
        limit_memory(hub.pid, MORE_BYTES)
        bad = await poison(world, tmp_path, text)
        later = [await world.driver.say("101", VICTIM) for _ in range(2)]
        await world.driver.converse(numbers=("101", "102"), customers=10, rate_per_s=20, for_s=1, first_customer=10)
        await world.assert_holds()
        row = await row_of(world, bad)
        assert (row["state"], row["attempts"]) == ("dead", MOST_ATTEMPTS)
        assert row["reason"] == f"failed 5 times: the assistant: {error}"
        assert times_asked(tmp_path, bad) == MOST_ATTEMPTS
        assert said(world, bad) is None
        assert all(said(world, message) for message in later)
        assert hub.starts == 1
        assert await world.database.inbox.count_documents({"state": "dead"}) == 1
        assert hub.log_path.read_text().count('"assistant raised"') == MOST_ATTEMPTS
        assert hub.log_path.read_text().count('"dead letter"') == 1


def limit_memory(pid: int, more_bytes: int) -> None:
    """Let a process have only so much more address space than it has."""
    has_bytes = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (has_bytes + more_bytes, hard))


@pytest.mark.timeout(150)
async def test_message_that_kills_the_process_dies_after_five_crashes_and_is_answered_when_it_is_retried(
    tmp_path: Path,
) -> None:
    """Those whose answers are being written when it dies, again and again, are answered all the same."""
    async with open_frail_world(tmp_path) as world:
        hub = world.hubs[0]
        innocent = [await world.driver.say("102", name_customer(20 + n), text="patience") for n in range(4)]
        bad = await poison(world, tmp_path, "exit")
        assert not any(said(world, message) for message in innocent[-2:])
        async with asyncio.TaskGroup() as group:  # each is delivered until a hub is there to take it
            in_line = group.create_task(world.driver.say("101", VICTIM))
            group.create_task(
                world.driver.converse(numbers=("101", "102"), customers=10, rate_per_s=5, for_s=3, first_customer=10)
            )
        row = await until_settled(world, bad)
        assert row["state"] == "dead"
        assert row["reason"] == "failed 5 times: the process died or gave up while it worked on this message"
        assert times_asked(tmp_path, bad) == MOST_ATTEMPTS
        assert hub.starts == 1 + MOST_ATTEMPTS
        await world.assert_holds()
        assert said(world, in_line.result())
        assert all(said(world, message) for message in innocent)
        assert await world.database.inbox.count_documents({"state": "dead"}) == 1

        [letter] = json.loads(await run_hub_command(world, "dead", "list", "--json"))
        assert (letter["id"], letter["business"], letter["reason"]) == (bad.key, "b101", row["reason"])
        shown = await run_hub_command(world, "dead", "show", bad.key)
        assert row["reason"] in shown
        assert VICTIM not in shown

        (tmp_path / "antidote").touch()
        assert "1 retried" in await run_hub_command(world, "dead", "retry", bad.key)
        retried_at = time.time()
        answered_at = await until(lambda: answered(world, bad))
        assert answered_at - retried_at < 10
        last = await world.driver.say("101", VICTIM)
        await world.assert_holds()
        assert (await row_of(world, bad))["outcome"] == "replied"
        order = [said(world, message) or 0.0 for message in (in_line.result(), bad, last)]
        assert order == sorted(order)
        assert order[0] > 0
        assert await run_hub_command(world, "dead", "list") == "No dead letters.\n"
        assert hub.starts == 1 + MOST_ATTEMPTS


async def answered(world: World, message: Message) -> float | None:
    return said(world, message)


async def test_what_an_assistant_raises_does_not_tell_the_log_what_a_customer_wrote(tmp_path: Path) -> None:
    async with open_frail_world(tmp_path) as world:
        bad = await poison(world, tmp_path, "quote")
        await world.assert_holds()
        assert (await row_of(world, bad))["reason"] == "failed 5 times: the assistant: ValueError"


@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.timeout(60)
async def test_assistant_that_blocks_the_loop_for_longer_than_a_lease_loses_and_doubles_nothing(
    tmp_path: Path, hubs: int
) -> None:
    """Another process believes the blocked one dead and is blocked in turn."""
    timing = {"retry_base_s": 0.05}
    async with open_frail_world(tmp_path, hubs=hubs, timing=timing) as world:
        bad = await poison(world, tmp_path, "loop")
        async with asyncio.TaskGroup() as group:
            later = group.create_task(world.driver.say("101", VICTIM))
            group.create_task(
                world.driver.converse(numbers=("101", "102"), customers=6, rate_per_s=5, for_s=2, first_customer=10)
            )
        await world.assert_holds()
        row = await row_of(world, bad)
        assert (row["state"], row.get("outcome")) == ("done", "replied") or row["state"] == "dead"
        assert times_asked(tmp_path, bad) <= MOST_ATTEMPTS
        assert said(world, later.result())
        assert [hub.starts for hub in world.hubs] == [1] * hubs
        assert any('"event loop lagged"' in hub.log_path.read_text() for hub in world.hubs)
        if hubs == 1:
            assert (row["state"], times_asked(tmp_path, bad)) == ("done", 1)
