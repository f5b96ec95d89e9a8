"""How a server is reached: one question over HTTP, its answer or what is wrong with it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from whatsapp_hub.assistants.chat_wire import read_error_code, read_retry_after
from whatsapp_hub.assistants.guard import AddressRefusedError
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.fairness import FairGate

MAX_KEPT: Final = 1_000  # URLs, one for each server that a business names
MAX_ANSWER_BYTES: Final = 1024 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
KEPT_ALIVE_S: Final = 30.0
DNS_CACHE_S: Final = 60
_TRY_AGAIN: Final = frozenset({408, 429})  # and every 5xx


class TryAgainError(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(self, reason: str, asked_s: float | None = None) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


class ServerRefused(AssistantFailed):
    """The server does not do what it was asked for."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is posted, and where below the server's URL."""

    path: str
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    most_bytes: int = MAX_ANSWER_BYTES  #: of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """Which server is asked, and with what."""

    url: str
    key: str | None = field(repr=False)
    model: str
    from_document: bool  #: the business named the server itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered, successfully."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way to servers: a session, and the gate before its connections."""

    session: aiohttp.ClientSession
    gate: FairGate

    async def ask(self, server: ModelServer, question: Question, *, business: str, timeout_s: float) -> bytes:
        """Ask a model's server once, as soon as the business gets a connection; the timeout counts from there.

        Raises:
            TryAgainError: another attempt may succeed.
            AssistantFailed: it would not.

        """
        headers = {"Content-Type": question.content_type}
        if server.key is not None:
            headers["Authorization"] = f"Bearer {server.key}"
        post = self.post(
            partial(_url_below, server.url, question.path),
            question.body,
            headers,
            business=business,
            timeout_s=timeout_s,
            error_code=read_error_code,
            most_bytes=question.most_bytes,
        )
        return (await post).body

    async def post(
        self,
        url: Callable[[], URL],
        body: bytes,
        headers: Mapping[str, str],
        *,
        business: str,
        timeout_s: float,
        error_code: Callable[[bytes], str] = lambda _: "",
        most_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Post once, as soon as the business gets a connection; return an answer of 2xx.

        ``url`` may raise ``ValueError``; ``error_code`` finds in a body what an error may be called.

        Raises:
            TryAgainError: another attempt may succeed.
            AssistantFailed: it would not.

        """
        async with self.gate.slot(business):
            try:
                async with self.session.post(
                    url(), data=body, headers=headers, timeout=_timeout(timeout_s), allow_redirects=False
                ) as response:
                    answer = Answer(status=response.status, body=await _read_body(response, most_bytes))
                    _raise_unless_successful(response, answer.body, error_code)
                    return answer
            except TimeoutError:
                raise TryAgainError("no answer in time") from None
            except (aiohttp.InvalidURL, ValueError):
                raise AssistantFailed("the server's URL cannot be used") from None
            except (aiohttp.ClientError, OSError) as error:
                if isinstance(error, aiohttp.ClientConnectorDNSError) and isinstance(
                    error.os_error, AddressRefusedError
                ):
                    raise AssistantFailed(f"the server was not asked: {error.os_error}") from None
                raise TryAgainError(f"no connection, or it was lost ({type(error).__name__})") from None


def _raise_unless_successful(response: aiohttp.ClientResponse, body: bytes, error_code: Callable[[bytes], str]) -> None:
    status = response.status
    if status // 100 == 2:
        return
    reason = f"the server answered {status} {error_code(body)}".rstrip()
    if status in _TRY_AGAIN or status >= 500:
        raise TryAgainError(reason, read_retry_after(response.headers.get("Retry-After")))
    raise ServerRefused(f"{reason}, and redirects are not followed" if status // 100 == 3 else reason, status)


async def _read_body(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """Read what came, but no more than the limit of it."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > most_bytes:
            raise AssistantFailed(f"the answer is larger than {most_bytes / 2**20:g} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


@lru_cache(maxsize=MAX_KEPT)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)


@lru_cache(maxsize=MAX_KEPT)
def _url_below(base_url: str, path: str) -> URL:
    """Return where to ask; a query in the base URL (some servers want a version there) is kept."""
    base = URL(base_url)
    return base.with_path(f"{base.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)


@asynccontextmanager
async def open_route(
    *,
    limit: int,
    limit_per_business: int | None = None,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Route]:
    """Open a session without cookies or proxies of the environment, and close it afterwards.

    Answers are asked for uncompressed, so that their size is what it seems.
    """
    connector = aiohttp.TCPConnector(
        limit=limit, keepalive_timeout=KEPT_ALIVE_S, ttl_dns_cache=DNS_CACHE_S, resolver=resolver, ssl=tls or True
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "whatsapp-hub"},
    ) as session:
        yield Route(session=session, gate=FairGate(limit, per_key=limit_per_business))
