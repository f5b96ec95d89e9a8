"""What ``doctor`` and ``business check`` ask of Graph: about tokens, numbers, accounts and apps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from whatsapp_hub.cloud_api.account_client import AccountClient, Reach
from whatsapp_hub.cloud_api.accounts import Answer, Subscription
from whatsapp_hub.cloud_api.client import open_session
from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.commands.account_findings import (
    judge_app_secret,
    judge_apps,
    judge_numbers,
    judge_subscription,
    judge_token,
)
from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import Decrypt, read_business, read_row
from whatsapp_hub.tenants.managed import BusinessDocuments, Document

T = TypeVar("T")

AT_ONCE: Final = 20
MOST_S: Final = 30.0  # for all businesses together
MAX_SKEW_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A business to ask about, and the app secrets with which its webhooks are verified."""

    business: Business
    app_secrets: tuple[str, ...]
    own_secret: bool

    @property
    def number(self) -> str:
        """The number that ``doctor`` asks about."""
        return self.business.phone_number_ids[0]

    @property
    def token(self) -> str:
        """Its access token; "" where it has none."""
        return self.business.access_token or ""


def read_subject(document: Document, decrypt: Decrypt, settings: Settings) -> Subject:
    """Read a document."""
    own = read_row(document, decrypt).app_secrets
    shared = tuple(secret.get_secret_value() for secret in settings.whatsapp_app_secret)
    return Subject(
        business=read_business(document, decrypt),
        app_secrets=shared if own is None else tuple(secret.decode() for secret in own),
        own_secret=own is not None,
    )


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[AccountClient]:
    """Open what asks the Graph of the settings, and close it afterwards."""
    async with open_session(max_connections=AT_ONCE) as session:
        yield AccountClient(session, base_url=settings.graph_api_base_url, version=settings.graph_api_version)


class Examiner:
    """Asks about accounts and apps; about each app once, however many businesses have it."""

    def __init__(self, graph: AccountClient) -> None:
        """Ask this Graph."""
        self._graph = graph
        self._apps: set[tuple[str, tuple[str, ...]]] = set()

    async def examine(self, subject: Subject) -> list[Finding]:
        """Look at what a token may do, and at who gets its account's webhooks."""
        business, token = subject.business, subject.token
        facts = (await self._graph.inspect_token(token)).facts
        findings = [*judge_token(business, facts, datetime.now(UTC))] if facts else []
        if business.account_id is None:
            words = (
                f"{business.sub_domain}: its document names no account (wabaId), so its webhooks cannot be looked at"
            )
            return [*findings, note("account", words, "write Meta's WhatsApp Business Account ID into wabaId")]
        findings += judge_numbers(business, await self._graph.find_numbers(business.account_id, token))
        apps = await self._graph.find_subscribed_apps(business.account_id, token)
        found, is_subscribed = judge_apps(business, facts, apps)
        findings += found
        if is_subscribed and facts and facts.app_id and subject.app_secrets:
            key = (facts.app_id, subject.app_secrets)
            if key not in self._apps:
                self._apps.add(key)
                findings += await self._examine_app(facts.app_id, facts.app, subject)
        return findings

    async def _examine_app(self, app_id: str, app: str, subject: Subject) -> list[Finding]:
        answers: list[Answer[Subscription]] = []
        for secret in subject.app_secrets:
            answers.append(await self._graph.find_subscription(app_id, secret))
            if answers[-1].taken:
                return [*judge_subscription(app, answers[-1].facts)]
        if any(answer.open for answer in answers):
            return [note("webhook fields", f"Graph does not say which {app} is subscribed to", "ask again")]
        return [judge_app_secret(app, subject.business.sub_domain if subject.own_secret else None)]


