"""Where media may be fetched from, and with what."""

from __future__ import annotations

import base64
import hashlib

import pytest
from yarl import URL

from whatsapp_hub.cloud_api.media_hosts import MediaHosts
from whatsapp_hub.cloud_api.media_wire import read_digest, read_media_info
from whatsapp_hub.errors import MediaUnavailable

HOSTS = MediaHosts("https://graph.facebook.com")
STAND_IN = MediaHosts("http://127.0.0.1:8123/prefix")


@pytest.mark.parametrize(
    ("link", "token", "fetch"),
    [
        ("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", True, True),
        ("https://graph.facebook.com/v26.0/1", True, True),
        ("https://scontent-fra3-1.xx.fbcdn.net/v/t1", False, True),
        ("http://lookaside.fbsbx.com/x", False, False),
        ("https://lookaside.fbsbx.com:8443/x", False, False),
        ("https://user@lookaside.fbsbx.com/x", False, False),
        ("https://lookaside.fbsbx.com@evil.example/x", False, False),
        ("https://lookaside.fbsbx.com.evil.example/x", False, False),
        ("https://evil-lookaside.fbsbx.com/x", False, False),
        ("https://x.lookaside.fbsbx.com/x", False, False),
        ("https://fbcdn.net.evil.example/x", False, False),
        ("https://evilfbcdn.net/x", False, False),
        ("http://scontent.xx.fbcdn.net/x", False, False),
        ("https://127.0.0.1/x", False, False),
        ("https://[::ffff:127.0.0.1]/x", False, False),
        ("https://2130706433/x", False, False),
        ("http://169.254.169.254/latest/meta-data", False, False),
        ("http://127.0.0.1:8123/x", False, False),
        ("file:///etc/passwd", False, False),
        ("/relative", False, False),
    ],
)
def test_only_metas_hosts_are_asked(link: str, token: bool, fetch: bool) -> None:
    assert (HOSTS.takes_token(URL(link)), HOSTS.may_fetch(URL(link))) == (token, fetch)


@pytest.mark.parametrize(
    ("link", "token"),
    [
        ("http://127.0.0.1:8123/any", True),
        ("http://127.0.0.1:8124/any", False),
        ("https://127.0.0.1:8123/any", False),
        ("http://u:p@127.0.0.1:8123/any", False),
    ],
)
def test_the_address_of_the_graph_api_counts_with_scheme_and_port(link: str, token: bool) -> None:
    assert STAND_IN.takes_token(URL(link)) is token


def test_digests_are_read_in_both_forms() -> None:
    digest = hashlib.sha256(b"x").digest()
    assert read_digest(digest.hex()) == read_digest(base64.b64encode(digest).decode()) == digest
    assert [read_digest(text) for text in ("", "x", "abcd", "zz" * 32, "\ud83d")] == [None] * 5


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"url":5}', b'{"url":""}', b'{"id":"1"}'])
def test_an_answer_without_a_link_is_none(body: bytes) -> None:
    with pytest.raises(MediaUnavailable):
        read_media_info(body)
