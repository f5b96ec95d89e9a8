"""``whatsapp-hub business check``: whether Meta takes a business's token, and whether its messages come here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import click

from whatsapp_hub.cloud_api.accounts import Answer, NumberFacts
from whatsapp_hub.commands.account_findings import EXPIRES_SOON
from whatsapp_hub.commands.completion import SUB_DOMAIN
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import FAILED
from whatsapp_hub.commands.findings import FINDING_KEYS, Finding, Verdict, mend, note, ok, print_findings
from whatsapp_hub.commands.graph_checks import Examiner, Subject, explain_refusal, open_accounts, read_subject
from whatsapp_hub.commands.printing import json_option
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.managed import BusinessDocuments


@click.command("check", epilog="Example: whatsapp-hub business check bakery")
@SUB_DOMAIN
@json_option("a list", FINDING_KEYS)
@click.pass_context
def check(ctx: click.Context, *, sub_domain: str, as_json: bool) -> None:
    """Ask Meta whether a business can send and gets its messages: token, numbers, account, app. Changes nothing.

    Looks at each of its numbers, at what its access token may do, at who gets the webhooks of its account, whether the
    app's secret is the one known here, and whether the app is subscribed to messages.

    Exit status: 0 all good, 1 something to mend, or Graph did not say.
    """
    settings = read_settings(tenants=True)
    document = run_on_database(settings, lambda database: BusinessDocuments(database).get(sub_domain))
    subject = read_subject(document, open_vault(settings).decrypt, settings)
    findings = [*_look(subject, datetime.now(UTC)), *asyncio.run(_ask(settings, subject))]
    print_findings(findings, as_json=as_json)
    ctx.exit(FAILED if any(finding.verdict is not Verdict.OK for finding in findings) else 0)


def _look(subject: Subject, now: datetime) -> Iterator[Finding]:
    """Find what can be said without asking."""
    business = subject.business
    name = business.sub_domain
    if business.fault:
        yield mend("document", business.fault, f"look at it with `whatsapp-hub business show {name}`")
    if not business.phone_number_ids:
        yield mend("document", "it has no phone number id", "add it to whatsappPhoneNumberIds")
    expires_at = business.token_expires_at
    if expires_at is not None and expires_at - now <= EXPIRES_SOON:
        words = "expired" if expires_at <= now else "expires"
        remedy = f"make a new one at Meta, then `whatsapp-hub business set-token {name}`"
        yield mend("token", f"its access token {words} on {expires_at:%Y-%m-%d}", remedy)


async def _ask(settings: Settings, subject: Subject) -> Sequence[Finding]:
    token = subject.token
    if not token:
        return ()
    async with open_accounts(settings) as graph:
        answers = [(number, await graph.find_number(number, token)) for number in subject.business.phone_number_ids]
        findings = [_judge(subject, number, answer) for number, answer in answers]
        if not any(answer.taken for _, answer in answers):
            return findings
        examined = await Examiner(graph).examine(subject)
    return [*findings, *(examined or [_ALL_WELL])]


def _judge(subject: Subject, number: str, answer: Answer[NumberFacts]) -> Finding:
    result = answer.result
    if answer.taken:
        quality = answer.facts.quality if answer.facts else ""
        return ok("token", f"number {number}: Graph takes the access token{f', quality {quality}' if quality else ''}")
    if answer.open:
        remedy = "ask again; see to the network and GRAPH_API_BASE_URL if that goes on"
        return note("token", f"number {number}: Graph does not say: {result.reason}", remedy)
    words = f"number {number}: Graph refuses the access token: {result.reason}"
    return mend("token", words, explain_refusal(subject.business.sub_domain, result))


_ALL_WELL: Final = ok("webhooks", "its account's webhooks go to its app, and the app is subscribed to the messages")
