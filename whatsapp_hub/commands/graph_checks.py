"""What ``doctor`` and ``business check`` ask of Graph: whether it is there, and takes the businesses' tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from whatsapp_hub.cloud_api.client import open_session
from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.cloud_api.number_check import NumberCheck
from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.directory import Directory

AT_ONCE: Final = 20
MOST_S: Final = 30.0  # for all businesses together


@asynccontextmanager
async def open_number_check(settings: Settings) -> AsyncIterator[NumberCheck]:
    """Open what asks the Graph of the settings, and close it afterwards."""
    async with open_session(max_connections=AT_ONCE) as session:
        yield NumberCheck(session, base_url=settings.graph_api_base_url, version=settings.graph_api_version)


async def check_graph(database: Database, settings: Settings, *, most_s: float = MOST_S) -> list[Finding]:
    """Ask Graph about one number of every business that is switched on. Raises ``StoreUnavailable``."""
    directory = Directory(database, open_vault(settings), settings, Metrics())
    businesses = [*await directory.find_all(), *_fallback(settings)]
    to_ask = [one for one in businesses if one.enabled and one.access_token and one.phone_number_ids]
    async with open_number_check(settings) as check:
        outage = await check.find_outage()
        if outage is not None:
            remedy = "see to the network, the DNS, a proxy in between, or GRAPH_API_BASE_URL; --offline leaves this out"
            return [mend("Graph API", f"cannot be reached: {outage}", remedy)]
        results = await _ask_all(check, to_ask, most_s)
    refused = [finding for one, result in zip(to_ask, results, strict=True) if (finding := _judge(one, result))]
    taken = sum(result is not None and result.verdict is Verdict.SENT for result in results)
    return [ok("Graph API", f"answers, and takes the tokens of {taken} of {len(to_ask)} businesses"), *refused]


async def _ask_all(check: NumberCheck, businesses: Sequence[Business], most_s: float) -> list[SendResult | None]:
    """Ask about all of them, some at a time; None for those that were not answered in the time there is."""
    results: list[SendResult | None] = [None] * len(businesses)
    waiting = iter(enumerate(businesses))

    async def ask_some() -> None:
        for index, business in waiting:
            results[index] = await check.ask(business.phone_number_ids[0], business.access_token or "")

    try:
        async with asyncio.timeout(most_s), asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_some())
    except TimeoutError:
        pass
    return results


def _judge(business: Business, result: SendResult | None) -> Finding | None:
    name, number = business.sub_domain, business.phone_number_ids[0]
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


def _fallback(settings: Settings) -> Sequence[Business]:
    number, token = settings.whatsapp_phone_number_id, settings.whatsapp_token
    if number is None or token is None:
        return ()
    return (
        Business(
            id="fallback",
            name="fallback",
            sub_domain="fallback",
            account_id=None,
            phone_number_ids=(number,),
            enabled=True,
            access_token=token.get_secret_value(),
        ),
    )
