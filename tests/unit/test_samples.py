"""The demo's businesses and what they say."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from whatsapp_hub.cloud_api.payload import read_webhook
from whatsapp_hub.demo.samples import SAMPLES
from whatsapp_hub.tenants.documents import read_business, read_row
from whatsapp_hub.tenants.vault import Vault


def test_samples_differ_in_everything_that_must_not_be_mixed() -> None:
    assert len(SAMPLES) == 3
    for attribute in ("name", "sub_domain", "account_id", "phone_number_id", "access_token", "customer", "question"):
        assert len({getattr(sample, attribute) for sample in SAMPLES}) == 3


def test_documents_are_read_like_those_of_the_other_program() -> None:
    vault = Vault("secret")
    for sample in SAMPLES:
        document = sample.document(vault, datetime.now(UTC))
        business, row = read_business(document, vault.decrypt), read_row(document, vault.decrypt)
        assert (business.enabled, business.fault, row.faults) == (True, None, ())
        assert business.access_token == sample.access_token
        assert sample.access_token not in str(document)
        assert business.phone_number_ids == (sample.phone_number_id,)


def test_webhook_is_one_message_of_the_customer() -> None:
    sample = SAMPLES[1]
    body = sample.webhook(sample.question, message_id="wamid.1", timestamp=1_700_000_000)
    (message,) = read_webhook(body, now=1_700_000_000, new_id=None).messages
    assert (message.phone_number_id, message.sender, message.id) == (sample.phone_number_id, sample.customer, "wamid.1")
    assert message.profile_name == "Grace"


def test_webhook_can_be_pasted_into_a_shell() -> None:
    for sample in SAMPLES:
        body = sample.webhook(sample.question, message_id="wamid.1", timestamp=1).decode()
        assert "'" not in body
        assert body.isascii()
        assert shlex.split(shlex.quote(body)) == [body]
