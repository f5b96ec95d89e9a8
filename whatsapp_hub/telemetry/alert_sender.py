"""Tells operators who have no Prometheus: one JSON line for each alert, posted to ``ALERT_WEBHOOK_URL``.

A task of its own looks every few seconds and posts one alert after the other, so nothing waits for it and nothing piles
up: what could not be told stays where it was. The URL is a secret, and so are many things that a library may say.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Protocol

import aiohttp
import orjson

from whatsapp_hub import __version__
from whatsapp_hub.telemetry.alerts import INTERVAL_S, Alert, AlertBook, AlertKind
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.telemetry.redaction import Redactor

logger = logging.getLogger("hub")

TIMEOUT: Final = aiohttp.ClientTimeout(total=5, sock_connect=3)
MAX_PAUSE_S: Final = 60.0  # between two attempts to reach a receiver that fails
CLAIMED_ELSEWHERE_S: Final = 300.0  # then we ask again whether it is our turn to tell

Look = Callable[[], Iterable[Alert]]


class Claims(Protocol):
    """Who may tell: processes that share a database agree on one of them."""

    async def claim(self, key: str, interval_s: float) -> datetime | None:
        """Return when somebody told of this within the interval; None: nobody did, and from now on we have."""
        ...

    async def give_up(self, key: str) -> None:
        """Let anybody tell of it again."""
        ...


class AlertSender:
    """Looks what is due, and posts it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        book: AlertBook,
        looks: Iterable[Look],
        claims: Claims,
        redactor: Redactor,
        metrics: Metrics,
        instance: Callable[[], str],
        every_s: float,
    ) -> None:
        """Post to ``url``; the caller opens and closes the session.

        Each of ``looks`` returns what lasts at this moment; ``instance`` names this process.
        """
        self._session = session
        self._url = url
        self._book = book
        self._looks = looks
        self._claims = claims
        self._redactor = redactor
        self._count = metrics.count_alert
        self._instance = instance
        self._every_s = every_s
        self._claimed: set[str] = set()  # and not yet told

    async def run(self) -> None:
        """Tell what is due until cancelled; less and less often while the receiver fails."""
        pause_s = self._every_s
        while True:
            try:
                told = await self.tell_due()
            except Exception as error:  # noqa: BLE001 - the boundary of a task that must never stop the process
                logger.error("alerts not looked at", extra={"error": type(error).__name__})
                told = False
            pause_s = self._every_s if told else min(2 * pause_s, MAX_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def tell_due(self) -> bool:
        """Tell what is due now, the most urgent first; False when the receiver failed, and the rest was left."""
        lasting = [alert for look in self._looks for alert in look()]
        while (alert := self._book.take(time.monotonic(), lasting)) is not None:
            try:
                if not await self._tell(alert):
                    return False
            except BaseException:  # cancelled: rather twice than never
                self._book.put_back(alert, time.monotonic())
                raise
        return True

    async def _tell(self, alert: Alert) -> bool:
        """Post an alert unless another process told of the same; False when the receiver failed."""
        is_shared = alert.kind is not AlertKind.DATABASE_DOWN  # each process has a connection of its own
        if is_shared and alert.key not in self._claimed:
            if told_at := await self._claims.claim(alert.key, INTERVAL_S[alert.kind]):
                self._book.put_back(alert, time.monotonic() + CLAIMED_ELSEWHERE_S, told_at=told_at)
                return True
            self._claimed.add(alert.key)
        fault = await self._post(self._build(alert))
        self._claimed.discard(alert.key)
        self._count("failed" if fault else "sent")
        if fault is None:
            return True
        logger.warning("alert not delivered", extra={"kind": alert.kind.value, "reason": fault})
        self._book.put_back(alert, time.monotonic())
        if is_shared:
            await self._claims.give_up(alert.key)
        return False

    async def _post(self, line: bytes) -> str | None:
        """Post a line; say in words what went wrong, without the URL."""
        try:
            async with self._session.post(
                self._url, data=line, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, OSError) as error:  # OSError takes in the timeouts
            return f"no answer ({type(error).__name__})"
        return None if status // 100 == 2 else f"answered {status}"

    def _build(self, alert: Alert) -> bytes:
        reason = self._redactor.clean(alert.reason)
        subject = f"{alert.kind.value.replace('_', ' ')}{f' ({alert.business})' if alert.business else ''}"
        values = {
            "kind": alert.kind.value,
            "business": alert.business,
            "reason": reason,
            "count": alert.count,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "host": socket.gethostname(),
            "instance": self._instance(),
            "version": __version__,
            "text": f"WhatsApp Hub: {subject}: {reason}",  # what chat programs show
        }
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)


class DatabaseLook:
    """Tells of a database that has been down for a while: the election of a new primary is soon over."""

    def __init__(self, health: Health, *, after_s: float) -> None:
        """Look at what ``health`` was told."""
        self._health = health
        self._after_s = after_s
        self._down_since: float | None = None

    def __call__(self) -> list[Alert]:
        """Return the alert, if there is one."""
        fault, now = self._health.database_fault, time.monotonic()
        if fault is None:
            self._down_since = None
            return []
        self._down_since = now if self._down_since is None else self._down_since
        if now - self._down_since < self._after_s:
            return []
        return [Alert(kind=AlertKind.DATABASE_DOWN, business=None, reason=fault)]


@asynccontextmanager
async def open_alert_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session for one connection, without cookies and the environment's proxies, and close it afterwards."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=TIMEOUT,
        trust_env=False,
        headers={"User-Agent": "whatsapp-hub"},
    ) as session:
        yield session
