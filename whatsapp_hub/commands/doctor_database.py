"""What ``doctor`` looks at in the database server: its kind, its clock, its word on writes, and the indexes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from whatsapp_hub.commands.failures import explain_database_error
from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.database import Collection, Database, DatabaseError
from whatsapp_hub.inbox.indexes import explain_foreign, find_foreign, inbox_indexes
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.indexes import INDEXES

MAX_SKEW_S: Final = 10.0
WRITE_TIMEOUT_S: Final = 5.0
_REMEDY: Final = "`whatsapp-hub serve` makes what is missing when it starts; its user needs readWrite for that"


async def check_server(database: Database) -> list[Finding]:
    """Ask the server who it is and what time it has."""
    began = time.monotonic()
    hello = await database.hello()
    took_s = time.monotonic() - began
    skew_s = _read_skew_s(hello, took_s)
    findings = [ok("database", f"answers within {took_s * 1000:.0f} ms"), _judge_kind(hello)]
    if skew_s is not None and abs(skew_s) > MAX_SKEW_S:
        words = f"the database's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
        findings.append(mend("clock", words, "run a time service (chrony, systemd-timesyncd) on both machines"))
    elif skew_s is not None:
        findings.append(ok("clock", "agrees with the database's"))
    return findings


async def check_write_concern(database: Database) -> Finding:
    """See whether a write is confirmed on a majority and on disk, with one that changes nothing."""
    nothing = {"_id": "doctor", "conversation": "doctor"}
    try:
        with pymongo.timeout(WRITE_TIMEOUT_S):
            await database.inbox.update_one(nothing, {"$set": {"state": "done"}})
    except DatabaseError as exc:
        remedy = "have a majority of the replica set's members up, with journals; grant the user readWrite"
        return mend("durable writes", explain_database_error(exc), remedy)
    return ok("durable writes", "confirmed on a majority and on disk")


async def check_collections(database: Database) -> Finding:
    """See that nobody else keeps anything where the hub does. Raises ``StoreUnavailable``."""
    if foreign := await find_foreign(database):
        remedy = "rename the other program's collections; the hub's have fixed names, and `serve` refuses to begin"
        return mend("collections", explain_foreign(foreign), remedy)
    return ok("collections", "nobody else's documents among the hub's")


async def check_indexes(database: Database, settings: Settings) -> list[Finding]:
    """Compare the indexes with those that the hub makes when it starts."""
    # Before the first start nothing is there, and nothing is wrong with that.
    has_run = await database.nodes.find_one({}, {"_id": 1}) is not None
    expires = IndexModel("at", name="expires")
    expected = {
        "inbox": inbox_indexes(done_days=settings.inbox_retention_days, dead_days=settings.dead_retention_days),
        "events": [expires],
        "conversations": [IndexModel("updated_at", name="expires")],
        "businesses": [IndexModel(keys, name=name) for name, keys in INDEXES.items()],
    }
    judge = mend if has_run else note
    findings: list[Finding] = []
    for name, indexes in expected.items():
        present = await _list_indexes(getattr(database, name))
        faults = [fault for index in indexes if (fault := _find_fault(index.document, present, name))]
        if faults:
            findings.append(judge("indexes", f"{name}: {', '.join(faults)}", _REMEDY))
    return findings or [ok("indexes", "all there")]


async def _list_indexes(collection: Collection) -> Mapping[str, Mapping[str, Any]]:
    try:
        found: Mapping[str, Mapping[str, Any]] = await collection.index_information()
    except OperationFailure:  # there is no such collection yet, or it may not be looked at
        return {}
    return found


def _find_fault(wanted: Mapping[str, Any], present: Mapping[str, Mapping[str, Any]], collection: str) -> str | None:
    name, keys = wanted["name"], list(wanted["key"].items())
    if collection == "businesses":  # not ours: any index with these keys does
        return None if any(list(index["key"]) == keys for index in present.values()) else f"{name} is missing"
    found = present.get(name)
    if found is None:
        return f"{name} is missing"
    same = list(found["key"]) == keys and all(
        found.get(option) == wanted.get(option) for option in ("unique", "partialFilterExpression")
    )
    return None if same else f"{name} is not as the hub makes it (drop it)"


def _judge_kind(hello: Mapping[str, Any]) -> Finding:
    members = len(hello.get("hosts", ()))
    if hello.get("msg") == "isdbgrid":
        return ok("replica set", "a sharded cluster")
    if not hello.get("setName"):
        return note(
            "replica set",
            "a standalone server: changed businesses are seen late, and one disk holds everything",
            "make it a replica set, if only of one: start mongod with --replSet rs0 and run rs.initiate() once",
        )
    return ok("replica set", f"{hello['setName']}, {members} member{'s' * (members != 1)}")


def _read_skew_s(hello: Mapping[str, Any], took_s: float) -> float | None:
    told = hello.get("localTime")
    if not isinstance(told, datetime):
        return None
    aware = told if told.tzinfo else told.replace(tzinfo=UTC)
    return aware.timestamp() - (time.time() - took_s / 2)
