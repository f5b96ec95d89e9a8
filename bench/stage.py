"""One run: a database, the driver and the subject, each a process of its own and fresh, and what the driver saw."""

from __future__ import annotations

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
from bench.stats import Latencies
from bench.webhooks import phone_number_id
from whatsapp_hub.demo.embedded import embedded
from whatsapp_hub.tenants.vault import Vault

DATABASE: Final = "bench"
START_TIMEOUT_S: Final = 30.0
COMMANDS: Final = ("insert", "update", "find", "getMore", "aggregate", "delete")

Documents = MongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom to measure: a module of ``bench.subjects`` and what it is told."""

    name: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_database: bool = False
    has_tokens: bool = True  #: False: the businesses have no access token, so the hub holds what they get


def hub(name: str = "hub", *, has_tokens: bool = True, **settings: Any) -> Subject:
    """Return the hub with these settings."""
    return Subject(name=name, module="bench.subjects.hub", options=settings, needs_database=True, has_tokens=has_tokens)


def bare(kind: str) -> Subject:
    """Return one of the bare aiohttp applications: ``ack`` or ``relay``."""
    return Subject(name=f"bare aiohttp ({kind})", module="bench.subjects.bare", options={"kind": kind})


@contextmanager
def _database(subject: Subject, plan: Plan) -> Iterator[tuple[str, int, Documents] | None]:
    """Run a database with the plan's businesses in it: its URI, its process id, a client."""
    if not subject.needs_database:
        yield None
        return
    with embedded() as server, MongoClient[dict[str, Any]](server.uri) as client:
        if server.kind != "mongod":
            raise BenchFailed(f"{server} says nothing about its work; put a mongod on the PATH")
        vault = Vault(ENCRYPTION_SECRET)
        client[DATABASE].businesses.insert_many(
            _business(index, vault.encrypt(f"EAAbench{index:010d}") if subject.has_tokens else None)
            for index in range(plan.phone_numbers)
        )
        yield server.uri, client.admin.command("serverStatus")["pid"], client


def _business(index: int, token: str | None) -> dict[str, Any]:
    return {
        "name": f"Bench {index}",
        "subDomain": f"bench-{index}",
        "wabaId": f"waba{phone_number_id(index)}",
        "whatsappPhoneNumberIds": [phone_number_id(index)],
        "whatsappEnabled": True,
        "isActive": True,
        **({"whatsappAccessToken": token} if token else {}),
    }


class Observer:
    """Is told of the window of a run; this one does not care."""

    def began(self, subject: Process) -> None:
        """The window begins."""

    def ended(self, subject: Process) -> None:
        """The window has ended."""


def run_once(subject: Subject, plan: Plan, cores: Cores, observer: Observer | None = None) -> Outcome:
    """Measure a subject once.

    Raises:
        BenchFailed: a process ended, or something did not happen in time.

    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hub-bench-")))
        database = stack.enter_context(_database(subject, plan))
        driver = stack.enter_context(running("driver", ["bench.driver"], folder))
        driver.tell(asdict(plan))
        upstream = f"http://127.0.0.1:{orjson.loads(driver.hear())['port']}"
        process = stack.enter_context(running("subject", [subject.module, str(cores.measured)], folder))
        process.tell(_options(subject, upstream, database[0] if database else None))
        address = urlsplit(process.hear())
        pids = {"subject": process.pid}
        if database:
            _wait_until_ready(address.geturl())
            pids["database"] = database[1]
        driver.tell({"host": address.hostname, "port": address.port, "pids": pids, "core": cores.measured})
        outcome = _follow(driver, process, plan, database[2] if database else None, observer or Observer())
        return replace(outcome, stored=_count_stored(database[2], plan)) if database else outcome


def _options(subject: Subject, upstream: str, uri: str | None) -> dict[str, Any]:
    if not subject.needs_database:
        return {**subject.options, "upstream": upstream}
    return {
        "mongodb_uri": uri,
        "mongodb_db_name": DATABASE,
        "encryption_secret": ENCRYPTION_SECRET,
        "whatsapp_app_secret": APP_SECRET,
        "graph_api_base_url": upstream,
        "graph_api_version": GRAPH_VERSION,
        "ai_base_url": f"{upstream}/v1",
        "ai_api_key": "sk-bench",
        "ai_model": "bench",
        "rate_limit_health": "1000000/minute",  # it is asked often while it starts
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
    commands: Counter[str] = Counter()
    while True:
        match orjson.loads(driver.hear()):
            case {"outcome": outcome}:
                return replace(_read_outcome(outcome), commands=dict(+commands))
            case {"event": "primed"}:
                if client is not None:
                    _wait_until_held(client, plan)
                driver.tell("go on")
            case {"event": "window"}:
                commands.subtract(_read_commands(client))
                observer.began(subject)
            case {"event": "measured"}:
                commands.update(_read_commands(client))
                observer.ended(subject)


def _read_commands(client: Documents | None) -> dict[str, int]:
    """Return how many commands of each kind the database has had: what one batch costs, whatever its size."""
    if client is None:
        return {}
    told = client.admin.command("serverStatus")["metrics"]["commands"]
    return {name: told[name]["total"] for name in COMMANDS}


def _wait_until_held(client: Documents, plan: Plan) -> None:
    """Wait until the first message of every customer is held, so that no turn runs while the others are stored."""
    inbox = client[DATABASE].inbox
    wait_until(
        lambda: inbox.count_documents({"state": "active", "stage": "held"}) == plan.customers,
        what="every conversation is held",
        timeout_s=START_TIMEOUT_S,
        pause_s=0.1,
    )
    time.sleep(0.2)  # the last write is settled


def _count_stored(client: Documents, plan: Plan) -> dict[str, int]:
    """Count the documents by state, once all turns have ended where they can."""
    inbox = client[DATABASE].inbox
    if not plan.prime:
        with suppress(BenchFailed):  # the states say so
            wait_until(
                lambda: inbox.find_one({"state": {"$in": ["active", "queued"]}}) is None,
                what="every turn has ended",
                timeout_s=plan.drain_s,
                pause_s=0.1,
            )
    return {
        group["_id"]: group["count"] for group in inbox.aggregate([{"$group": {"_id": "$state", "count": {"$sum": 1}}}])
    }


def _read_outcome(outcome: dict[str, Any]) -> Outcome:
    for name in ("ack_ms", "reply_ms", "added_ms", "late_ms"):
        outcome[name] = outcome[name] and Latencies(**outcome[name])
    outcome["cpu"] = {role: Cpu(**cpu) for role, cpu in outcome["cpu"].items()}
    return Outcome(**outcome)
