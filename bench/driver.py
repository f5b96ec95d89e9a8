"""The driver's process: offers what a plan says, stands in for the model and for Graph, and reports what it saw.

Told on standard input: the plan; whom to send to; after the first messages of a plan with ``prime``, to go on. Tells on
standard output, a JSON line each: the port of its stand-in, how far it has come, and in the end the outcome.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import uvloop

from bench.accounting import Busy, read_busy, read_cpu, sum_cpu
from bench.ledger import Ledger
from bench.plan import Cpu, Outcome, Plan, Target
from bench.sending import Sender
from bench.stats import latencies_ms
from bench.upstream import Upstream
from bench.webhooks import build_request, choose_customers, choose_numbers, schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where everything stood at one end of the window."""

    at: float
    cpu: Mapping[str, Cpu]
    busy: Busy
    acked: int
    answered: int
    waiting: int


class Window:
    """The part of a run that counts: the meters are read when it begins and when it ends."""

    def __init__(self, plan: Plan, target: Target, ledger: Ledger) -> None:
        self._edges = (plan.first, plan.first + plan.measured)
        self._pids = {**target.pids, "driver": [os.getpid()]}
        self._ledger = ledger
        self.marks: list[Mark] = []

    def reach(self, count: int) -> None:
        """Take in that so many messages have gone by."""
        if len(self.marks) == len(self._edges) or count < self._edges[len(self.marks)]:
            return
        self.marks.append(
            Mark(
                at=time.perf_counter(),
                cpu={role: sum_cpu([read_cpu(pid) for pid in pids]) for role, pids in self._pids.items()},
                busy=read_busy(),
                acked=self._ledger.acked,
                answered=self._ledger.answered,
                waiting=self._ledger.waiting,
            )
        )
        tell(event=("window", "measured")[len(self.marks) - 1])


async def drive(plan: Plan, target: Target, upstream: Upstream, ledger: Ledger) -> Outcome:
    """Send everything, wait for the answers, and return what came of it."""
    window = Window(plan, target, ledger)
    sender = Sender(
        _build_requests(plan, target, ledger),
        ledger,
        on_progress=lambda: window.reach(ledger.settled if plan.rate is None else sender.next),
    )
    upstream.on_send = sender.changed
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a pause would be a latency
    await sender.open(target.host, target.ports, plan.connections)
    if plan.held:
        await sender.send_closed(plan.held)
        tell(event="primed")
        await hear()
    if plan.rate is None:
        await sender.send_closed(plan.total)
    else:
        await sender.send_open(schedule(plan))
    with suppress(TimeoutError):  # the books say what is missing
        async with asyncio.timeout(plan.drain_s):
            await sender.until(lambda: ledger.settled == plan.total and _is_answered(plan, ledger))
    return _summarise(plan, target, ledger, window.marks, upstream.typings)


def _build_requests(plan: Plan, target: Target, ledger: Ledger) -> list[bytes]:
    host, now = target.host, int(time.time())
    number_of = choose_numbers(plan)
    return [
        build_request(serial, customer, number_of(customer), host=host, now=now)
        for serial, customer in enumerate(ledger.customers)
    ]


def _is_answered(plan: Plan, ledger: Ledger) -> bool:
    return plan.unit == "ack" or ledger.waiting <= plan.held


def _summarise(plan: Plan, target: Target, ledger: Ledger, marks: Sequence[Mark], typings: int) -> Outcome:
    start, end = marks
    window = range(plan.first, plan.first + plan.measured)
    answers = plan.unit == "answer"
    others = [core for core in end.busy.worked if core not in target.cores] or target.cores
    return Outcome(
        units=end.answered - start.answered if answers else end.acked - start.acked,
        window_s=end.at - start.at,
        cpu={role: cpu.since(start.cpu[role]) for role, cpu in end.cpu.items()},
        busy={
            "subject": end.busy.share_since(start.busy, set(target.cores)),
            "others": end.busy.share_since(start.busy, others),
        },
        ack_ms=latencies_ms(ledger.acks_s(window)),
        reply_ms=latencies_ms(ledger.replies_s(window)),
        added_ms=latencies_ms(ledger.added_s(window)) if answers else None,
        late_ms=latencies_ms(ledger.late_s(window)) if plan.rate else None,
        statuses={str(status): count for status, count in sorted(ledger.statuses.items())},
        acked=ledger.acked,
        lost=ledger.count_lost(plan.held) if answers else 0,
        duplicated=ledger.duplicated,
        out_of_order=ledger.count_out_of_order() if answers else 0,
        gathered=ledger.count_gathered(),
        under_way=end.waiting,
        typings=typings,
    )


def tell(**words: object) -> None:
    """Tell the bench something."""
    sys.stdout.buffer.write(orjson.dumps(words, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


async def hear() -> Any:
    """Wait for what the bench says."""
    return orjson.loads(await asyncio.to_thread(sys.stdin.buffer.readline))


async def main() -> None:
    """Drive one run."""
    plan = Plan(**await hear())
    ledger = Ledger(choose_customers(plan))
    upstream = Upstream(plan, ledger)
    tell(port=await upstream.listen())
    target = Target(**await hear())
    outcome = await drive(plan, target, upstream, ledger)
    tell(outcome=asdict(outcome))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
