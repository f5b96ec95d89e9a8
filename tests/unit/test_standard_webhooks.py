"""Signing as Standard Webhooks does."""

from __future__ import annotations

import base64

import pytest

from whatsapp_hub.assistants.standard_webhooks import read_id, read_key, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_reference_vector_is_met() -> None:
    """The one that the reference libraries test themselves with."""
    headers = sign(
        read_key(SECRET),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_plain_secret_is_the_key_itself() -> None:
    assert read_key("a plain secret of thirty bytes") == b"a plain secret of thirty bytes"
    assert read_key(f"whsec_{base64.b64encode(bytes(32)).decode()}") == bytes(32)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("short", "has to have 24 to 64 bytes, and has 5"),
        ("x" * 65, "has to have 24 to 64 bytes, and has 65"),
        ("whsec_", "has to have 24 to 64 bytes, and has 0"),
        ("whsec_c2hvcnQ=", "has to have 24 to 64 bytes, and has 5"),
        ("whsec_not base64 at all!", "begins with whsec_, but what follows is not base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "begins with whsec_, but what follows is not base64"),
    ],
)
def test_what_is_no_key_is_told_without_it(secret: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"has to|begins") as caught:
        read_key(secret)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("106:wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQ0003QTAA=", "106:wamid_HBgLMTY1MDU1NTEyMzQVAgASGBQ0003QTAA="),
        ("106:a\r\nHost: b", "106:a__Host:_b"),
        ("106:ä", "106:_"),
    ],
)
def test_an_id_has_no_dot_and_fits_into_a_header(name: str, found: str) -> None:
    assert read_id(name) == found
