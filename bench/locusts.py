"""The guide's load test and ours with Locust: its own figures, and what the hub does meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from bench.accounting import read_cpu
from bench.budget import Row
from bench.processes import ROOT, BenchFailed, running
from bench.scenarios import LOAD
from bench.stage import Subject, count_stored, database_of, hub, start_subject
from bench.stats import percentile
from bench.study import Context, Finding, Study
from bench.watching import MemoryWatch
from bench.webhooks import GUIDE_NUMBER

USERS: Final = 500
SPAWN_RATE: Final = 50  # users a second
UNLIMITED: Final = "100000000/minute"
LOOK_EVERY_S: Final = 5.0
PERCENTS: Final = (50, 95, 99)
TARGETS_MS: Final = {"p50": 500.0, "p95": 2_000.0, "p99": 5_000.0}  # the guide's
MOST_ERRORS: Final = 0.1  # per cent


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A class of the locustfile, and the hub that it meets."""

    user: str
    words: str
    subject: Subject
    drain_s: float  #: how long to wait for the last answers


#: The one customer of the guide gets as many turns as the hub's limit allows; what is left waits in the database.
GUIDE: Final = Crowd(
    user="GuideUser",
    words="the guide's payload: one customer, no message ids, unsigned",
    subject=hub(
        assistant="openai",
        allow_unsigned_webhooks=True,
        rate_limit_webhook=UNLIMITED,
        whatsapp_app_secret="",
        whatsapp_phone_number_id=GUIDE_NUMBER,
        whatsapp_token="EAAbench0123456789",
    ),
    drain_s=1,
)
SIGNED: Final = Crowd(
    user="SignedUser",
    words="signed, with message ids, 10,000 customers",
    subject=hub(assistant="openai"),
    drain_s=240,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came of one load test."""

    requests: int  #: webhooks that were answered
    errors: int  #: how many of them not with 200
    ack_ms: Mapping[str, float]  #: by percentile, and ``max``; above 100 ms Locust keeps two digits
    sending_s: float  #: from the first webhook to the last
    seconds: float  #: as long as Locust ran
    cpu_s: float  #: the hub's meanwhile
    memory: list[tuple[float, float]]  #: seconds and MB
    pending: list[tuple[float, float]]  #: seconds and messages
    turns: float
    replies: int
    duplicated: int
    stored: Mapping[str, int]

    @property
    def per_s(self) -> float:
        """Webhooks a second."""
        return self.requests / self.sending_s


def visit(crowd: Crowd, context: Context) -> Visit:
    """Let 500 users loose on a hub."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hub-bench-")))
        database = stack.enter_context(database_of(crowd.subject, LOAD))
        assert database is not None
        beyond = stack.enter_context(running("stand-in", ["bench.standin"], folder))
        beyond.tell(asdict(LOAD))
        upstream = f"http://127.0.0.1:{orjson.loads(beyond.hear())['port']}"
        core = context.cores.measured
        process, address = stack.enter_context(
            start_subject(crowd.subject, database, upstream=upstream, folder=folder, core=core)
        )
        watch, before = MemoryWatch(), read_cpu(process.pid)
        watch.began(process)
        pending = []
        for passed_s in _swarm(crowd.user, address, context.crowd_s, folder):
            pending.append((passed_s, _read_metric(address, "whatsapp_hub_pending_messages")))
            context.say(f"{crowd.user}: {passed_s:.0f} of {context.crowd_s} s, {pending[-1][1]:,.0f} messages wait")
        watch.ended(process)
        cpu_s = read_cpu(process.pid).since(before).total_s
        stored = count_stored(database.client, replace(LOAD, drain_s=crowd.drain_s))
        watch.finished(process)
        beyond.tell("how many?")
        return Visit(
            **read_stats(orjson.loads((folder / "locust.json").read_bytes())[0]),
            seconds=watch.window_s,
            cpu_s=cpu_s,
            memory=watch.samples,
            pending=pending,
            turns=_read_metric(address, "whatsapp_hub_turn_seconds_count", stage="total"),
            stored=stored,
            **orjson.loads(beyond.hear()),
        )


