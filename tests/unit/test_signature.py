"""The signature of a webhook."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from whatsapp_hub.cloud_api.signature import sign, verify

SECRET = b"app-secret"
BODY = '{"text":"\\u00e9 \U0001f600 / <>"}'.encode()
GOOD = "sha256=" + hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()


def test_the_raw_bytes_are_signed() -> None:
    assert verify(BODY, GOOD, [SECRET])
    assert verify(BODY, GOOD.encode(), [SECRET])
    assert sign(BODY, SECRET) == GOOD


def test_the_same_json_in_other_bytes_does_not_verify() -> None:
    assert not verify('{"text":"é \U0001f600 / <>"}'.encode(), GOOD, [SECRET])


@pytest.mark.parametrize("position", range(0, len(BODY), 5))
def test_one_changed_bit_is_noticed(position: int) -> None:
    changed = bytearray(BODY)
    changed[position] ^= 1

    assert not verify(bytes(changed), GOOD, [SECRET])


def test_any_of_several_secrets_may_have_signed() -> None:
    assert verify(BODY, GOOD, [b"older", SECRET])
    assert verify(BODY, GOOD, [SECRET, b"newer"])
    assert not verify(BODY, GOOD, [b"older", b"newer"])


def test_no_secret_and_an_empty_secret_never_verify() -> None:
    assert not verify(BODY, GOOD, [])
    assert not verify(BODY, sign(BODY, b""), [b""])
    assert verify(BODY, GOOD, [b"", SECRET])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        GOOD.upper(),
        "sha256=" + GOOD[7:].upper(),
        "SHA256=" + GOOD[7:],
        GOOD[7:],
        "sha1=" + GOOD[7:],
        " " + GOOD,
        GOOD + " ",
        GOOD + "\n",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "," + GOOD,
        "sha256=" + "g" * 64,
        "sha256=" + "é" * 64,
        "sha256=" + "\u0661" * 64,
        "sha256=" + "\udcff" * 64,
        b"sha256=" + b"\xff" * 64,
        "sha256=" + "0" * 100_000,
    ],
)
def test_a_malformed_header_is_a_wrong_one(header: str | bytes | None) -> None:
    assert not verify(BODY, header, [SECRET])


def test_an_empty_body_can_be_signed() -> None:
    assert verify(b"", sign(b"", SECRET), [SECRET])
