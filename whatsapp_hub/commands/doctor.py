"""``whatsapp-hub doctor``: what is wrong, and how to mend it. Changes nothing."""

from __future__ import annotations

import resource
from typing import Final

import click

from whatsapp_hub.commands.database import run_on_database
from whatsapp_hub.commands.doctor_database import (
    check_collections,
    check_indexes,
    check_server,
    check_write_concern,
)
from whatsapp_hub.commands.doctor_events import check_events
from whatsapp_hub.commands.doctor_security import check_proxies, check_security
from whatsapp_hub.commands.doctor_tenants import check_dead_letters, check_secret, check_tenants
from whatsapp_hub.commands.failures import FAILED, WRONG_USAGE, as_failure
from whatsapp_hub.commands.findings import FINDING_KEYS, Finding, Verdict, mend, note, ok, print_findings
from whatsapp_hub.commands.graph_checks import check_graph
from whatsapp_hub.commands.printing import json_option
from whatsapp_hub.database import Database
from whatsapp_hub.errors import SettingsInvalid, StoreUnavailable
from whatsapp_hub.settings import Settings, load_settings

#: 2,000 connections of Meta and of the proxy, 200 to Graph, 1,000 to assistants, 100 to the database, and some.
LEAST_FILES: Final = 4096


@click.command(
    "doctor", short_help="Say what is wrong and how to mend it.", epilog="Example: whatsapp-hub doctor --json"
)
@json_option("a list of objects", FINDING_KEYS)
@click.option("--offline", is_flag=True, help="Ask nothing of Meta's Graph API.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, offline: bool) -> None:
    """Check settings, database, indexes and businesses, and say how to mend what is wrong.

    Asks the Graph API about one number of each business: whether it takes the access token, who gets the webhooks of
    the account, and whether the app is subscribed to messages. Changes nothing, and may run beside a server.

    Each finding is ok, note (worth knowing, nothing is broken) or mend. Exit status: 0 nothing to mend, 1 something to
    mend, 2 settings with which `serve` would not start.
    """
    settings, faults = _check_settings()
    findings = [*faults, _check_files()]
    if settings is not None:
        findings += [*check_security(settings), check_proxies(settings), *_check_database(settings, offline=offline)]
    print_findings(findings, as_json=as_json)
    if any(finding.verdict is Verdict.MEND for finding in faults):
        ctx.exit(WRONG_USAGE)
    ctx.exit(FAILED if any(finding.verdict is Verdict.MEND for finding in findings) else 0)


def _check_settings() -> tuple[Settings | None, list[Finding]]:
    """Read the settings; where only something is missing that the other checks can do without, go on with them."""
    try:
        return load_settings(serve=True), [ok("settings", "complete")]
    except SettingsInvalid as exc:
        faults = [mend("settings", fault) for fault in exc.faults]  # each says what to write
    try:
        settings = load_settings()
    except SettingsInvalid:
        return None, faults
    return (settings if settings.mongodb_uri and settings.mongodb_db_name else None), faults


def _check_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return ok("open files", f"up to {'any number' if soft == resource.RLIM_INFINITY else soft}")
    # The service may well have another limit than the shell in which somebody asks.
    return note(
        "open files",
        f"only {soft} here (at most {hard}): too few for many connections",
        "LimitNOFILE=65536 in the systemd unit, --ulimit nofile=65536 for a container, `ulimit -n 65536` in a shell",
    )


def _check_database(settings: Settings, *, offline: bool) -> list[Finding]:
    try:
        return run_on_database(settings, lambda database: _look(database, settings, offline=offline))
    except StoreUnavailable as exc:
        return [mend("database", str(as_failure(exc)), "start it, or correct MONGODB_URI, its user or its password")]


async def _look(database: Database, settings: Settings, *, offline: bool) -> list[Finding]:
    findings = [*await check_server(database), await check_write_concern(database)]
    findings += [await check_collections(database), *await check_indexes(database, settings)]
    if settings.encryption_secret is not None:
        findings += [await check_secret(database, settings), *await check_tenants(database, settings)]
        if not offline:
            findings += await check_graph(database, settings)
    return [*findings, await check_dead_letters(database), *await check_events(database)]