def _swarm(user: str, address: str, seconds: int, folder: Path) -> Iterator[float]:
    """Run Locust, and yield every few seconds how long it has run."""
    arguments = ["-f", "bench/locustfile.py", "--headless", "--only-summary", "--json-file", str(folder / "locust")]
    crowd = ["--users", str(USERS), "--spawn-rate", str(SPAWN_RATE), "--run-time", f"{seconds}s", "--host", address]
    log, began = folder / "locust.log", time.monotonic()
    with log.open("wb") as output, _running([*arguments, *crowd, user], output.fileno()) as program:
        while program.poll() is None:
            try:
                program.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                yield time.monotonic() - began
    if program.returncode not in {0, 1}:  # 1: there were errors, which are counted
        raise BenchFailed(f"locust ended with status {program.returncode}; it said:\n{log.read_text()[-2000:]}")


@contextmanager
def _running(arguments: list[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    program = subprocess.Popen([sys.executable, "-m", "locust", *arguments], cwd=ROOT, stdout=output, stderr=output)
    try:
        yield program
    finally:
        program.terminate()
        program.wait()


def read_stats(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Read what Locust counted: how many requests took how many milliseconds."""
    counts = sorted((float(ms), count) for ms, count in entry["response_times"].items())
    ordered = [ms for ms, count in counts for _ in range(count)]
    ack_ms = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTS}
    return {
        "requests": entry["num_requests"],
        "errors": entry["num_failures"],
        "sending_s": entry["last_request_timestamp"] - entry["start_time"],
        "ack_ms": {**ack_ms, "max": entry["max_response_time"]},
    }


def _read_metric(address: str, name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"{address}/prometheus/metrics", timeout=10) as response:
        text = response.read().decode()
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def measure_crowd(crowd: Crowd, context: Context) -> Finding:
    """Run one load test."""
    seen = visit(crowd, context)
    title = f"Locust: {USERS} users, {context.crowd_s} s, {crowd.words}"
    table = Table("", "", title=title, title_justify="left", title_style="bold")
    for name, show in _LINES.items():
        table.add_row(name, show(seen))
    return Finding(
        table=table, rows=list(_rows(crowd, seen)), data=asdict(seen), faults=list(_find_faults(crowd, seen))
    )


def _grown(each: Visit) -> str:
    window = [mb for at, mb in each.memory if at <= each.seconds]
    middle = len(window) // 2
    return f"{window[0]:.0f} / {window[middle]:.0f} / {window[-1]:.0f}"


_LINES: Final[Mapping[str, Callable[[Visit], str]]] = {
    "webhooks": lambda each: f"{each.requests:,}",
    "webhooks/s": lambda each: f"{each.per_s:,.0f}",
    "not answered 200": lambda each: f"{each.errors:,}",
    "p50 / p95 / p99 / max ms": lambda each: " / ".join(f"{ms:.0f}" for ms in each.ack_ms.values()),
    "the hub's core": lambda each: f"{each.cpu_s / each.seconds:.0%}",
    "turns": lambda each: f"{each.turns:,.0f}",
    "most messages that waited": lambda each: f"{max((n for _, n in each.pending), default=0):,.0f}",
    "memory at the begin / half / end, MB": _grown,
    "documents in the end": lambda each: ", ".join(f"{count:,} {state}" for state, count in each.stored.items()),
}


def _rows(crowd: Crowd, each: Visit) -> Iterator[Row]:
    for name, most in TARGETS_MS.items():
        yield Row(name=f"locust, {crowd.user}: {name}", measured=each.ack_ms[name], unit="ms", most=most)
    percent = 100 * each.errors / max(each.requests, 1)
    yield Row(name=f"locust, {crowd.user}: errors", measured=percent, unit="%", most=MOST_ERRORS)


def _find_faults(crowd: Crowd, each: Visit) -> Iterator[str]:
    stored = sum(each.stored.values())
    if stored < each.requests - each.errors:
        yield f"{crowd.user}: {each.requests - each.errors - stored} acknowledged and not in the database"
    if each.duplicated:
        yield f"{crowd.user}: {each.duplicated} duplicated"
    if dead := each.stored.get("dead", 0):
        yield f"{crowd.user}: {dead} dead"


LOCUST: Final = Study(
    name="locust",
    title="the guide's load test, 500 users for 5 minutes",
    minutes=6,
    run=partial(measure_crowd, GUIDE),
)
LOCUST_SIGNED: Final = Study(
    name="locust-signed",
    title="the same users with signatures and message ids",
    minutes=8,
    run=partial(measure_crowd, SIGNED),
)
