"""F14 to F16: Graph fails in every way it can, a token expires, and assistants hang, ramble and break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, quantiles
from typing import Any

import pytest

from tests.faults.driver import name_customer
from tests.faults.history import Message
from tests.faults.loads import acks_s, answers_s, messages_between, percentile
from tests.faults.world import World, open_world
from tests.hub import VAULT, until
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.cloud_api.error_codes import CODES
from whatsapp_hub.cloud_api.errors import Verdict
from whatsapp_hub.cloud_api.outgoing import read_callback_data
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.demo.sends import Send

RETRY_BASE_S = 0.2
STATUS_WAIT_S = 2.0
BEFORE, AFTER = 0, 1  # whether Graph did not take a message whose answer was lost, or did


def tries_of(world: World, message: Message) -> list[Send]:
    """Return every try to answer with the turn that this message leads, in order."""
    return [send for send in world.graph.log.sends if names(send, message)]


def names(send: Send, message: Message) -> bool:
    named = read_callback_data(send.callback)
    about = (send.phone_number_id, named.message_id) if named else None
    return about == (message.number, message.wamid)


async def row_of(world: World, message: Message) -> dict[str, Any]:
    row: dict[str, Any] | None = await world.database.inbox.find_one({"_id": message.key})
    assert row is not None
    return row


def log_lines(world: World, words: str) -> list[str]:
    return [line for hub in world.hubs for line in hub.log_path.read_text().splitlines() if words in line]


async def say_in_order(world: World, number: str, customer: str, count: int = 3, text: str = "") -> list[Message]:
    """Say several things, each when the one before was acknowledged; the text belongs to the first."""
    first = await world.driver.say(number, customer, text=text or None)
    return [first, *[await world.driver.say(number, customer) for _ in range(count - 1)]]


# F14: Graph refuses


async def test_every_error_code_that_is_known_has_the_consequence_that_it_should_have() -> None:
    """Each code once, on the first of three messages: to its own customer or, where it stops a business, business."""
    codes = {code: meaning.verdict for code, meaning in CODES.items()}
    stopping = [code for code, verdict in codes.items() if verdict is Verdict.HOLD]
    numbers = ("101", *[f"9{code:07}" for code in stopping])
    async with open_world(numbers=numbers, timing={"retry_base_s": RETRY_BASE_S}) as world:
        for index, code in enumerate(codes):
            customer = name_customer(index)
            world.graph.control.faults.arm(Fault(status=400, code=code, retry_after="0.3", customer=customer))
        async with asyncio.TaskGroup() as group:
            conversations = {
                code: group.create_task(
                    say_in_order(world, f"9{code:07}" if code in stopping else "101", name_customer(index))
                )
                for index, code in enumerate(codes)
            }
        await world.assert_holds()
        for code, verdict in codes.items():
            first = conversations[code].result()[0]
            row, tries = await row_of(world, first), tries_of(world, first)
            if verdict is Verdict.DEAD:
                assert (row["state"], len(tries)) == ("dead", 1), code
                assert row["reason"].startswith(f"{code} "), code
                continue
            assert (row["state"], row["attempts"]) == ("done", 1), code
            assert [send.accepted for send in tries] == [False, True], code
            assert tries[1].time - tries[0].time >= 0.3, code
            assert row["parts"][0]["failures"] == (verdict is Verdict.RETRY), code
        assert len(log_lines(world, '"business held"')) == len(stopping)
        assert len(log_lines(world, '"reply not sent"')) == len(codes)
        counted = {outcome: await graph_answers(world, outcome) for outcome in ("retry", "dead", "hold", "unknown")}
        assert counted == {outcome: sum(verdict == outcome for verdict in codes.values()) for outcome in counted}


async def graph_answers(world: World, outcome: str) -> float:
    return await world.hubs[0].sample("whatsapp_hub_graph_requests_total", endpoint="messages", outcome=outcome)


async def test_message_that_meta_fails_at_again_and_again_dies_and_lets_the_next_one_pass() -> None:
    async with open_world(timing={"retry_base_s": 0.05}) as world:
        customer = name_customer(1)
        world.graph.control.faults.arm(Fault(status=500, code=131000, customer=customer, times=5))
        first = await world.driver.say("101", customer)
        await until_tried(world, "101", 1)
        later = await say_in_order(world, "101", customer, 2)
        await world.assert_holds()
        row = await row_of(world, first)
        assert row["state"] == "dead"
        assert row["reason"] == "failed 5 times: 131000 something went wrong at Meta"
        assert len(tries_of(world, first)) == 5
        assert [message.label in world.graph.log.accepted[-1].text for message in later] == [True, True]
        assert len(log_lines(world, '"dead letter"')) == 1


# F14: Graph's answer is lost, cut or not readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Strange:
    """An answer that does not say what became of a message."""

    fault: Fault
    customer: str
    tries: int  #: how often it has to be sent
    is_ambiguous: bool = False


def strange_answers() -> list[Strange]:
    """Every strange answer, each for a customer of its own; where the outcome is unknown the statuses decide."""
    lost = [Effect.CLOSE_BEFORE, Effect.CLOSE_AFTER, Effect.HANG, Effect.GARBAGE]
    unknown = [
        (Fault(effect=effect, status=502, delay_s=1.0, accepted=bool(taken)), 1 if taken else 2)
        for effect in lost
        for taken in (BEFORE, AFTER)
    ]
    read = [Effect.SLOW_BODY, Effect.CUT, Effect.TRUNCATED, Effect.NO_ID]
    cases = [*unknown, *[(Fault(effect=effect, delay_s=1.5), 1) for effect in read]]
    return [
        Strange(
            fault=Fault(
                effect=fault.effect,
                status=fault.status,
                delay_s=fault.delay_s,
                accepted=fault.accepted,
                customer=name_customer(index),
            ),
            customer=name_customer(index),
            tries=tries,
            is_ambiguous=index < len(unknown),
        )
        for index, (fault, tries) in enumerate(cases)
    ]


async def test_reply_whose_answer_is_lost_or_cut_is_seen_once_and_the_next_ones_after_it() -> None:
    cases = strange_answers()
    async with open_world(timing={"status_wait_s": STATUS_WAIT_S}) as world:
        world.graph.control.faults.arm(*[case.fault for case in cases])
        async with asyncio.TaskGroup() as group:
            said = [group.create_task(say_in_order(world, "101", case.customer)) for case in cases]
        await world.assert_holds()
        for case, conversation in zip(cases, said, strict=True):
            tries = tries_of(world, conversation.result()[0])
            assert (len(tries), tries[-1].accepted) == (case.tries, True), case
            if case.tries == 2:
                assert tries[1].time - tries[0].time >= STATUS_WAIT_S, case
            row = await row_of(world, conversation.result()[0])
            assert (row["state"], row["attempts"]) == ("done", 1), case
        ambiguous = sum(case.is_ambiguous for case in cases)
        assert await world.hubs[0].sample("whatsapp_hub_replies_total", result="ambiguous") == ambiguous


# F14: no retry storm


@pytest.mark.timeout(60)
async def test_tries_after_refusals_are_spread_and_grow_apart() -> None:
    """Full jitter: each wait is drawn evenly between nothing and a limit that doubles; others notice nothing."""
    async with open_world(timing={"retry_base_s": RETRY_BASE_S, "retry_max_s": 1.6}) as world:
        world.graph.control.faults.arm(Fault(status=500, code=131016, token="token-101", times=None))
        said = [await world.driver.say("101", name_customer(index)) for index in range(25)]
        others = [await world.driver.say("102", name_customer(index)) for index in range(25)]
        await until_tried(world, said[0].number, 120)
        assert all(len(tries_of(world, message)) == 1 for message in others)
        world.graph.control.faults.clear()
        await world.assert_holds()
        waits = [wait for message in said for wait in waits_between(tries_of(world, message))]
    assert max(wait_s - limit_s for wait_s, limit_s in waits) < 0.5  # this machine does other things too
    shares = [wait_s / limit_s for wait_s, limit_s in waits if limit_s > 2 * RETRY_BASE_S]
    assert len(shares) >= 40
    assert 0.3 < mean(shares) < 0.75
    first, _, third = quantiles(shares, n=4)
    assert third - first > 0.25


async def until_tried(world: World, number: str, times: int) -> None:
    async def tried() -> bool:
        return sum(send.phone_number_id == number for send in world.graph.log.sends) >= times

    await until(tried, 20)


def waits_between(tries: Sequence[Send]) -> list[tuple[float, float]]:
    """Return how long each wait was, and how long it may be at most."""
    waits_s = [later.time - earlier.time for earlier, later in pairwise(tries)]
    return [(wait_s, min(1.6, RETRY_BASE_S * 2.0**failed)) for failed, wait_s in enumerate(waits_s)]


async def test_limit_of_a_pair_makes_the_others_wait_for_nothing() -> None:
    async with open_world(timing={"retry_base_s": RETRY_BASE_S}) as world:
        customer = name_customer(1)
        world.graph.control.faults.arm(Fault(status=400, code=131056, customer=customer, times=2))
        limited = await say_in_order(world, "101", customer)
        other = await world.driver.say("101", name_customer(2))
        await world.assert_holds()
        times = [send.time for send in tries_of(world, limited[0])]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert [gap >= RETRY_BASE_S * 4**n for n, gap in enumerate(gaps)] == [True, True]
        assert tries_of(world, other)[0].time < times[1] + RETRY_BASE_S


# F15


@pytest.mark.timeout(60)
async def test_expired_token_stops_its_business_alone_and_burns_nothing_until_it_is_renewed() -> None:
    async with open_world(timing={"held_recheck_s": 5.0}) as world:  # as in production
        tokens = {number: f"token-{number}" for number in ("101", "102", "103")}
        world.graph.control.tokens = tokens
        async with asyncio.TaskGroup() as group:
            group.create_task(
                world.driver.converse(numbers=("101", "102", "103"), customers=30, rate_per_s=30, for_s=7)
            )
            await asyncio.sleep(1.5)
            tokens["101"] = "token-101-renewed"
            expired_at = time.monotonic()
            await asyncio.sleep(3)
            await renew_token(world, "101", tokens["101"])
            renewed_at = time.monotonic()
            resumed_after_s = await seconds_until_answered(world, "101")
        await world.assert_holds()
        assert resumed_after_s <= 10
        refused = [send for send in world.graph.log.sends if send.code == 190]
        assert refused
        assert all(send.time < refused[0].time + 0.5 for send in refused)  # then nothing more is tried
        rows = await world.database.inbox.find({"_id": {"$regex": "^101:"}}).to_list(None)
        assert {row["state"] for row in rows} == {"done"}
        assert max(row["attempts"] for row in rows) == 1
        assert {part["failures"] for row in rows for part in row.get("parts", ())} == {0}
        others = [m for m in messages_between(world, expired_at, renewed_at) if m.number != "101"]
        assert len(others) > 20
        assert max(answers_s(world, others)) < 2
        assert len(log_lines(world, '"business held"')) == 1
        assert len(log_lines(world, '"business released"')) == 1


async def renew_token(world: World, number: str, token: str) -> None:
    change = {"$set": {"whatsappAccessToken": VAULT.encrypt(token)}}
    await world.database.businesses.update_one({"whatsappPhoneNumberIds": number}, change)


async def seconds_until_answered(world: World, number: str) -> float:
    since = time.time()

    async def answered() -> float | None:
        sends = [send for send in world.graph.log.accepted if send.phone_number_id == number and send.time > since]
        return sends[0].time if sends else None

    return await until(answered, 15) - since


# F16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moody:
    """How a model fails, and whether its answer is had all the same."""

    word: str  #: in the text of who gets it
    effect: Effect
    answers: bool
    times: int | None = None
    status: int | None = None
    delay_s: float = 30.0


MOODS = (
    Moody(word="hangs", effect=Effect.HANG, answers=False),
    Moody(word="hiccups", effect=Effect.HANG, answers=True, times=1),
    Moody(word="dawdles", effect=Effect.SLOW_BODY, answers=True, delay_s=0.7),
    Moody(word="drips", effect=Effect.SLOW_BODY, answers=False),
    Moody(word="rambles", effect=Effect.BIG, answers=False),
    Moody(word="babbles", effect=Effect.GARBAGE, answers=False, status=200),
    Moody(word="mumbles", effect=Effect.TRUNCATED, answers=False),
    Moody(word="breaks", effect=Effect.ERROR, answers=False, status=500),
    Moody(word="stumbles", effect=Effect.ERROR, answers=True, times=2, status=500),
    Moody(word="hesitates", effect=Effect.ERROR, answers=True, times=1, status=429),
    Moody(word="leaves", effect=Effect.CLOSE_BEFORE, answers=False),
    Moody(word="vanishes", effect=Effect.CUT, answers=True, times=1),
)


@pytest.mark.timeout(60)
@pytest.mark.deadlines
async def test_however_the_assistant_fails_something_is_said_and_nobody_else_waits() -> None:
    async with open_world(environment={"AI_TIMEOUT_S": "1.5"}) as world:
        faults = [
            Fault(endpoint="chat", text=m.word, effect=m.effect, times=m.times, status=m.status, delay_s=m.delay_s)
            for m in MOODS
        ]
        world.graph.control.faults.arm(*faults)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.driver.converse(numbers=("102",), customers=20, rate_per_s=25, for_s=4))
            moody = [
                group.create_task(say_in_order(world, "101", name_customer(100 + index), text=mood.word))
                for index, mood in enumerate(MOODS)
            ]
        await world.assert_holds(fallback_texts=frozenset({FALLBACK_TEXT}))
        texts = {mood: tries_of(world, task.result()[0])[0].text for mood, task in zip(MOODS, moody, strict=True)}
        assert {mood.word: mood.word in text for mood, text in texts.items()} == {m.word: m.answers for m in MOODS}
        speechless = sum(not mood.answers for mood in MOODS)
        assert await world.hubs[0].sample("whatsapp_hub_assistant_requests_total", outcome="fallback") == speechless
        assert len(log_lines(world, "the fallback is sent")) == speechless
        acks = acks_s(world.driver.messages)
        assert percentile(acks, 0.5) <= 0.25
        assert percentile(acks, 0.99) <= 1
        assert max(answers_s(world, messages_between(world, 0, time.monotonic(), "102"))) < 2


async def test_assistant_that_takes_longer_than_a_lease_is_asked_once() -> None:
    """The node is renewed while it waits, so that no other process believes it dead."""
    async with open_world(hubs=2) as world:
        world.graph.model.latency_s = (4.0, 4.5)
        said = [await world.driver.say("101", name_customer(index)) for index in range(20)]
        await world.assert_holds()
        assert len(world.graph.model.requests) == len(said)
        assert [(await row_of(world, message))["attempts"] for message in said] == [1] * len(said)
        assert not log_lines(world, "took over")
        assert not log_lines(world, "node lost")