async def check_graph(database: Database, settings: Settings, *, most_s: float = MOST_S) -> list[Finding]:
    """Ask Graph about one number of every business that is switched on. Raises ``StoreUnavailable``."""
    decrypt = open_vault(settings).decrypt
    documents = await BusinessDocuments(database).find_all()
    subjects = [*(read_subject(document, decrypt, settings) for document in documents), *_fallback(settings)]
    to_ask = [one for one in subjects if one.business.enabled and one.token and one.business.phone_number_ids]
    async with open_accounts(settings) as graph:
        reach = await graph.reach()
        if reach.outage is not None:
            remedy = "see to the network, the DNS, a proxy in between, or GRAPH_API_BASE_URL; --offline leaves this out"
            return [mend("Graph API", f"cannot be reached: {reach.outage}", remedy)]
        results: list[SendResult | None] = [None] * len(to_ask)
        accounts: list[list[Finding] | None] = [None] * len(to_ask)
        examiner = Examiner(graph)

        async def ask_number(index: int) -> None:
            results[index] = (await graph.find_number(to_ask[index].number, to_ask[index].token)).result

        async def ask_account(index: int) -> None:
            result = results[index]
            taken = result is not None and result.verdict is Verdict.SENT
            # The fallback's own account is nowhere told.
            accounts[index] = await examiner.examine(to_ask[index]) if taken and to_ask[index].business.id else []

        in_time = await _within(most_s, len(to_ask), ask_number, ask_account)
    taken = sum(result is not None and result.verdict is Verdict.SENT for result in results)
    refused = [finding for one, result in zip(to_ask, results, strict=True) if (finding := _judge(one, result))]
    answers = ok("Graph API", f"answers, and takes the tokens of {taken} of {len(to_ask)} businesses")
    return [answers, judge_clock(reach), *refused, *_sum_up(accounts, taken, in_time=in_time)]


def judge_clock(reach: Reach) -> Finding:
    """Compare this machine's clock with Graph's."""
    ahead_s = reach.ahead_s
    if ahead_s is None or abs(ahead_s) <= MAX_SKEW_S:
        return ok("clock", "Graph does not tell the time" if ahead_s is None else "agrees with Meta's")
    words = f"this machine's clock is {abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} Meta's"
    return mend("clock", words, "run a time service (chrony, systemd-timesyncd) on this machine")


async def _within(most_s: float, count: int, *steps: Callable[[int], Awaitable[None]]) -> bool:
    """Take one step after the other for all of them, some at a time; say whether there was time for it."""

    async def take_some(step: Callable[[int], Awaitable[None]], waiting: Iterator[int]) -> None:
        for index in waiting:
            await step(index)

    try:
        async with asyncio.timeout(most_s):
            for step in steps:
                waiting = iter(range(count))
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(take_some(step, waiting))
    except TimeoutError:
        return False
    return True


def _sum_up(accounts: Sequence[list[Finding] | None], taken: int, *, in_time: bool) -> list[Finding]:
    findings = [finding for found in accounts for finding in found or ()]
    if not in_time:
        words = "not every account's webhooks were looked at in time"
        findings.append(note("webhooks", words, "`whatsapp-hub business check` asks about one business"))
    if findings or not taken:
        return findings
    return [ok("webhooks", "every account's go to its app, and the app is subscribed to the messages")]


def _judge(subject: Subject, result: SendResult | None) -> Finding | None:
    name, number = subject.business.sub_domain, subject.number
    if result is None:
        return note("token", f"{name}: Graph was not asked in time", f"`whatsapp-hub business check {name}` asks alone")
    if result.verdict is Verdict.SENT:
        return None
    if result.verdict in {Verdict.RETRY, Verdict.UNKNOWN}:
        words = f"{name}: Graph does not say whether its access token is right: {result.reason}"
        return note("token", words, f"`whatsapp-hub business check {name}` asks again")
    words = f"{name}: Graph refuses its access token for the number {number}: {result.reason}"
    return mend("token", words, explain_refusal(name, result))


def explain_refusal(sub_domain: str, result: SendResult) -> str:
    """Say what to do about a token, a number or an account that Graph refuses."""
    if result.retry_after_s is None:
        return f"make a new one at Meta, then `whatsapp-hub business set-token {sub_domain}`"
    return "see to it in Meta's account of the business; docs/errors.md has what each code asks for"


def _fallback(settings: Settings) -> Sequence[Subject]:
    number, token = settings.whatsapp_phone_number_id, settings.whatsapp_token
    if number is None or token is None:
        return ()
    business = Business(
        id="",
        name="fallback",
        sub_domain="fallback",
        account_id=None,
        phone_number_ids=(number,),
        enabled=True,
        access_token=token.get_secret_value(),
    )
    return (Subject(business=business, app_secrets=(), own_secret=False),)
