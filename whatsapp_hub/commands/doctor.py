"""``whatsapp-hub doctor``: what is wrong, and how to mend it. Changes nothing."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import click
import orjson

from whatsapp_hub.commands.database import run_on_database
from whatsapp_hub.commands.doctor_database import (
    check_collections,
    check_indexes,
    check_server,
    check_write_concern,
)
from whatsapp_hub.commands.doctor_events import check_events
from whatsapp_hub.commands.doctor_security import check_security
from whatsapp_hub.commands.doctor_tenants import check_dead_letters, check_tenants
from whatsapp_hub.commands.failures import FAILED, WRONG_USAGE, as_failure
from whatsapp_hub.commands.findings import Finding, Verdict, mend, note, ok
from whatsapp_hub.commands.graph_checks import check_graph
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.database import Database
from whatsapp_hub.errors import SettingsInvalid, StoreUnavailable
from whatsapp_hub.settings import Settings, load_settings

#: 2,000 connections of Meta and of the proxy, 200 to Graph, 1,000 to assistants, 100 to the database, and some.
LEAST_FILES: Final = 4096
_COLOURS: Final = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MEND: "red"}


@click.command(
    "doctor", short_help="Say what is wrong and how to mend it.", epilog="Example: whatsapp-hub doctor --json"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Ask nothing of Meta's Graph API.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, offline: bool) -> None:
    """Check settings, database, indexes and businesses, and say how to mend what is wrong.

    Asks the Graph API once for each business whether it takes its access token. Changes nothing, and may run beside a
    server. Exit status: 0 all good, 1 something to mend, 2 settings with which `serve` would not start.
    """
    settings, faults = _check_settings()
    findings = [*faults, _check_files()]
    if settings is not None:
        findings += [*check_security(settings), *_check_database(settings, offline=offline)]
    if as_json:
        click.echo(orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2))
    else:
        _print(findings)
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
        findings += await check_tenants(database, settings)
        if not offline:
            findings += await check_graph(database, settings)
    return [*findings, await check_dead_letters(database), *await check_events(database)]


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:<5}", fg=_COLOURS[finding.verdict])
        click.echo(f"{verdict} {finding.check:<{width}}  {plain(finding.words)}")
        if finding.remedy:
            click.echo(f"      {'':<{width}}  -> {plain(finding.remedy)}")
    count = sum(finding.verdict is Verdict.MEND for finding in findings)
    click.echo(f"\n{count} to mend." if count else "\nAll good.")
