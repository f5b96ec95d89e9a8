"""Which commands requests cause: MongoDB's own profiler, without what a hub asks by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from whatsapp_hub.database import Database

Commands = Callable[[], Awaitable[list[dict[str, Any]]]]


@asynccontextmanager
async def profiling(database: Database) -> AsyncIterator[Commands]:
    """Have the database note all commands, and yield a look at them.

    Left out: the census (it hints), the rounds (they ask for owners and nodes; the first goes on when the hub is
    ready), the changes that a hub is told, and what is asked for here.
    """
    profiled = database.inbox.database
    caused = {
        "op": {"$ne": "getmore"},
        "ns": {"$nin": [f"{profiled.name}.system.profile", f"{profiled.name}.nodes"]},
        **{f"command.{field}": {"$exists": False} for field in ("hint", "profile", "filter.owner", "query.owner")},
    }

    async def commands() -> list[dict[str, Any]]:
        return await profiled["system.profile"].find(caused).to_list(None)

    await profiled.drop_collection("system.profile")
    await profiled.command("profile", 2)
    try:
        yield commands
    finally:
        await profiled.command("profile", 0)
