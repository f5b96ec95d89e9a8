"""The console's doors: who is let in, and from where something may be changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

import orjson
from aiohttp import hdrs, web

from whatsapp_hub.errors import HubError, StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import error_answer
from whatsapp_hub.http.console.answers import guarded, see_other
from whatsapp_hub.http.console.session import Session, read_cookie

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE: Final = "hub_console"
COOKIE_PATH: Final = "/console"
LOGIN: Final = "/console/login"
MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 5.0

_SAFE_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_CLOSED: Final = "the console is closed; set ADMIN_TOKEN to open it"
_SAYS_PROXY: Final = (hdrs.FORWARDED, hdrs.X_FORWARDED_FOR, hdrs.X_FORWARDED_PROTO)


class NotWanted(HubError):
    """What was asked for cannot be done; says what to answer."""

    def __init__(self, status: int, error: str) -> None:
        """``error`` is a sentence for the operator, and says what to do next."""
        super().__init__(error)
        self.status = status
        self.error = error


def find_session(request: web.Request) -> Session | None:
    """Return the login that a request belongs to; None for a stranger's, or where there is no admin token."""
    token = request.app[keys.SETTINGS].admin_token
    cookie = request.cookies.get(COOKIE)
    if token is None or cookie is None:
        return None
    session = read_cookie(cookie, token, now=time.time())
    return None if session is None or request.app[keys.CONSOLE].has_ended(session) else session


def for_operators(handler: Handler) -> Handler:
    """Let operators through to a page, and send others to the one where they log in."""

    @wraps(handler)
    async def guard(request: web.Request) -> web.StreamResponse:
        if find_session(request) is None:
            return see_other(f"{LOGIN}?next={quote(request.rel_url.raw_path, safe='/')}")
        return guarded(await handler(request))

    return guard


def for_operators_scripts(handler: Handler) -> Handler:
    """Let the pages' own scripts through to JSON. What is not wanted, or cannot be had now, is said in words."""

    @wraps(handler)
    async def guard(request: web.Request) -> web.StreamResponse:
        try:
            _check(request)
            return guarded(await handler(request))
        except NotWanted as exc:
            return guarded(error_answer(exc.status, exc.error))
        except (StoreUnavailable, TimeoutError):
            return guarded(error_answer(503, "the database does not answer; this page tries again by itself"))

    return guard


def is_from_here(request: web.BaseRequest) -> bool:
    """Tell whether a page of our own sent this, going by what browsers say and pages cannot change."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return _split(request.headers.get(hdrs.ORIGIN, "")).netloc == request.host != ""


def needs_secure_cookie(request: web.BaseRequest) -> bool:
    """Tell whether the cookie is for TLS only: always, but where a browser talks to its own machine.

    A header of a proxy is a sign that this is not so. Who makes one up gets the stricter cookie, so none has to be
    trusted for this.
    """
    return not is_loopback(request.host) or any(name in request.headers for name in _SAYS_PROXY)


def is_loopback(host: str) -> bool:
    """Tell whether the name in a URL means the machine that the browser runs on."""
    name = _split(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    """Take a URL apart that anybody may have written; what is none has no host."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that a script sent. Raises ``NotWanted`` where that is none."""
    try:
        value = orjson.loads(await read_body(request, MAX_BODY_BYTES))
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise NotWanted(400, "the page sent something that is no JSON object; reload it")
    return value


async def read_body(request: web.BaseRequest, most: int) -> bytes:
    """Return a body of at most so many bytes. Raises ``NotWanted`` for one that is larger, or does not arrive."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise NotWanted(413, "that is too much at once; choose fewer")
    except TimeoutError:
        raise NotWanted(408, "that took too long to arrive; try again") from None
    return bytes(body)


def _check(request: web.Request) -> None:
    if request.app[keys.SETTINGS].admin_token is None:
        raise NotWanted(403, _CLOSED)
    if find_session(request) is None:
        raise NotWanted(401, "you are logged out; log in again")
    if request.method in _SAFE_METHODS:
        return
    if not is_from_here(request):
        raise NotWanted(403, "this did not come from a page of the console; nothing was changed")
    if request.content_type != "application/json":
        raise NotWanted(415, "send JSON; nothing was changed")
