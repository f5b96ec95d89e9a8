"""Asking Graph whether a token, its numbers, its account and its app belong together.

Only ``subscribe`` changes anything. Nothing in here raises: every question has an answer, and what stands against it is
in words that are safe to show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from yarl import URL

from whatsapp_hub.cloud_api.accounts import (
    Answer,
    NumberFacts,
    Numbers,
    Subscription,
    TokenFacts,
    read_number,
    read_numbers,
    read_subscribed_apps,
    read_subscription,
    read_token,
)
from whatsapp_hub.cloud_api.errors import SendResult, Verdict, read_response

T = TypeVar("T")

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
_MAX_ANSWER_BYTES: Final = 256 * 1024
_FAILURES: Final = (aiohttp.ClientError, OSError, RuntimeError)
_WRONG_PARAMETER: Final = 100
_NOT_THERE: Final = "there is no such object, or not for this token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether Graph can be reached, and what time it has."""

    outage: str | None
    ahead_s: float | None = None  #: of this machine's clock; None where it does not say


class AccountClient:
    """Asks with the tokens of many businesses over one session."""

    def __init__(self, session: aiohttp.ClientSession, *, base_url: str, version: str) -> None:
        """Ask this server; the caller opens and closes the session."""
        self._session = session
        self._base = f"{base_url.rstrip('/')}/{version}"

    async def reach(self) -> Reach:
        """Find out whether Graph can be reached; any answer means that it can. Needs no token."""
        url = URL(f"{self._base}/", encoded=True)
        began = _now_s()
        try:
            async with self._session.get(url, timeout=_TIMEOUT, allow_redirects=False) as response:
                told = response.headers.get(hdrs.DATE, "")
        except _FAILURES as error:
            return Reach(outage=type(error).__name__)
        try:
            theirs = parsedate_to_datetime(told).timestamp() + 0.5  # it has whole seconds
        except ValueError:
            return Reach(outage=None)
        return Reach(outage=None, ahead_s=theirs - (began + _now_s()) / 2)

    async def find_number(self, phone_number_id: str, token: str) -> Answer[NumberFacts]:
        """Ask for a phone number: whether the token may read it."""
        path = f"{_quoted(phone_number_id)}?fields=id,verified_name,display_phone_number,quality_rating"
        return await self._ask(path, token, read_number)

    async def find_numbers(self, account_id: str, token: str) -> Answer[Numbers]:
        """Ask for the phone numbers of an account."""
        return await self._ask(f"{_quoted(account_id)}/phone_numbers?fields=id&limit=500", token, read_numbers)

    async def inspect_token(self, token: str) -> Answer[TokenFacts]:
        """Ask for the app, the permissions and the expiry of a token, which may say that of itself."""
        return await self._ask(f"debug_token?input_token={_quoted(token)}", token, read_token)

    async def find_subscribed_apps(self, account_id: str, token: str) -> Answer[Mapping[str, str]]:
        """Ask which apps get an account's webhooks."""
        return await self._ask(f"{_quoted(account_id)}/subscribed_apps", token, read_subscribed_apps)

    async def subscribe(self, account_id: str, token: str) -> Answer[bool]:
        """Have the token's app get the account's webhooks; it does no harm twice."""
        return await self._ask(f"{_quoted(account_id)}/subscribed_apps", token, lambda _: True, method=hdrs.METH_POST)

    async def find_subscription(self, app_id: str, app_secret: str) -> Answer[Subscription]:
        """Ask where an app's webhooks go; Graph refuses a secret that is not the app's."""
        return await self._ask(f"{_quoted(app_id)}/subscriptions", f"{app_id}|{app_secret}", read_subscription)

    async def _ask(
        self, path: str, token: str, read: Callable[[bytes], T | None], *, method: str = hdrs.METH_GET
    ) -> Answer[T]:
        if not token.isascii() or not token.isprintable():
            return Answer(result=SendResult(verdict=Verdict.HOLD, reason="it is not of printable ASCII"))
        try:
            async with self._session.request(
                method,
                URL(f"{self._base}/{path}", encoded=True),
                headers={hdrs.AUTHORIZATION: f"Bearer {token}"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                body = await response.content.read(_MAX_ANSWER_BYTES)
                result = read_response(response.status, body, None)
        except _FAILURES as error:
            return Answer(result=SendResult(verdict=Verdict.RETRY, reason=f"no answer: {type(error).__name__}"))
        if result.code == _WRONG_PARAMETER:
            # Graph's answer to whoever asks for an object that is not there or not his to see.
            return Answer(result=SendResult(verdict=Verdict.HOLD, code=result.code, reason=f"100 {_NOT_THERE}"))
        return Answer(result=result, facts=read(body) if result.verdict is Verdict.SENT else None)


def _now_s() -> float:
    return time.time()


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
