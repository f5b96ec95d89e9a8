"""Reading a body that nobody has verified yet: its form, its size, its time, and what lies in memory at once."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import StreamReader, hdrs, web

from whatsapp_hub.errors import HubError
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import error_answer
from whatsapp_hub.telemetry.metrics import UNVERIFIED

MAX_BODY_BYTES: Final = 4 * 1024 * 1024  # Meta says 3 MB
MAX_UNVERIFIED_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_S: Final = 5
CLIENT_GONE: Final = 499  #: for the metrics only, as nginx does: nobody is there to read it


class Refused(HubError):
    """A webhook is not taken; says what to answer."""

    def __init__(self, status: int, error: str, *, business: str = UNVERIFIED, unread: bool = False) -> None:
        """``unread``: some of the body may still be on its way, so the connection is of no more use."""
        super().__init__(error)
        self.status = status
        self.error = error
        self.business = business
        self.unread = unread

    def answer(self) -> web.Response:
        """Build the answer. It never repeats anything of the request."""
        headers = (
            {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)} if self.status == web.HTTPServiceUnavailable.status_code else {}
        )
        response = error_answer(self.status, self.error, headers=headers)
        if self.unread:
            response.force_close()
        return response


class BodyReader:
    """Reads bodies. What has arrived and was not verified yet counts against one budget for all connections."""

    def __init__(
        self, *, timeout_s: float, max_unverified_bytes: int = MAX_UNVERIFIED_BYTES, max_bytes: int = MAX_BODY_BYTES
    ) -> None:
        """Give each body ``timeout_s`` to arrive."""
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_unverified_bytes = max_unverified_bytes
        self._unverified_bytes = 0

    async def read(self, request: web.Request) -> bytes:
        """Return the body as it came; the caller verifies it before it waits for anything.

        Raises:
            Refused: compressed, too large, too slow, malformed, or there is no room for it.

        """
        if hdrs.CONTENT_ENCODING in request.headers:
            raise Refused(415, "compressed bodies are not accepted", unread=True)
        length = request.content_length
        # The limits by address may have set a lower bound for a body that does not say its length.
        limit = self._max_bytes if length is not None else request.get(keys.MAX_BODY_BYTES, self._max_bytes)
        if length is not None and length > limit:
            raise _too_large()
        if request.content.is_eof() and request.content.exception() is None:
            # It came along with its headers, as webhooks mostly do: no waiting, no timer, no budget.
            body = request.content.read_nowait()
        else:
            body = await self._wait_for(request, limit if length is None else length, limit)
        if len(body) > limit:
            raise _too_large()
        return body

    async def _wait_for(self, request: web.Request, expected_bytes: int, limit: int) -> bytes:
        if self._unverified_bytes + expected_bytes > self._max_unverified_bytes:
            raise _no_room()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._collect(request.content, limit)
        except TimeoutError:
            raise Refused(408, "the body took too long to arrive", unread=True) from None
        except web.RequestPayloadError as exc:
            _let_go_of_frames(exc)
            raise Refused(400, "the body is not encoded as its headers say", unread=True) from None
        except (OSError, RuntimeError) as exc:
            if request.transport is not None:
                raise
            _let_go_of_frames(exc)
            raise Refused(CLIENT_GONE, "the client went away", unread=True) from None

    async def _collect(self, content: StreamReader, limit: int) -> bytes:
        # Only what is really there counts. If a stated length did, a few idle connections could use up the budget.
        body = bytearray()
        try:
            while chunk := await content.readany():
                body += chunk
                self._unverified_bytes += len(chunk)
                if len(body) > limit:
                    raise _too_large()
                if self._unverified_bytes > self._max_unverified_bytes:
                    raise _no_room()
        finally:
            self._unverified_bytes -= len(body)
        return bytes(body)


def _let_go_of_frames(exc: Exception) -> None:
    # aiohttp keeps the error, in a circle with the frames that hold the body. What left the budget has to leave the
    # memory too, and not when Python looks for circles one day.
    exc.__traceback__ = None


def _too_large() -> Refused:
    return Refused(413, "the body is too large", unread=True)


def _no_room() -> Refused:
    return Refused(503, "too many bodies are being received, try again", unread=True)
