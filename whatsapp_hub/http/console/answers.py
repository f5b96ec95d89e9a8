"""What every answer of the console carries, so that a browser keeps to this origin and keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from aiohttp import hdrs, web

Answer = TypeVar("Answer", bound=web.StreamResponse)

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def guarded(answer: Answer) -> Answer:
    """Put the console's headers on an answer; unless it says otherwise, nobody may store it."""
    answer.headers.update(HEADERS)
    answer.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    return answer


def see_other(path: str) -> web.Response:
    """Send the browser to another page."""
    return guarded(web.Response(status=303, headers={hdrs.LOCATION: path}))
