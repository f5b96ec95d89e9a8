"""The cookie of the console: what it proves, for how long, and with which token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from whatsapp_hub.http.console.session import SESSION_S, is_admin_token, make_cookie, read_cookie

TOKEN = SecretStr("a-token-of-24-characters")
NOW = 1_800_000_000.0
NONCE = bytes(range(16))
COOKIE = make_cookie(TOKEN, now=NOW, nonce=NONCE)


def test_session_lasts_twelve_hours() -> None:
    session = read_cookie(COOKIE, TOKEN, now=NOW)
    assert session is not None
    assert (session.id, session.ends_at) == (NONCE.hex(), NOW + 12 * 3600)
    assert read_cookie(COOKIE, TOKEN, now=NOW + SESSION_S - 1) == session
    assert read_cookie(COOKIE, TOKEN, now=NOW + SESSION_S) is None


def test_another_token_ends_every_session() -> None:
    assert read_cookie(COOKIE, SecretStr("a-token-of-24-characterz"), now=NOW) is None


def test_token_cannot_be_read_from_the_cookie() -> None:
    assert TOKEN.get_secret_value() not in COOKIE
    assert make_cookie(TOKEN, now=NOW, nonce=bytes(16)) != COOKIE


@pytest.mark.parametrize("place", range(len(COOKIE)))
def test_cookie_that_was_changed_anywhere_proves_nothing(place: int) -> None:
    other = "1" if COOKIE[place] == "0" else "0"
    assert read_cookie(f"{COOKIE[:place]}{other}{COOKIE[place + 1 :]}", TOKEN, now=NOW) is None


@given(st.text())
def test_anything_else_proves_nothing(text: str) -> None:
    assert read_cookie(text, TOKEN, now=NOW) is None


@given(st.text())
def test_only_the_token_is_the_token(text: str) -> None:
    assert not is_admin_token(text, TOKEN)
    assert is_admin_token(TOKEN.get_secret_value(), TOKEN)


@pytest.mark.parametrize("given", ["\ud800", "a" * 100_000])
def test_what_cannot_be_written_as_bytes_is_refused_too(given: str) -> None:
    assert not is_admin_token(given, TOKEN)
