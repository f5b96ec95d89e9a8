"""The system that the hub replaces, as far as its data and its place in the traffic go (``docs/migration.md``)."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId
from cryptography.fernet import Fernet, InvalidToken

from whatsapp_hub.database import Database

SECRET: Final = "what the dashboard encrypts with"
#: Its indexes: those of the dashboard and those of its script, under its own names.
INDEXES: Final[Mapping[str, tuple[list[tuple[str, int]], dict[str, Any]]]] = {
    "subDomain_1": ([("subDomain", 1)], {"unique": True}),
    "businessId_1": ([("businessId", 1)], {"unique": True, "sparse": True}),
    "webhook_lookup_idx": ([("whatsappPhoneNumberIds", 1), ("whatsappEnabled", 1), ("isActive", 1)], {}),
    "active_whatsapp_businesses_idx": ([("whatsappEnabled", 1), ("isActive", 1), ("createdAt", -1)], {}),
}
ENVIRONMENT: Final = {
    "MONGODB_URI": "mongodb://127.0.0.1:27017/?replicaSet=rs0",
    "MONGODB_DB_NAME": "whatsapp",
    "ENCRYPTION_SECRET": SECRET,
    "WHATSAPP_VERIFY_TOKEN": "verify me",
    "WHATSAPP_PHONE_NUMBER_ID": "",
    "WHATSAPP_TOKEN": "",
    "BUSINESS_CACHE_TTL": "300",
    "BUSINESS_CACHE_SIZE": "1000",
    "MONGODB_MAX_POOL_SIZE": "100",
    "MONGODB_MIN_POOL_SIZE": "10",
    "WARMUP_CACHE": "true",
    # What only the old system knows.
    "ENABLE_CONVERSATION_SYNC": "true",
    "CONVERSATION_API_TIMEOUT": "10.0",
    "TEXT_MODEL_NAME": "a-model",
    "MEMORY_TOP_K": "3",
    "SHORT_TERM_MEMORY_DB_PATH": "/app/data/memory.db",
    "TAX_RATE": "0.08",
}
LONGEST_TOKEN: Final = 400  # longer ones it took for broken


def encrypt(plain: str) -> str:
    """Encrypt as the dashboard does."""
    return _fernet().encrypt(plain.encode()).hex()


def decrypt(stored: str) -> str | None:
    """Read a token as the old system did, its fallback to plain text included; None: it refused the business."""
    try:
        plain = _fernet().decrypt(bytes.fromhex(stored)).decode()
    except (InvalidToken, ValueError):
        is_hex = all(letter in "0123456789abcdefABCDEF" for letter in stored)
        plain = stored if len(stored) < 64 or not is_hex else ""
    return plain if plain and len(plain) <= LONGEST_TOKEN else None


def _fernet() -> Fernet:
    return Fernet(urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest()))


def document(sub_domain: str, *numbers: str, token: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return a business as the dashboard writes it, with fields that the hub knows nothing of."""
    return {
        "_id": ObjectId(),
        "businessId": f"id-of-{sub_domain}",
        "userId": ObjectId(),
        "name": sub_domain.title(),
        "description": "Open from eight to six.",
        "address": {"street": "Marktplatz 1", "city": "Freiburg", "location": [7.85, 47.99]},
        "subDomain": sub_domain,
        "wabaId": f"waba-{sub_domain}",
        "whatsappPhoneNumberIds": list(numbers),
        "whatsappAccessToken": encrypt(f"token-of-{sub_domain}") if token is None else token,
        "whatsappRefreshToken": encrypt(f"refresh-{sub_domain}"),
        "whatsappTokenExpiresAt": datetime(2099, 1, 1, tzinfo=UTC),
        "whatsappEnabled": True,
        "isActive": True,
        "localId": "local-7",
        "whatsappBotId": "bot-7",
        "createdAt": datetime(2025, 3, 1, 12, tzinfo=UTC),
        "__v": 3,
        **changes,
    }


#: One of each kind that its data hold.
BUSINESSES: Final = (
    document("bakery", "101", "102"),
    document("closed", "103", isActive=False),
    document("not-on-whatsapp", "104", whatsappEnabled=False),
    document("plain", "105", token="plain-token"),
    document("wordy", "106", token=encrypt("w" * 500)),
    document("expired", "107", whatsappTokenExpiresAt=datetime(2025, 1, 1, tzinfo=UTC)),
)


async def fill(database: Database) -> None:
    """Make the database one that the old system has worked on."""
    await database.businesses.insert_many(BUSINESSES)
    for name, (keys, options) in INDEXES.items():
        await database.businesses.create_index(keys, name=name, **options)


def lookup(number: str) -> dict[str, Any]:
    """Return the query with which the old system found a business."""
    return {"whatsappPhoneNumberIds": number, "whatsappEnabled": True, "isActive": True}
