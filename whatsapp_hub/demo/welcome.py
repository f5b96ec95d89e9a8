"""What the demo says: its welcome, and replies as they arrive at the phone."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final

import click

from whatsapp_hub.demo.embedded import Embedded
from whatsapp_hub.demo.running import Demo
from whatsapp_hub.demo.samples import SAMPLES
from whatsapp_hub.demo.sends import Send
from whatsapp_hub.telemetry.redaction import masked

_HOUR_S: Final = 3600.0


def describe(demo: Demo, database: Embedded, page: str | None = None) -> Iterator[str]:
    """Yield the lines of the welcome."""
    sample = SAMPLES[0]
    webhook = demo.build_webhook(sample, sample.question)
    yield f"{click.style('WhatsApp Hub demo', bold=True)} at {click.style(demo.address, bold=True)}, on {database}"
    yield ""
    if page is not None:
        yield f"Playground: {click.style(page, bold=True)}  write to the businesses, make things fail, and watch"
        yield f"Console:    {demo.address}/console  its token in this run is {demo.admin_token}"
        yield ""
    yield "Three sample businesses, each with a token of its own:"
    for each in SAMPLES:
        yield f"  {each.sub_domain:<8}  {each.name:<20}  phone number id {each.phone_number_id}"
    yield ""
    yield f"Write to the {sample.sub_domain}: paste this into another terminal. The reply appears below."
    yield ""
    yield (
        f"curl -i {webhook.url} -H 'Content-Type: application/json'"
        f" -H 'X-Hub-Signature-256: {webhook.signature}' -d {shlex.quote(webhook.body.decode())}"
    )
    yield ""
    yield "Paste it again: 200, and no second reply. Change a letter of the text: 401, the signature does not hold."
    yield f"To sign texts of your own (HMAC-SHA256 of the body), the app secret of this run is {demo.app_secret}"
    yield f"Look around: {', '.join(f'{demo.address}/{path}' for path in ('health', 'ready', 'metrics'))}"
    yield "Stop: Ctrl-C. Everything lies in a temporary folder and goes with it; the environment was not looked at."
    yield ""


def print_welcome(demo: Demo, database: Embedded, page: str) -> None:
    """Print the welcome. The lines are not folded, so that what is to be pasted stays one line."""
    for line in describe(demo, database, page):
        click.echo(line)


async def print_replies(demo: Demo) -> None:
    """Print replies as they come, until cancelled."""
    names = {sample.phone_number_id: sample.sub_domain for sample in SAMPLES}
    async for send in _follow(demo):
        text = "".join(letter if letter.isprintable() else " " for letter in send.words)
        business = click.style(names.get(send.phone_number_id, send.phone_number_id), bold=True)
        click.echo(f"{business} -> {masked(send.customer)}: {text}")


async def _follow(demo: Demo) -> AsyncIterator[Send]:
    shown = 0
    while True:
        with suppress(TimeoutError):
            for send in (await demo.graph.log.wait_for(shown + 1, timeout_s=_HOUR_S))[shown:]:
                shown += 1
                yield send
