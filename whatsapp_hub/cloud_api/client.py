"""Sending over the Graph API: one session, at most 200 requests at a time, and an outcome for every one of them."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from whatsapp_hub.cloud_api.errors import SendResult, Verdict, read_response
from whatsapp_hub.cloud_api.media_types import UploadResult, bare_type, failed_upload, read_upload
from whatsapp_hub.cloud_api.outgoing import build_typing
from whatsapp_hub.fairness import FairGate
from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("cloud_api")

MAX_CONNECTIONS: Final = 200
MAX_KEPT_ALIVE: Final = 100
KEPT_ALIVE_S: Final = 30.0
DNS_CACHE_S: Final = 60
SEND_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)
TYPING_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
UPLOAD_BYTES_PER_S: Final = 512 * 1024  # a slower upload is given up
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_URLS: Final = 10_000

# OSError takes in the timeouts, RuntimeError a session that is closed already.
_FAILURES: Final = (aiohttp.ClientError, OSError, RuntimeError)
_BAD_TOKEN: Final = SendResult(verdict=Verdict.HOLD, reason="the access token is empty or not of printable ASCII")
_LEASE_LOST: Final = SendResult(verdict=Verdict.RETRY, reason="lease lost")


class GraphClient:
    """Sends messages with the tokens of many businesses over one session."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        version: str,
        metrics: Metrics,
        max_connections: int = MAX_CONNECTIONS,
        send_timeout: aiohttp.ClientTimeout = SEND_TIMEOUT,
    ) -> None:
        """Set up the client; the caller opens and closes the session.

        Requests wait for a slot here and not in the session's connector, whose waiting counts towards the timeouts; the
        numbers take turns, so that one whose sends hang does not keep the others waiting.
        """
        self._session = session
        self._metrics = metrics
        self._slots = FairGate(max_connections)
        self._upload_slots = FairGate(max(1, max_connections // 4))  # sends have the rest
        self._send_timeout = send_timeout
        self._sends = 0  # waiting or under way
        self._typings = 0
        self._max_typings = max_connections // 4
        self._max_busy_for_typing = max_connections - max_connections // 4
        self._prefix = f"{base_url.rstrip('/')}/{version}"
        build_url = functools.partial(_url, self._prefix, "messages")
        self._url = functools.lru_cache(maxsize=MAX_URLS)(build_url)

    async def send(self, *, phone_number_id: str, token: str, body: bytes, may_send: Callable[[], bool]) -> SendResult:
        """Send one message, ``body`` as ``outgoing.build_send`` makes it. Raises nothing but ``CancelledError``.

        ``may_send`` is asked once, when the connection is had and nothing has been written. So a send that was
        cancelled before that was not sent; one that was cancelled later may have been.
        """
        self._sends += 1
        try:
            async with self._slots.slot(phone_number_id):
                result = await self._post(phone_number_id, token, _Body(body, may_send), self._send_timeout)
        finally:
            self._sends -= 1
        self._metrics.count_graph("messages", result.verdict.value)
        return result

    async def show_typing(self, *, phone_number_id: str, token: str, message_id: str) -> SendResult | None:
        """Mark a message as read and show "typing", unless sends need the connections: then None comes back.

        Raises nothing but ``CancelledError``.
        """
        if self._typings >= self._max_typings or self._sends + self._typings >= self._max_busy_for_typing:
            self._metrics.count_graph("typing", "skipped")
            return None
        self._typings += 1
        try:
            async with self._slots.slot(phone_number_id):
                body = _Body(build_typing(message_id), _always)
                result = await self._post(phone_number_id, token, body, TYPING_TIMEOUT)
        finally:
            self._typings -= 1
        self._metrics.count_graph("typing", result.verdict.value)
        if result.verdict is not Verdict.SENT:
            logger.debug("typing not shown", extra={"phone_number_id": phone_number_id, "reason": result.reason})
        return result

    async def upload(self, *, phone_number_id: str, token: str, data: bytes, mime_type: str) -> UploadResult:
        """Upload media, for messages of the same number to show by its id. Raises nothing but ``CancelledError``."""
        async with self._upload_slots.slot(phone_number_id), self._slots.slot(phone_number_id):
            result = await self._upload(phone_number_id, token, data, mime_type)
        self._metrics.count_graph("media", result.verdict.value)
        return result

    async def _upload(self, phone_number_id: str, token: str, data: bytes, mime_type: str) -> UploadResult:
        if not _is_usable(token):
            return failed_upload(_BAD_TOKEN)
        form = aiohttp.FormData({"messaging_product": "whatsapp", "type": mime_type})
        name = f"file.{bare_type(mime_type).rpartition('/')[2]}"
        form.add_field("file", io.BytesIO(data), filename=name, content_type=mime_type)  # read and written in pieces
        try:
            async with self._session.post(
                _url(self._prefix, "media", phone_number_id),
                data=form,
                headers={hdrs.AUTHORIZATION: f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=30 + len(data) / UPLOAD_BYTES_PER_S, sock_connect=5),
                allow_redirects=False,
            ) as response:
                retry_after = response.headers.get(hdrs.RETRY_AFTER)
                return read_upload(response.status, await _read_answer(response), retry_after)
        except _FAILURES as error:
            return UploadResult(verdict=Verdict.RETRY, reason=f"no answer to the upload: {type(error).__name__}")

    async def _post(self, phone_number_id: str, token: str, body: _Body, times: aiohttp.ClientTimeout) -> SendResult:
        if not _is_usable(token):
            return _BAD_TOKEN
        try:
            response = await self._session.post(
                self._url(phone_number_id),
                data=body,
                headers={hdrs.AUTHORIZATION: f"Bearer {token}"},
                timeout=times,
                allow_redirects=False,
            )
        except _FAILURES as error:
            return self._judge_failure(error, body)
        try:
            return read_response(response.status, await _read_answer(response), response.headers.get(hdrs.RETRY_AFTER))
        finally:
            response.release()

    def _judge_failure(self, error: BaseException, body: _Body) -> SendResult:
        """Judge a request without an answer by one thing only: had any of it been handed to the operating system?"""
        if body.written:
            return SendResult(verdict=Verdict.UNKNOWN, reason=f"no answer: {type(error).__name__}")
        if body.forbidden:
            return _LEASE_LOST
        if isinstance(self._session.connector, aiohttp.TCPConnector):
            self._session.connector.clear_dns_cache()  # the address may be the fault
        return SendResult(verdict=Verdict.RETRY, reason=f"no connection: {type(error).__name__}")


class _Body(aiohttp.BytesPayload):
    """A request's body that is written only if it still may be, and knows whether it was.

    aiohttp hands it the writer when the connection is had, and sends the headers along with the first bytes. So this is
    the one place where nothing of the request has left yet and nothing more has to be waited for.
    """

    def __init__(self, body: bytes, may_send: Callable[[], bool]) -> None:
        super().__init__(body, content_type="application/json")
        self._may_send = may_send
        self.written = False
        self.forbidden = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002 - never shorter than the body
        transport = writer.transport
        # Closed by the other side while it was idle; aiohttp would find out only when it writes.
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed before anything was written")
        if not self._may_send():
            self.forbidden = True
            raise aiohttp.ClientConnectionError("the request must not be sent any more")
        self.written = True
        await writer.write(self._value)


class _Connector(aiohttp.TCPConnector):
    """A connector that keeps a bounded number of idle connections; aiohttp's own keeps them all."""

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        idle = self._conns.get(key)
        surplus = idle is not None and len(idle) >= MAX_KEPT_ALIVE
        super()._release(key, protocol, should_close=should_close or surplus)


@asynccontextmanager
async def open_session(*, max_connections: int = MAX_CONNECTIONS) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session for Graph, and close it afterwards: no cookies, no proxies from the environment."""
    connector = _Connector(limit=max_connections, keepalive_timeout=KEPT_ALIVE_S, ttl_dns_cache=DNS_CACHE_S)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=SEND_TIMEOUT,
        trust_env=False,
        json_serialize_bytes=orjson.dumps,
    ) as session:
        yield session


def _url(prefix: str, endpoint: str, phone_number_id: str) -> URL:
    return URL(f"{prefix}/{quote(phone_number_id, safe='', errors='replace')}/{endpoint}", encoded=True)


def _is_usable(token: str) -> bool:
    return bool(token) and token.isascii() and token.isprintable()


def _always() -> bool:
    return True


async def _read_answer(response: aiohttp.ClientResponse) -> bytes:
    """Read the body, or as much as came of it: the status line has said what matters most."""
    chunks: list[bytes] = []
    room = MAX_ANSWER_BYTES
    try:
        while room > 0 and (chunk := await response.content.read(room)):
            chunks.append(chunk)
            room -= len(chunk)
    except (aiohttp.ClientError, OSError):
        response.close()
    return b"".join(chunks)
