"""The demo's businesses, their customers, and the webhooks in which these write (pure). Everything is made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from whatsapp_hub.tenants.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One business, with one customer who asks one thing."""

    name: str
    sub_domain: str
    account_id: str
    phone_number_id: str
    display_number: str
    customer: str  #: a number that is kept free for films and examples
    customer_name: str
    question: str  #: without quotation marks, so that it can stand in a shell's

    @property
    def access_token(self) -> str:
        """Its token: the one that the stand-in for Graph takes for its number, and no other."""
        return f"EAAdemo{self.phone_number_id[::-1]}{self.sub_domain}"

    def document(self, vault: Vault, now: datetime) -> dict[str, object]:
        """Return its document, as the program that fills ``businesses`` would write it."""
        return {
            "name": self.name,
            "subDomain": self.sub_domain,
            "wabaId": self.account_id,
            "whatsappPhoneNumberIds": [self.phone_number_id],
            "whatsappAccessToken": vault.encrypt(self.access_token),
            "whatsappEnabled": True,
            "isActive": True,
            "createdAt": now,
        }

    def webhook(self, text: str, *, message_id: str, timestamp: int) -> bytes:
        """Return the webhook in which its customer writes this, as Meta would post it."""
        content = {"type": "text", "text": {"body": text}}
        return self.webhook_of({"id": message_id, "timestamp": str(timestamp), **content})

    def webhook_of(self, message: Mapping[str, Any], *, customer: str = "", name: str = "") -> bytes:
        """Return the webhook with any message of its customer, or of another one."""
        sender = customer or self.customer
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": self.display_number, "phone_number_id": self.phone_number_id},
            "contacts": [{"profile": {"name": name or self.customer_name}, "wa_id": sender}],
            "messages": [{"from": sender, **message}],
        }
        entry = {"id": self.account_id, "changes": [{"value": value, "field": "messages"}]}
        return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


SAMPLES: Final = (
    Sample(
        name="Crumb & Crust Bakery",
        sub_domain="bakery",
        account_id="200000000000001",
        phone_number_id="100000000000001",
        display_number="15550100101",
        customer="15550100142",
        customer_name="Ada",
        question="Do you still have sourdough today?",
    ),
    Sample(
        name="Spokes Bike Repair",
        sub_domain="bikes",
        account_id="200000000000002",
        phone_number_id="100000000000002",
        display_number="15550100102",
        customer="447700900173",
        customer_name="Grace",
        question="My rear brake squeals. Can I bring it in tomorrow?",
    ),
    Sample(
        name="Dr. Molar, Dentist",
        sub_domain="dentist",
        account_id="200000000000003",
        phone_number_id="100000000000003",
        display_number="15550100103",
        customer="61491570156",
        customer_name="Alan",
        question="Is Friday at half past nine still free?",
    ),
)
