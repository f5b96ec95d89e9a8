"""Who is logged in (pure): a cookie that says until when, signed with a key made from the admin token.

Nothing is stored, so it counts at every process and after a restart, and no longer once the token is another.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

SESSION_S: Final = 12 * 3600
NONCE_BYTES: Final = 16

_COOKIE: Final = re.compile(r"(?P<ends_at>[0-9]{1,12})\.(?P<id>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})", re.ASCII)
_PURPOSE: Final = b"whatsapp-hub console session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login."""

    id: str
    ends_at: float  #: unix seconds


def is_admin_token(given: str, token: SecretStr) -> bool:
    """Tell whether this is the admin token. Takes the same time for every wrong one."""
    return _is_same(given, token.get_secret_value())


def make_cookie(token: SecretStr, *, now: float, nonce: bytes) -> str:
    """Return what a browser shows from now on to be let in; ``nonce`` has ``NONCE_BYTES`` random bytes."""
    words = f"{int(now) + SESSION_S}.{nonce.hex()}"
    return f"{words}.{_sign(words, token)}"


def read_cookie(cookie: str, token: SecretStr, *, now: float) -> Session | None:
    """Return the login that a cookie proves; None where it proves nothing, or is over."""
    found = _COOKIE.fullmatch(cookie)
    if found is None or not _is_same(found["mac"], _sign(f"{found['ends_at']}.{found['id']}", token)):
        return None
    ends_at = float(found["ends_at"])
    return Session(id=found["id"], ends_at=ends_at) if now < ends_at else None


def _sign(words: str, token: SecretStr) -> str:
    key = hmac.digest(token.get_secret_value().encode(), _PURPOSE, "sha256")
    return hmac.digest(key, words.encode(), "sha256").hex()


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
