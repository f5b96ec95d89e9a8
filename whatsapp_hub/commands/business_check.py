"""``whatsapp-hub business check``: whether Meta takes a business's token for each of its numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import click
import orjson

from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED
from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.commands.findings import Verdict as Found
from whatsapp_hub.commands.graph_checks import explain_refusal, open_number_check
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.commands.tenants import BusinessDocuments, open_vault
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.alerts import TOKEN_EXPIRES_SOON
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import read_business

_MARKS: Final = {Found.OK: "ok   ", Found.NOTE: "note ", Found.MEND: "mend "}


@click.command("check", epilog="Example: whatsapp-hub business check bakery")
@click.argument("sub_domain", metavar="SUBDOMAIN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(ctx: click.Context, *, sub_domain: str, as_json: bool) -> None:
    """Ask Meta whether a business's access token is right for each of its numbers. Changes nothing.

    Exit status: 0 all good, 1 something to mend, or Graph did not say.
    """
    settings = read_settings(tenants=True)
    document = run_on_database(settings, lambda database: BusinessDocuments(database).get(sub_domain))
    business = read_business(document, open_vault(settings).decrypt)
    findings = [*_look(business, datetime.now(UTC)), *asyncio.run(_ask(settings, business))]
    if as_json:
        click.echo(orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.verdict]}{plain(finding.words)}")
            if finding.remedy:
                click.echo(f"     -> {plain(finding.remedy)}")
    ctx.exit(FAILED if any(finding.verdict is not Found.OK for finding in findings) else 0)


def _look(business: Business, now: datetime) -> Iterator[Finding]:
    """Find what can be said without asking."""
    name = business.sub_domain
    if business.fault:
        yield mend("document", business.fault, f"look at it with `whatsapp-hub business show {name}`")
    if not business.phone_number_ids:
        yield mend("document", "it has no phone number id", "add it to whatsappPhoneNumberIds")
    expires_at = business.token_expires_at
    if expires_at is not None and expires_at - now <= TOKEN_EXPIRES_SOON:
        words = "expired" if expires_at <= now else "expires"
        remedy = f"make a new one at Meta, then `whatsapp-hub business set-token {name}`"
        yield mend("token", f"its access token {words} on {expires_at:%Y-%m-%d}", remedy)


async def _ask(settings: Settings, business: Business) -> Sequence[Finding]:
    token = business.access_token
    if not token:
        return ()
    async with open_number_check(settings) as check_number:
        results = [(number, await check_number.ask(number, token)) for number in business.phone_number_ids]
    return [_judge(business, number, result) for number, result in results]


def _judge(business: Business, number: str, result: SendResult) -> Finding:
    if result.verdict is Verdict.SENT:
        return ok("token", f"number {number}: Graph takes the access token")
    if result.verdict in {Verdict.RETRY, Verdict.UNKNOWN}:
        remedy = "ask again; see to the network and GRAPH_API_BASE_URL if that goes on"
        return note("token", f"number {number}: Graph does not say: {result.reason}", remedy)
    words = f"number {number}: Graph refuses the access token: {result.reason}"
    return mend("token", words, explain_refusal(business.sub_domain, result))
