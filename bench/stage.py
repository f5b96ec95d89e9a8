"""One run: a database, the driver and the subject, each a process of its own and fresh, and what the driver saw."""

from __future__ import annotations

import os
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit

import orjson
from pymongo import MongoClient

from bench.plan import APP_SECRET, ENCRYPTION_SECRET, GRAPH_VERSION, Cpu, Outcome, Plan
from bench.processes import BenchFailed, Cores, Process, running, wait_until
from bench.seeding import build_businesses, build_histories
from bench.stats import Latencies
from whatsapp_hub.demo.embedded import embedded

DATABASE: Final = "bench"
START_TIMEOUT_S: Final = 30.0
COMMANDS: Final = ("insert", "update", "find", "getMore", "aggregate", "delete")
SYNCS: Final = "log sync operations"  # of the journal, as the server's statistics call them
SYNC_US: Final = "log sync time duration (usecs)"

Documents = MongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom to measure: a module of ``bench.subjects`` and what it is told."""

    name: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_database: bool = False
    has_tokens: bool = True  #: False: the businesses have no access token, so the hub holds what they get
    processes: int = 1


def hub(*, has_tokens: bool = True, processes: int = 1, **settings: Any) -> Subject:
    """Return the hub with these settings; several processes listen at a port each, as ``systemd/`` has it."""
    return Subject(
        name="hub",
        module="bench.subjects.hub",
        options=settings,
        needs_database=True,
        has_tokens=has_tokens,
        processes=processes,
    )


def bare(kind: str) -> Subject:
    """Return one of the bare aiohttp applications: ``ack`` or ``relay``."""
    return Subject(name=f"bare aiohttp ({kind})", module="bench.subjects.bare", options={"kind": kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database that runs for one subject."""

    uri: str
    pid: int
    client: Documents


@contextmanager
def database_of(subject: Subject, plan: Plan) -> Iterator[Database | None]:
    """Run a database with the plan's businesses and histories in it, if the subject needs one."""
    if not subject.needs_database:
        yield None
        return
    with embedded() as server, MongoClient[dict[str, Any]](server.uri) as client:
        if server.kind != "mongod":
            raise BenchFailed(f"{server} says nothing about its work; put a mongod on the PATH")
        client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={usual_cache_mb()}MB")
        client[DATABASE].businesses.insert_many(build_businesses(plan, has_tokens=subject.has_tokens))
        if plan.past_turns:
            client[DATABASE].conversations.bulk_write(list(build_histories(plan)), ordered=False)
        yield Database(uri=server.uri, pid=client.admin.command("serverStatus")["pid"], client=client)


