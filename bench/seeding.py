"""What lies in the database before a run: businesses, and what was said to their customers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import UpdateOne

from bench.plan import BACKLOG_NUMBERS, ENCRYPTION_SECRET, Plan
from bench.webhooks import choose_numbers, customer_name, phone_number_id
from whatsapp_hub.cloud_api.messages import conversation_id
from whatsapp_hub.conversation.history import Entry, entry_updates
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.vault import Vault

KEEP_TURNS: Final[int] = Settings.model_fields["history_turns"].default


def build_businesses(plan: Plan, *, has_tokens: bool) -> Iterator[dict[str, Any]]:
    """Return a document for each business; those of a backlog have no token, so the hub holds what they get."""
    vault = Vault(ENCRYPTION_SECRET)
    for index in range(plan.phone_numbers + (BACKLOG_NUMBERS if plan.backlog else 0)):
        has_token = has_tokens and index < plan.phone_numbers
        yield {
            "name": f"Bench {index}",
            "subDomain": f"bench-{index}",
            "wabaId": f"waba{phone_number_id(index)}",
            "whatsappPhoneNumberIds": [phone_number_id(index)],
            "whatsappEnabled": True,
            "isActive": True,
            **({"whatsappAccessToken": vault.encrypt(f"EAAbench{index:010d}")} if has_token else {}),
        }


def build_histories(plan: Plan) -> Iterator[UpdateOne]:
    """Return the writes of the hub that remember the last turns of every customer; it keeps no more of them."""
    number_of = choose_numbers(plan)
    now = datetime.now(UTC)
    for customer in range(plan.customers):
        conversation = conversation_id(phone_number_id(number_of(customer)), customer_name(customer))
        for turn in range(max(0, plan.past_turns - KEEP_TURNS), plan.past_turns):
            entry = Entry(
                conversation=conversation,
                turn_id=f"past-{turn}",
                business_id="",
                customer=f"Good morning! Is my order of the {turn % 28 + 1}th on its way, and when will it arrive?",
                reply="Your order is on its way and should arrive tomorrow before noon. Is there anything else?",
            )
            yield from entry_updates(entry, now, keep_turns=KEEP_TURNS)
