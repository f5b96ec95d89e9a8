"""The process: sockets, signals, and the event loop around the application."""

from __future__ import annotations

import asyncio
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
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.logs import reopen_logs

logger = logging.getLogger("hub")

BACKLOG: Final = 4096
#: Longer than a proxy's own, so that it is always the proxy who closes.
KEEPALIVE_TIMEOUT_S: Final = 75.0
LINGERING_TIME_S: Final = 2.0  # how long to read on a body that nobody wants
HANDLER_TIMEOUT_S: Final = 5.0  # a webhook is answered within a second


def serve(settings: Settings, *, unix_socket: Path | None = None, on_ready: Callable[[str], None] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT; return the exit status.

    ``on_ready`` is told the address once the server listens.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, unix_socket, on_ready))


async def _serve(settings: Settings, unix_socket: Path | None, on_ready: Callable[[str], None] | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reopen_logs)
    app = create_app(settings)
    runner = make_runner(app)
    try:
        await runner.setup()
        address = await listen(runner, settings, unix_socket)
        _tune_garbage_collector()
        logger.info("listening", extra={"address": address})
        if on_ready is not None:
            on_ready(address)
        await stop.wait()
        logger.info("stopping")
    finally:
        await runner.cleanup()
    logger.info("stopped")
    return 1 if has_failed(app) else 0


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


async def listen(runner: web.AppRunner, settings: Settings, unix_socket: Path | None = None) -> str:
    """Start to listen; return the address."""
    if unix_socket is not None:
        await web.UnixSite(runner, unix_socket, backlog=BACKLOG).start()
        return f"unix:{unix_socket}"
    listener = _open_listener(settings.host, settings.port)
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _open_listener(host: str, port: int) -> socket.socket:
    """Bind, with keep-alive probes that notice a dead peer in minutes (the kernel's default is two hours)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    listener.setblocking(False)
    return listener
