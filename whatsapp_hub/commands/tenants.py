"""The documents of ``businesses``, as the command line reads and writes them. Writes only what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.errors import DuplicateKeyError

from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.documents import Decrypt, read_business, read_row
from whatsapp_hub.tenants.vault import Vault

Document = Mapping[str, Any]

_SWITCHED_ON: Final = {"whatsappEnabled": True, "isActive": True}
# Another program writes these documents: a date that it means as "never" must not fail a whole list.
_LENIENT: Final = CodecOptions[dict[str, Any]](
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


def open_vault(settings: Settings) -> Vault:
    """Make the vault of the settings."""
    assert settings.encryption_secret is not None  # noqa: S101 - read_settings sees to it
    old = [secret.get_secret_value() for secret in settings.encryption_secrets_old]
    return Vault(settings.encryption_secret.get_secret_value(), old)


class BusinessDocuments:
    """The collection ``businesses``. Methods raise ``Failure`` for what cannot be done, and the driver's errors."""

    def __init__(self, database: Database) -> None:
        """Work on this database."""
        self._businesses = database.businesses.with_options(codec_options=_LENIENT)

    async def find_all(self) -> Sequence[Document]:
        """Return every document, by subdomain."""
        found: Sequence[Document] = await self._businesses.find({}).sort([("subDomain", 1), ("_id", 1)]).to_list(None)
        return found

    async def get(self, sub_domain: str) -> Document:
        """Return the one document with this subdomain."""
        found: Sequence[Document] = await self._businesses.find({"subDomain": sub_domain}).to_list(3)
        if not found:
            raise Failure(f"no business has the subdomain {sub_domain!r}: `whatsapp-hub business list` shows them all.")
        if len(found) > 1:
            raise Failure(f"several businesses have the subdomain {sub_domain!r}: mend that in the database first.")
        return found[0]

    async def add(self, document: Mapping[str, Any]) -> None:
        """Insert a new document, unless its subdomain is taken or another business is served with its numbers."""
        sub_domain = document["subDomain"]
        if await self._businesses.find_one({"subDomain": sub_domain}, {"_id": 1}):
            raise _taken(sub_domain)
        if document["whatsappEnabled"] and document["isActive"]:
            await self.refuse_contest(document)
        try:
            await self._businesses.insert_one(dict(document))
        except DuplicateKeyError:
            raise _taken(sub_domain) from None

    async def refuse_contest(self, document: Document) -> None:
        """Raise if a switched-on business already has a number of this one: then neither could be answered for sure."""
        numbers = document.get("whatsappPhoneNumberIds")
        wanted = set(numbers if isinstance(numbers, list) else [numbers])
        others = self._businesses.find(
            {"whatsappPhoneNumberIds": {"$in": list(wanted)}, "_id": {"$ne": document.get("_id")}, **_SWITCHED_ON}
        )
        async for other in others:
            theirs = other["whatsappPhoneNumberIds"]
            number = min(wanted.intersection(theirs if isinstance(theirs, list) else [theirs]), key=str)
            name = other.get("subDomain") or other["_id"]
            raise Failure(
                f"phone number id {number} belongs to {name!r}, which is switched on:"
                f" `whatsapp-hub business disable {name}` first, or take the number away from one of the two."
            )

    async def change(self, document: Document, values: Mapping[str, Any], unset: Sequence[str] = ()) -> None:
        """Set these fields of a document, and remove those."""
        update = {"$set": dict(values)} | ({"$unset": dict.fromkeys(unset, "")} if unset else {})
        result = await self._businesses.update_one({"_id": document["_id"]}, update)
        if not result.matched_count:
            raise Failure("the business was removed meanwhile: nothing was written.")

    async def replace_secret(self, document: Document, path: str, stored: str, renewed: str) -> bool:
        """Store a secret's new form, unless somebody has stored another secret there; say whether it was stored."""
        result = await self._businesses.update_one({"_id": document["_id"], path: stored}, {"$set": {path: renewed}})
        return result.matched_count == 1


def describe(document: Document, decrypt: Decrypt) -> dict[str, object]:
    """Return what may be shown of a business: whether its secrets are there and can be read, never what they are."""
    business, row = read_business(document, decrypt), read_row(document, decrypt)
    assistant = document.get("assistant")
    of_assistant: Mapping[str, Any] = assistant if isinstance(assistant, Mapping) else {}
    faults = [*(business.fault.split("; ") if business.fault else ()), *row.faults]
    return {
        "business": business.sub_domain,
        "name": business.name,
        "waba_id": business.account_id,
        "phone_number_ids": list(business.phone_number_ids),
        "served": business.enabled,
        "whatsapp_enabled": document.get("whatsappEnabled") is True,
        "active": document.get("isActive") is True,
        "created_at": _iso(document.get("createdAt")),
        "access_token": _state(document.get("whatsappAccessToken"), decrypt),
        "token_expires_at": _iso(document.get("whatsappTokenExpiresAt")),
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


def _iso(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return None if value is None else str(value)


def _taken(sub_domain: str) -> Failure:
    return Failure(f"the subdomain {sub_domain!r} is taken: choose another, or see `whatsapp-hub business show`.")
