"""How the console names a conversation without the customer's number."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

from whatsapp_hub.http.console.references import References

CONVERSATION = "106540352242922:491701234567"
OURS = References(SecretStr("an-admin-token-of-some-length"))
ANOTHERS = References(SecretStr("another-token-of-some-length!"))


def test_reference_is_read_again_and_is_always_the_same() -> None:
    reference = OURS.make(CONVERSATION)
    assert OURS.read(reference) == CONVERSATION
    assert OURS.make(CONVERSATION) == reference


def test_reference_tells_nothing_and_fits_into_an_address() -> None:
    reference = OURS.make(CONVERSATION)
    assert reference.replace("-", "").replace("_", "").isalnum()
    assert b"4917012" not in base64.urlsafe_b64decode(reference + "==")
    assert OURS.make("106540352242922:491701234568")[:20] != reference[:20]


@pytest.mark.parametrize("wrong", ["", "A", "AAAA", "\u00e4", "A" * 60, CONVERSATION, "../..", "A\n"])
def test_anything_else_names_nothing(wrong: str) -> None:
    assert OURS.read(wrong) is None


def test_reference_of_another_token_names_nothing() -> None:
    reference = ANOTHERS.make(CONVERSATION)
    assert OURS.read(reference) is None
    assert OURS.read(f"{OURS.make(CONVERSATION)[:-2]}AA") is None
