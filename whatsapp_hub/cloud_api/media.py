"""Fetching what customers send along: only from Meta's hosts, bounded in size and time, and checked.

Everything has its own session and its own gate, so that a slow download holds up no send. What is fetched lies in a
temporary file, in memory as long as it is small.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from tempfile import SpooledTemporaryFile
from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from whatsapp_hub.budget import Budget
from whatsapp_hub.cloud_api.media_hosts import MediaHosts
from whatsapp_hub.cloud_api.media_wire import MediaInfo, read_digest, read_media_info
from whatsapp_hub.errors import MediaUnavailable
from whatsapp_hub.fairness import FairGate
from whatsapp_hub.telemetry.metrics import Metrics

logger = logging.getLogger("cloud_api")

MAX_TRIES: Final = 3  # Meta's partners block whoever goes on asking in vain
MAX_REDIRECTS: Final = 3
MAX_CONNECTIONS: Final = 32
MAX_CONNECTIONS_OF_ONE: Final = 8
MAX_HELD_BYTES: Final = 256 * 1024 * 1024  # of all files that turns have in hand
IN_MEMORY_BYTES: Final = 256 * 1024  # of one file; beyond it lies on the disk
MAX_INFO_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 64 * 1024
INFO_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
DOWNLOAD_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=5, sock_read=15)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Asking Meta again for a link helps with one that is over (its five minutes) or that the storage refuses for now.
_LINK_IS_OVER: Final = frozenset({401, 403, 404, 410})


class _TryAgainError(Exception):
    """It went wrong in a way that another try may not."""


class MediaFile:
    """A file that was fetched. Whoever has it closes it."""

    def __init__(self, budget: Budget, business: str, size: int, file: SpooledTemporaryFile[bytes]) -> None:
        self._budget = budget
        self._business = business
        self._reserved = size
        self._file = file
        self._written = 0
        self._is_open = True

    async def write(self, chunk: bytes) -> None:
        """Add to it; off the loop once it lies on the disk."""
        self._written += len(chunk)
        if self._written <= IN_MEMORY_BYTES:
            self._file.write(chunk)
        else:
            await asyncio.to_thread(self._file.write, chunk)

    async def read(self) -> bytes:
        """Return the whole of it."""
        return await asyncio.to_thread(self._read)

    def close(self) -> None:
        """Throw it away; any number of times."""
        if self._is_open:
            self._is_open = False
            self._file.close()
            self._budget.give_back(self._business, self._reserved)

    def _read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()


class MediaClient:
    """Fetches media with the tokens of many businesses."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        version: str,
        metrics: Metrics,
        max_bytes: int,
        retry_base_s: float = 1.0,
        rng: Random,
    ) -> None:
        """Take the session, which the caller opens and closes, and the size of the largest file that is wanted."""
        self._session = session
        self._prefix = f"{base_url.rstrip('/')}/{version}"
        self._hosts = MediaHosts(base_url)
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._retry_base_s = retry_base_s
        self._rng = rng
        self._slots = FairGate(MAX_CONNECTIONS, per_key=MAX_CONNECTIONS_OF_ONE)
        self._budget = Budget(MAX_HELD_BYTES)

    async def fetch(self, *, media_id: str, phone_number_id: str, token: str, sha256: str = "") -> MediaFile:
        """Fetch a file that was sent to this number; ``sha256`` is what the webhook said of it.

        Raises:
            MediaUnavailable: after three tries at most.

        """
        try:
            file = await self._fetch(media_id, phone_number_id, token, read_digest(sha256))
        except MediaUnavailable as error:
            self._metrics.count_graph("media", "failed")
            logger.warning("media not fetched", extra={"phone_number_id": phone_number_id, "reason": str(error)})
            raise
        self._metrics.count_graph("media", "fetched")
        return file

    async def _fetch(self, media_id: str, number: str, token: str, digest: bytes | None) -> MediaFile:
        if not (token and token.isascii() and token.isprintable()):
            raise MediaUnavailable("the access token is empty or not of printable ASCII")
        if not media_id:
            raise MediaUnavailable("Meta gave it no id")
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return await self._try(media_id, number, token, digest)
            except _TryAgainError as error:
                if attempt == MAX_TRIES:
                    raise MediaUnavailable(f"{error}, tried {MAX_TRIES} times") from None
            except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: the session is closed
                if attempt == MAX_TRIES:
                    raise MediaUnavailable(f"no answer: {type(error).__name__}, tried {MAX_TRIES} times") from None
            await asyncio.sleep(self._retry_base_s * 2.0 ** (attempt - 1) * self._rng.uniform(0.5, 1.0))
        raise AssertionError  # the last try has returned or raised

    async def _try(self, media_id: str, number: str, token: str, digest: bytes | None) -> MediaFile:
        async with self._slots.slot(number):
            info = await self._ask(media_id, number, token)
        size = info.size if info.size is not None else self._max_bytes
        self._check_size(size)
        # First the room, then the connection: whoever waits for room must not keep others from theirs.
        await self._budget.take(number, size)
        file = MediaFile(self._budget, number, size, SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))  # noqa: SIM115 - MediaFile closes it
        try:
            async with self._slots.slot(number):
                found = await self._download(info, token, size, file)
            _check_digest(found, info.digest, digest)
        except BaseException:
            file.close()
            raise
        return file

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise MediaUnavailable(f"it is larger than {self._max_bytes} bytes (MEDIA_MAX_BYTES)")

    async def _ask(self, media_id: str, number: str, token: str) -> MediaInfo:
        """Ask for the link. With the number named, Graph hands out only what came to that number."""
        url = URL(f"{self._prefix}/{quote(media_id, safe='', errors='replace')}", encoded=True)
        async with self._session.get(
            url.with_query(phone_number_id=number),
            headers={hdrs.AUTHORIZATION: f"Bearer {token}"},
            timeout=INFO_TIMEOUT,
            allow_redirects=False,
        ) as response:
            if response.status == 429 or response.status >= 500:
                raise _TryAgainError(f"Graph answered {response.status}")
            if response.status != 200:
                raise MediaUnavailable(f"Graph answered {response.status}")
            body = b"".join([chunk async for chunk in _bounded(response, MAX_INFO_BYTES, "the answer is too large")])
        return read_media_info(body)

    async def _download(self, info: MediaInfo, token: str, size: int, file: MediaFile) -> bytes:
        """Follow the link; return the digest of what came."""
        url = _parse(info.url)
        if not self._hosts.takes_token(url):
            raise MediaUnavailable("its link does not lead to one of Meta's hosts")
        origin = url.origin()
        for _ in range(MAX_REDIRECTS + 1):
            # The token goes to the host that Graph named, and to no other.
            headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if url.origin() == origin else {}
            async with self._session.get(
                url, headers=headers, timeout=DOWNLOAD_TIMEOUT, allow_redirects=False
            ) as response:
                if response.status not in _REDIRECTS:
                    return await self._receive(response, size, file)
                url = _join(url, response.headers.get(hdrs.LOCATION, ""))
            if not self._hosts.may_fetch(url):
                raise MediaUnavailable("it is redirected to a host that is not Meta's")
        raise MediaUnavailable(f"it is redirected more than {MAX_REDIRECTS} times")

    async def _receive(self, response: aiohttp.ClientResponse, size: int, file: MediaFile) -> bytes:
        status = response.status
        if status == 429 or status >= 500 or status in _LINK_IS_OVER:
            raise _TryAgainError(f"the download was answered {status}")
        if status != 200:
            raise MediaUnavailable(f"the download was answered {status}")
        digest = hashlib.sha256()
        async for chunk in _bounded(response, size, "it is larger than Meta said"):
            digest.update(chunk)
            await file.write(chunk)
        return digest.digest()