def usual_cache_mb() -> int:
    """Return the cache that a database takes where nobody tells it: half of the memory but for 1 GB, 256 MB at least.

    The demo's quarter of a gigabyte is small to measure with: only a part of it may be changed and not yet written, so
    a loaded database keeps its clients waiting more often to write it.
    https://www.mongodb.com/docs/v6.0/core/wiredtiger/#memory-use
    """
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(256, (memory_mb - 1024) // 2)


class Observer:
    """Is told of the window of a run; this one does not care."""

    def began(self, subject: Process) -> None:
        """The window begins."""

    def ended(self, subject: Process) -> None:
        """The window has ended."""

    def finished(self, subject: Process) -> None:
        """The last answer is there."""


def run_once(subject: Subject, plan: Plan, cores: Cores, observer: Observer | None = None) -> Outcome:
    """Measure a subject once.

    Raises:
        BenchFailed: a process ended, or something did not happen in time.

    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hub-bench-")))
        database = stack.enter_context(database_of(subject, plan))
        driver = stack.enter_context(running("driver", ["bench.driver"], folder))
        driver.tell(asdict(plan))
        upstream = f"http://127.0.0.1:{orjson.loads(driver.hear())['port']}"
        placed = cores.spread(subject.processes)
        started = [
            stack.enter_context(
                start_subject(subject, database, upstream=upstream, folder=folder, core=core, number=number)
            )
            for number, core in enumerate(placed)
        ]
        pids = {"subject": [process.pid for process, _ in started]}
        if database:
            pids["database"] = [database.pid]
        ports = [urlsplit(address).port for _, address in started]
        driver.tell({"host": "127.0.0.1", "ports": ports, "pids": pids, "cores": sorted(set(placed))})
        client = database.client if database else None
        outcome = _follow(driver, started[0][0], plan, client, observer or Observer())
        return replace(outcome, stored=count_stored(client, plan)) if client else outcome


@contextmanager
def start_subject(
    subject: Subject, database: Database | None, *, upstream: str, folder: Path, core: int, number: int = 0
) -> Iterator[tuple[Process, str]]:
    """Run a process of a subject: the process and its address, at which it is ready."""
    with running(f"subject-{number}", [subject.module, str(core)], folder) as process:
        process.tell(_options(subject, upstream, database))
        address = process.hear()
        if database:
            _wait_until_ready(address)
        yield process, address


def _options(subject: Subject, upstream: str, database: Database | None) -> dict[str, Any]:
    if database is None:
        return {**subject.options, "upstream": upstream}
    return {
        "mongodb_uri": database.uri,
        "mongodb_db_name": DATABASE,
        "encryption_secret": ENCRYPTION_SECRET,
        "whatsapp_app_secret": APP_SECRET,
        "graph_api_base_url": upstream,
        "graph_api_version": GRAPH_VERSION,
        "ai_base_url": f"{upstream}/v1",
        "ai_api_key": "sk-bench",
        "ai_model": "bench",
        "rate_limit_health": "1000000/minute",  # it is asked often while it starts
        "rate_limit_metrics": "1000000/minute",
        "host": "127.0.0.1",
        "port": 0,
        **subject.options,
    }


def _wait_until_ready(address: str) -> None:
    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/ready", timeout=2) as response:
                return bool(response.status == 200)
        except (URLError, TimeoutError):
            return False

    wait_until(is_ready, what="the hub is ready", timeout_s=START_TIMEOUT_S)


def _follow(driver: Process, subject: Process, plan: Plan, client: Documents | None, observer: Observer) -> Outcome:
    counts: Counter[str] = Counter()
    while True:
        match orjson.loads(driver.hear()):
            case {"outcome": outcome}:
                observer.finished(subject)
                return replace(
                    _read_outcome(outcome),
                    commands={name: counts[name] for name in COMMANDS if counts[name]},
                    journal_sync_ms=counts[SYNC_US] / 1000 / counts[SYNCS] if counts[SYNCS] else None,
                )
            case {"event": "primed"}:
                if client is not None:
                    _wait_until_held(client, plan)
                driver.tell("go on")
            case {"event": "window"}:
                counts.subtract(_read_counts(client))
                observer.began(subject)
            case {"event": "measured"}:
                counts.update(_read_counts(client))
                observer.ended(subject)


def _read_counts(client: Documents | None) -> dict[str, int]:
    """Return what the database has done: commands of each kind, and how often and how long its journal was synced."""
    if client is None:
        return {}
    told = client.admin.command("serverStatus")
    commands, log = told["metrics"]["commands"], told["wiredTiger"]["log"]
    return {name: commands[name]["total"] for name in COMMANDS} | {name: log[name] for name in (SYNCS, SYNC_US)}


def _wait_until_held(client: Documents, plan: Plan) -> None:
    """Wait until a message of every customer is held, so that no turn of theirs runs while the others are stored."""
    inbox = client[DATABASE].inbox
    wait_until(
        lambda: inbox.count_documents({"state": "active", "stage": "held"}) == plan.held_conversations,
        what="every conversation is held",
        timeout_s=START_TIMEOUT_S,
        pause_s=0.1,
    )
    time.sleep(0.2)  # the last write is settled


def count_stored(client: Documents, plan: Plan) -> dict[str, int]:
    """Count the documents by state, once all turns have ended but those of held conversations."""
    inbox = client[DATABASE].inbox
    at_work = {"state": "active", "stage": {"$ne": "held"}} if plan.held else {"state": {"$in": ["active", "queued"]}}
    with suppress(BenchFailed):  # the states say so
        wait_until(
            lambda: inbox.find_one(at_work) is None, what="every turn has ended", timeout_s=plan.drain_s, pause_s=0.1
        )
    return {
        group["_id"]: group["count"] for group in inbox.aggregate([{"$group": {"_id": "$state", "count": {"$sum": 1}}}])
    }


def _read_outcome(outcome: dict[str, Any]) -> Outcome:
    for name in ("ack_ms", "reply_ms", "added_ms", "late_ms"):
        outcome[name] = outcome[name] and Latencies(**outcome[name])
    outcome["cpu"] = {role: Cpu(**cpu) for role, cpu in outcome["cpu"].items()}
    return Outcome(**outcome)
