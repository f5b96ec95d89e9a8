"""The process: sockets, signals, and the event loop around the application."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from whatsapp_hub.app import create_app, has_failed
from whatsapp_hub.http import keys
from whatsapp_hub.http.leaving import Leaving
from whatsapp_hub.listening import Site, most_connections, raise_file_limit
from whatsapp_hub.reload import Reloader
from whatsapp_hub.settings import Settings
from whatsapp_hub.systemd import Notifier, take_listener

logger = logging.getLogger("hub")

BACKLOG: Final = 4096
#: Longer than a proxy's own, so that it is always the proxy who closes.
KEEPALIVE_TIMEOUT_S: Final = 75.0
LINGERING_TIME_S: Final = 2.0  # how long to read on a body that nobody wants
HANDLER_TIMEOUT_S: Final = 5.0  # a webhook is answered within a second
DATABASE_WAIT_S: Final = 2.0
DATABASE_CHECK_S: Final = 0.01
_M_ARENA_MAX: Final = -8  # of malloc.h
#: What a stop takes besides the drain at most: the leave, open requests before and after, the last writes.
STOP_S: Final = 30.0


def serve(
    settings: Settings,
    *,
    unix_socket: Path | None = None,
    listener: socket.socket | None = None,
    read_again: Callable[[], Settings] | None = None,
    on_ready: Callable[[str], None] | None = None,
    playground: str | None = None,
) -> int:
    """Run the server until SIGTERM or SIGINT; return the exit status.

    A socket that systemd passed is listened at instead of any other, ``listener`` instead of that. ``read_again`` reads
    the settings for SIGHUP; ``on_ready`` is told the address once the server listens; ``playground`` is the demo's.
    """
    _share_one_heap()
    reloader = Reloader(settings, read_again or (lambda: settings))
    work = _serve(
        settings,
        unix_socket=unix_socket,
        passed=listener or take_listener(),
        reloader=reloader,
        on_ready=on_ready,
        playground=playground,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _serve(
    settings: Settings,
    *,
    unix_socket: Path | None,
    passed: socket.socket | None,
    reloader: Reloader,
    on_ready: Callable[[str], None] | None,
    playground: str | None,
) -> int:
    notifier = Notifier.from_environment()
    stop = _listen_to_signals(reloader, notifier)
    app = create_app(settings, playground=playground)
    leaving = Leaving(app)
    runner = make_runner(app)
    telling = asyncio.create_task(notifier.keep_telling(lambda: _describe(app)))
    try:
        await runner.setup()
        if passed is not None:
            await _wait_for_database(app)
        address = await listen(runner, settings, unix_socket, passed)
        _tune_garbage_collector()
        logger.info("listening", extra={"address": address})
        notifier.ready()
        if on_ready is not None:
            on_ready(address)
        await stop.wait()
        logger.info("stopping")
        notifier.stopping(within_s=settings.drain_timeout_s + STOP_S)
        await leaving.take_leave(runner)
    finally:
        await runner.cleanup()
        telling.cancel()
    logger.info("stopped")
    return 1 if has_failed(app) else 0


def _listen_to_signals(reloader: Reloader, notifier: Notifier) -> asyncio.Event:
    """Reload on SIGHUP; return what SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def reload() -> None:
        with notifier.reloading():
            reloader.reload()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop


async def _wait_for_database(app: web.Application) -> None:
    """Let the connections at a passed socket wait for it, rather than refuse their webhooks; but not for long."""
    ends_at = time.monotonic() + DATABASE_WAIT_S
    while app[keys.HEALTH].reasons() and time.monotonic() < ends_at:  # noqa: ASYNC110 - a verdict ages by itself
        await asyncio.sleep(DATABASE_CHECK_S)


def _describe(app: web.Application) -> str:
    """Say in words whether webhooks are taken, for ``systemctl status``."""
    health = app[keys.HEALTH]
    if health.stopping:
        return "stopping, waits for running turns"
    reasons = health.reasons()
    return f"refuses webhooks: {', '.join(reasons)}" if reasons else "takes webhooks"


def _share_one_heap() -> None:
    """Have the C library serve the threads to come from the heap that is there, and not from one each.

    The GNU library's heaps keep the most that was ever in them: fifteen, for the threads of the database driver, had
    7 MB after eight minutes and still grew, with half a megabyte in use (``docs/performance.md``, "Memory, start and
    stop"). They save no waiting either: whoever allocates mostly holds the interpreter's lock already.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # musl and macOS have none
        mallopt(_M_ARENA_MAX, 1)


def _tune_garbage_collector() -> None:
    """Look for cycles less often, and never again in what is there from the start.

    Thousands of messages under way are thousands of objects that live for a while, and Python's defaults have the
    collector go through them again and again. ``python -m bench --scenario ack`` shows what that costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class OneLineForMalformed(logging.Filter):
    """Keeps what is not HTTP from flooding the log: one line a second, without a traceback and what was sent."""

    def __init__(self) -> None:
        """Start silent."""
        super().__init__()
        self._quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record, or drop it."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        record.msg, record.args, record.exc_info = "malformed HTTP refused", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        quiet, now = time.monotonic() < self._quiet_until, time.monotonic()
        self._quiet_until = self._quiet_until if quiet else now + 1.0
        return not quiet


_protocol_logger: Final = logging.getLogger("webhook.protocol")
_protocol_logger.addFilter(OneLineForMalformed())


def make_runner(app: web.Application) -> web.AppRunner:
    """Wrap the application with the server's options; one that is misspelt would silently drop all of them."""
    return web.AppRunner(
        app,
        access_log=None,
        logger=_protocol_logger,
        keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        lingering_time=LINGERING_TIME_S,
        auto_decompress=False,
        shutdown_timeout=HANDLER_TIMEOUT_S,
    )


async def listen(
    runner: web.AppRunner,
    settings: Settings,
    unix_socket: Path | None = None,
    passed: socket.socket | None = None,
) -> str:
    """Start to listen, at the passed socket if there is one; return the address."""
    if passed is None and unix_socket is not None:
        await web.UnixSite(runner, unix_socket, backlog=BACKLOG).start()
        return f"unix:{unix_socket}"
    listener = _bind(settings.host, settings.port) if passed is None else passed
    if listener.family != socket.AF_UNIX:
        _notice_dead_peers(listener)
    most = most_connections(raise_file_limit(), _outgoing(settings))
    await Site(runner, listener, backlog=BACKLOG, most=most).start()
    return _name(listener)


def _outgoing(settings: Settings) -> int:
    """Say how many connections we may need ourselves."""
    return settings.mongodb_max_pool_size + settings.graph_max_connections + settings.ai_max_connections


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _notice_dead_peers(listener: socket.socket) -> None:
    """Have peers probed that say nothing, so that a dead one is noticed in minutes (the kernel's default: 2 hours)."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _name(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
