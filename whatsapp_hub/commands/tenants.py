"""What the commands show of a business's document, and how they open its secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from whatsapp_hub.errors import VaultError
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import Decrypt, read_business, read_row
from whatsapp_hub.tenants.managed import Document
from whatsapp_hub.tenants.vault import Vault

#: Every field of a business that is kept encrypted.
SECRETS: Final = (
    "whatsappAccessToken",
    "whatsappRefreshToken",
    "whatsappAppSecret",
    "whatsappVerifyToken",
    "assistant.apiKey",
    "assistant.secret",
)


def open_vault(settings: Settings) -> Vault:
    """Make the vault of the settings."""
    assert settings.encryption_secret is not None  # noqa: S101 - read_settings sees to it
    old = [secret.get_secret_value() for secret in settings.encryption_secrets_old]
    return Vault(settings.encryption_secret.get_secret_value(), old)


def find_value(document: Document, path: str) -> Any:
    """Return what stands at a path; None where nothing does."""
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def find_secrets(document: Document) -> Iterator[tuple[str, str]]:
    """Yield where a document keeps a secret, and the secret as it is stored."""
    for path in SECRETS:
        value = find_value(document, path)
        if isinstance(value, str) and value:
            yield path, value


#: The keys of a business in JSON.
BUSINESS_KEYS: Final = (
    "business",
    "name",
    "state",
    "waba_id",
    "phone_number_ids",
    "served",
    "whatsapp_enabled",
    "active",
    "created_at",
    "access_token",
    "token_expires_at",
    "app_secret",
    "verify_token",
    "assistant",
    "faults",
    "last_message_at",
)


def describe(document: Document, decrypt: Decrypt) -> dict[str, Any]:
    """Return what may be shown of a business: whether its secrets are there and can be read, never what they are."""
    business, row = read_business(document, decrypt), read_row(document, decrypt)
    assistant = document.get("assistant")
    of_assistant: Mapping[str, Any] = assistant if isinstance(assistant, Mapping) else {}
    faults = list(dict.fromkeys((*(business.fault.split("; ") if business.fault else ()), *row.faults)))
    return {
        "business": business.sub_domain,
        "name": business.name,
        "state": _name_state(business, document, faults),
        "waba_id": business.account_id,
        "phone_number_ids": list(business.phone_number_ids),
        "served": business.enabled,
        "whatsapp_enabled": document.get("whatsappEnabled") is True,
        "active": document.get("isActive") is True,
        "created_at": _moment(document.get("createdAt")),
        "access_token": _state(document.get("whatsappAccessToken"), decrypt),
        "token_expires_at": _moment(document.get("whatsappTokenExpiresAt")),
        "app_secret": _state(document.get("whatsappAppSecret"), decrypt),
        "verify_token": _state(document.get("whatsappVerifyToken"), decrypt),
        "assistant": {
            "kind": of_assistant.get("kind"),
            "model": of_assistant.get("model"),
            "base_url": of_assistant.get("baseUrl"),
            "instructions": of_assistant.get("instructions"),
            "api_key": _state(of_assistant.get("apiKey"), decrypt),
        }
        if of_assistant
        else None,
        "faults": faults,
    }


def _state(stored: object, decrypt: Decrypt) -> str:
    if stored is None or stored == "":
        return "not set"
    try:
        return "set" if isinstance(stored, str) and decrypt(stored) else "unreadable"
    except VaultError:
        return "unreadable"


def _name_state(business: Business, document: Document, faults: Sequence[str]) -> str:
    if not business.enabled:
        return "off" if document.get("isActive") is True else "off, not active"
    return "on, with faults" if faults else "on"


def _moment(value: object) -> datetime | str | None:
    return value if value is None or isinstance(value, datetime) else str(value)
