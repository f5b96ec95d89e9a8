"""Asking Graph whether a token and a phone number belong together: one cheap read that changes nothing."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from yarl import URL

from whatsapp_hub.cloud_api.errors import SendResult, Verdict, read_response

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
_MAX_ANSWER_BYTES: Final = 64 * 1024
_FAILURES: Final = (aiohttp.ClientError, OSError, RuntimeError)
_WRONG_PARAMETER: Final = 100


class NumberCheck:
    """Asks with the tokens of many businesses over one session."""

    def __init__(self, session: aiohttp.ClientSession, *, base_url: str, version: str) -> None:
        """Ask this server; the caller opens and closes the session."""
        self._session = session
        self._base = f"{base_url.rstrip('/')}/{version}"

    async def find_outage(self) -> str | None:
        """Return why Graph cannot be reached, or None; any answer means that it can. Needs no token."""
        try:
            async with self._session.get(URL(f"{self._base}/", encoded=True), timeout=_TIMEOUT, allow_redirects=False):
                return None
        except _FAILURES as error:
            return type(error).__name__

    async def ask(self, phone_number_id: str, token: str) -> SendResult:
        """Return ``SENT`` where the token may read the number, else what stands against it. Raises nothing."""
        url = URL(f"{self._base}/{quote(phone_number_id, safe='', errors='replace')}?fields=id", encoded=True)
        headers = {hdrs.AUTHORIZATION: f"Bearer {token}"}
        try:
            async with self._session.get(url, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as response:
                body = await response.content.read(_MAX_ANSWER_BYTES)
                result = read_response(response.status, body, None)
        except _FAILURES as error:
            return SendResult(verdict=Verdict.RETRY, reason=f"no answer: {type(error).__name__}")
        if result.code == _WRONG_PARAMETER:
            # Graph's answer to whoever asks for an object that is not there or not his to see.
            return SendResult(
                verdict=Verdict.HOLD, code=result.code, reason="100 there is no such number, or not for this token"
            )
        return result
