"""What an operator is told to do about a dead letter."""

from __future__ import annotations

import pytest

from whatsapp_hub.cloud_api.error_codes import CODES, Verdict
from whatsapp_hub.cloud_api.errors import describe
from whatsapp_hub.inbox.dead_advice import advise


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("too old: the customer wrote it longer ago than REPLY_MAX_AGE_S", "too late to help"),
        ("failed 5 times: the process died or gave up while it worked on this message", "stops the hub"),
        ("failed 5 times: the assistant: HTTP 500", "mend it, then retry"),
        ("failed 5 times: the assistant's reply: too long", "cannot be sent"),
        ("over the limit of 10 turns a day (assistant.maxTurnsPerDay)", "tomorrow"),
        ("the business was switched off before its reply was sent", "Switch the business on"),
        ("131047 over 24 hours since the customer's last message", "template"),
        ("Meta could not deliver the reply (error 131026)", "discard it"),
        ("media cannot be sent, and nothing else was to be said: too large", "the file"),
        ("something new", "docs/errors.md"),
        ("", "docs/errors.md"),
    ],
)
def test_advice_fits_the_reason(reason: str, words: str) -> None:
    assert words in advise(reason)


@pytest.mark.parametrize("code", sorted(code for code, one in CODES.items() if one.verdict is Verdict.DEAD))
def test_every_code_that_letters_die_of_has_advice_that_ends_as_a_sentence(code: int) -> None:
    for reason in (describe(code), f"Meta could not deliver the reply (error {code})"):
        assert advise(reason).endswith(".")
        assert advise(reason) == advise(describe(code)), "however it was told"
