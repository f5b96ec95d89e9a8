"""The console's pages: one where operators log in, and one frame that the scripts fill."""

from __future__ import annotations

import html
import logging
import re
import secrets
import time
from string import Template
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from whatsapp_hub.http import keys
from whatsapp_hub.http.console.answers import guarded, see_other
from whatsapp_hub.http.console.doors import (
    COOKIE,
    COOKIE_PATH,
    LOGIN,
    NotWanted,
    find_session,
    is_from_here,
    is_loopback,
    needs_secure_cookie,
    read_body,
)
from whatsapp_hub.http.console.files import static_files
from whatsapp_hub.http.console.session import NONCE_BYTES, SESSION_S, is_admin_token, make_cookie

logger = logging.getLogger("console")

#: Where the frame is shown; what is in it the scripts decide by the path.
PAGES: Final = (
    "/console",
    "/console/businesses",
    "/console/conversations",
    "/console/dead-letters",
    "/console/search",
)
#: Pages of one thing, by the names of their routes.
DEEP_PAGES: Final = {
    "/console/conversations/{reference}": "console.conversation",
    "/console/messages/{id}": "console.message",
}
MAX_FORM_BYTES: Final = 4096

#: Of a page of one thing, as browsers write it: nothing in it leads elsewhere.
_DEEP_PATH: Final = re.compile(r"/console/(?:conversations|messages)/[\w.%:~=+-]{1,900}", re.ASCII)
_WRONG: Final = "That is not the admin token. It is the value of ADMIN_TOKEN in the hub's environment."
_FOREIGN: Final = "That did not come from this page, so nothing was done. Type the token here."
_IN_THE_CLEAR: Final = (
    "This page came without TLS, so the token would cross the network for all to read, and your browser would not keep"
    " the session. Use https://, or a tunnel: ssh -L 8000:127.0.0.1:8000 SERVER, then http://127.0.0.1:8000/console."
)


async def show_frame(_: web.Request) -> web.Response:
    """Answer with the frame of every page."""
    return static_files()["console.html"].answer()


async def show_login(request: web.Request) -> web.Response:
    """Answer with the page where operators log in, or go on if they are."""
    if request.app[keys.SETTINGS].admin_token is None:
        return guarded(web.Response(body=static_files()["closed.html"].body, status=403, content_type="text/html"))
    page = _wanted_page(request.query.get("next"))
    return see_other(page) if find_session(request) is not None else login_page(request, page=page)


async def log_in(request: web.Request) -> web.Response:
    """Begin a session, if the form holds the admin token."""
    token = request.app[keys.SETTINGS].admin_token
    if token is None:
        return await show_login(request)
    if not is_from_here(request):
        return login_page(request, status=403, problem=_FOREIGN)
    form = await _read_form(request)
    page = _wanted_page(form.get("next"))
    address = request.app[keys.CLIENT_ADDRESSES].key_of(request)
    if not is_admin_token(form.get("token", ""), token):
        logger.warning("login without the right token", extra={"address": address})
        return login_page(request, status=401, problem=_WRONG, page=page)
    logger.info("operator logged in", extra={"address": address})
    answer = see_other(page)
    cookie = make_cookie(token, now=time.time(), nonce=secrets.token_bytes(NONCE_BYTES))
    _set_cookie(request, answer, cookie, max_age_s=SESSION_S)
    return answer


async def log_out(request: web.Request) -> web.Response:
    """End the session."""
    if not is_from_here(request):
        return login_page(request, status=403, problem=_FOREIGN)
    if session := find_session(request):
        request.app[keys.CONSOLE].end(session)
    answer = see_other(LOGIN)
    _set_cookie(request, answer, "", max_age_s=0)
    return answer


def refuse_login(request: web.Request, refusal: web.StreamResponse) -> web.Response:
    """Build the page for an address that guessed too often, from the answer that scripts would get."""
    wait_s = refusal.headers.get(hdrs.RETRY_AFTER, "60")
    problem = f"Too many wrong tokens came from your address. A right one is still taken; else wait {wait_s} s."
    answer = login_page(request, status=refusal.status, problem=problem)
    answer.headers[hdrs.RETRY_AFTER] = wait_s
    return answer


def login_page(request: web.Request, *, status: int = 200, problem: str = "", page: str = PAGES[0]) -> web.Response:
    """Build the page where operators log in; ``problem`` says why they are still there."""
    if not problem and not is_loopback(request.host) and "Sec-Fetch-Mode" not in request.headers:
        problem = _IN_THE_CLEAR  # browsers send that header where nobody can read along
    template = Template(static_files()["login.html"].body.decode())
    text = template.substitute(problem=html.escape(problem), hidden="" if problem else "hidden", next=html.escape(page))
    return guarded(web.Response(text=text, status=status, content_type="text/html"))


def _set_cookie(request: web.Request, answer: web.Response, value: str, *, max_age_s: int) -> None:
    answer.set_cookie(
        COOKIE,
        value,
        max_age=max_age_s,
        path=COOKIE_PATH,
        secure=needs_secure_cookie(request),
        httponly=True,
        samesite="Strict",
    )


def _wanted_page(path: str | None) -> str:
    return path if path in PAGES or (path and _DEEP_PATH.fullmatch(path)) else PAGES[0]


async def _read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a small form; none of what is none."""
    try:
        body = await read_body(request, MAX_FORM_BYTES)
    except NotWanted:
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace")))
