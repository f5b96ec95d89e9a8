"""``whatsapp-hub demo``: the whole thing on this machine, nothing needed and nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import webbrowser
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import asdict
from typing import Final

import click
import orjson
import uvloop

from whatsapp_hub.commands.failures import FAILED, explain_bind_error
from whatsapp_hub.demo.browser import has_browser
from whatsapp_hub.demo.embedded import Embedded, embedded
from whatsapp_hub.demo.hub_process import HubProcess
from whatsapp_hub.demo.once import Answered, ask_once
from whatsapp_hub.demo.playground.playground import Playground
from whatsapp_hub.demo.playground.site import open_site
from whatsapp_hub.demo.running import open_demo
from whatsapp_hub.demo.samples import SAMPLES
from whatsapp_hub.demo.welcome import print_replies, print_welcome
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.logs import setup_logging

PORT: Final = 8000
BACKLOG: Final = 1024
LOOPBACK: Final = "127.0.0.1"


@click.command(
    "demo",
    short_help="Try it: everything on this machine, nothing left behind.",
    epilog="Example: whatsapp-hub demo --once --json",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port to listen on; 0: any that is free.  [default: {PORT}; with --once any other if that is taken]",
)
@click.option("--once", is_flag=True, help="Write to each business once, wait for the delivered replies, and exit.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --once: print JSON, a list of objects with business, question, reply, ack_ms, reply_ms.",
)
@click.option("--browser/--no-browser", default=True, help="Whether to open the playground in a browser.")
@click.pass_context
def command(ctx: click.Context, *, host: str, port: int | None, once: bool, as_json: bool, browser: bool) -> None:
    """Try the hub: a database, a stand-in for Meta's Graph API, three businesses, and the real server.

    Opens the playground, a page to write to the businesses and to make things fail.

    Looks at no environment and no .env file, and leaves nothing behind. The database is the one that HUB_EMBEDDED
    names, a mongod on the PATH, or the one that comes with whatsapp-hub[embedded].
    """
    if as_json and not once:
        raise click.UsageError("--json: only with --once; write `whatsapp-hub demo --once --json`.")
    # From here on a plain `kill` also ends in the clearing up, like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(_listen(host, port, once=once)) as listener, HubProcess(listener) as hub, embedded() as database:
        for program in database.passed_over:
            click.echo(f"Passed over: {program}", err=True)
        if once:
            status = _run(_answer_once(database, hub, as_json=as_json))
        else:
            with closing(_listen_for_page(listener)) as page:
                status = _run(_stay(database, hub, page, browser=browser))
    if status is None:
        click.echo("Stopped.", err=True)  # the last word: what the hub still had to log came before
        status = FAILED if once else 0
    ctx.exit(status)


def _listen(host: str, port: int | None, *, once: bool) -> socket.socket:
    """Take the port before anything is started."""
    wanted = PORT if port is None else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, wanted), family=family, backlog=BACKLOG)
    except OSError as exc:
        example = f"`whatsapp-hub demo --port {wanted + 1}`"
        failure = explain_bind_error(exc, f"{host} port {wanted}", example=example)
        if failure is None:
            raise
        if once and port is None:
            return socket.create_server((host, 0), family=family, backlog=BACKLOG)  # nobody has to know it
        raise failure from exc


def _listen_for_page(listener: socket.socket) -> socket.socket:
    """Take a port on loopback for the playground: the next one, if that can be had."""
    port = listener.getsockname()[1] + 1
    try:
        return socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError):
        return socket.create_server((LOOPBACK, 0))


def _run(work: Coroutine[None, None, int]) -> int | None:
    """Run the demo until it is through or a signal comes; return its exit status, None after a signal."""
    setup_logging(Settings.isolated(log_format="text", log_level="WARNING"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run_until_signal(work))


async def _run_until_signal(work: Coroutine[None, None, int]) -> int | None:
    task = asyncio.ensure_future(work)

    def stop() -> None:
        if not task.cancelling():  # an impatient second Ctrl-C must not break off the clearing up
            task.cancel()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop)
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _stay(database: Embedded, hub: HubProcess, page: socket.socket, *, browser: bool) -> int:
    playground = Playground(page, database.servers[0].pid)
    async with open_demo(database.uri, hub, extras=playground) as demo, playground.running(demo), open_site(playground):
        print_welcome(demo, database, playground.page)
        if browser and has_browser():
            await asyncio.to_thread(webbrowser.open, playground.page)
        await print_replies(demo)
    return 0


async def _answer_once(database: Embedded, hub: HubProcess, *, as_json: bool) -> int:
    async with open_demo(database.uri, hub) as demo:
        answers = await ask_once(demo)
    if as_json:
        click.echo(orjson.dumps([asdict(answer) for answer in answers], option=orjson.OPT_INDENT_2))
    else:
        _print_answers(database, answers)
    return 0


def _print_answers(database: Embedded, answers: list[Answered]) -> None:
    names = {sample.sub_domain: sample.name for sample in SAMPLES}
    click.echo(f"On {database}:")
    for answer in answers:
        click.echo(f"\n{click.style(names[answer.business], bold=True)} ({answer.business})")
        click.echo(f"  asked     {answer.question}")
        click.echo(f"  answered  {answer.reply}")
        click.echo(f"  200 after {answer.ack_ms:.1f} ms, the reply sent after {answer.reply_ms:.1f} ms, and delivered")
    click.echo(f"\nAll {len(answers)} answered.")