@asynccontextmanager
async def open_media_session(resolver: AbstractResolver) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session for media, and close it afterwards: no cookies, no proxies, nothing compressed."""
    # No connection is used twice: one that was kept may have ended meanwhile, and that would cost a try.
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, resolver=resolver, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers={hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "whatsapp-hub"},
        auto_decompress=False,
    ) as session:
        session._retry_connection = False  # aiohttp would ask once more by itself, uncounted
        yield session


async def _bounded(response: aiohttp.ClientResponse, most: int, words: str) -> AsyncIterator[bytes]:
    """Yield what comes, but no more than so many bytes of it."""
    if (response.content_length or 0) > most:
        raise MediaUnavailable(words)
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        size += len(chunk)
        if size > most:
            raise MediaUnavailable(words)
        yield chunk


def _check_digest(found: bytes, *wanted: bytes | None) -> None:
    if any(one is not None and not hmac.compare_digest(one, found) for one in wanted):
        raise _TryAgainError("it is not what its SHA-256 says")


def _parse(link: str) -> URL:
    try:
        return URL(link)
    except ValueError:
        raise MediaUnavailable("its link is no URL") from None


def _join(url: URL, location: str) -> URL:
    if not location:
        raise MediaUnavailable("it is redirected nowhere")
    return url.join(_parse(location))
