"""Calling the hub's API as a business does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.hub import Answer, Hub, until
from tests.leaks import LEAKS
from whatsapp_hub.tenants.api_keys import ApiKey, make_key

CUSTOMER = "491700000001"


def api_key(name: str) -> tuple[str, ApiKey]:
    """Return the key of that name, which nobody may log, and what is stored of it."""
    digest = hashlib.sha256(name.encode()).digest()
    plain, stored = make_key(digest[:6], digest)
    return LEAKS.seed(plain), stored


def stored_key(name: str) -> dict[str, Any]:
    """Return the entry of ``apiKeys`` for the key of that name."""
    _, stored = api_key(name)
    return {"id": stored.id, "hash": stored.hash, "label": name, "createdAt": datetime.now(UTC)}


def text_to(customer: str, words: str, **more: Any) -> dict[str, Any]:
    """Return the body of a request to send a text."""
    return {"to": customer, "type": "text", "text": {"body": words}, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A business that calls."""

    hub: Hub
    sub_domain: str
    key: str | None = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What says who calls."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    @property
    def path(self) -> str:
        """Where messages go."""
        return f"/api/v1/{self.sub_domain}/messages"

    async def send(self, body: Any, *, idempotency_key: str | None = None, hub: Hub | None = None) -> Answer:
        """Ask for a message to be sent."""
        headers = self.headers if idempotency_key is None else {**self.headers, "Idempotency-Key": idempotency_key}
        return await (hub or self.hub).exchange("POST", self.path, json=body, headers=headers)

    async def say(self, words: str, customer: str = CUSTOMER, **more: Any) -> str:
        """Send a text, which has to be accepted; return its id."""
        answer = await self.send(text_to(customer, words, **more))
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    async def show(self, message_id: str) -> Answer:
        """Ask what became of a message."""
        return await self.hub.exchange("GET", f"{self.path}/{message_id}", headers=self.headers)

    async def reaches(self, message_id: str, state: str) -> Any:
        """Wait until a message has come so far; return what is told of it."""

        async def has_come() -> Any:
            answer = await self.show(message_id)
            return answer.json if answer.status == 200 and answer.json["state"] == state else None

        return await until(has_come)

    async def pause(self, customer: str, body: Any) -> Answer:
        """Ask for the assistant to be silent."""
        path = f"/api/v1/{self.sub_domain}/conversations/{customer}/pause"
        return await self.hub.exchange("POST", path, json=body, headers=self.headers)
