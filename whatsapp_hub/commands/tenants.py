"""The documents of ``businesses``, as the command line reads and writes them. Writes only what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.errors import DuplicateKeyError

from whatsapp_hub.commands.failures import Failure, unknown_business
from whatsapp_hub.database import Database
from whatsapp_hub.errors import VaultError
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import Decrypt, read_business, read_row
from whatsapp_hub.tenants.vault import Vault

Document = Mapping[str, Any]

#: Every field of a business that is kept encrypted.
SECRETS: Final = (
    "whatsappAccessToken",
    "whatsappRefreshToken",
    "whatsappAppSecret",
    "whatsappVerifyToken",
    "assistant.apiKey",
    "assistant.secret",
)

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
            raise unknown_business(sub_domain)
        if len(found) > 1:
            raise Failure(f"several businesses have the subdomain {sub_domain!r}", "mend that in the database first")
        return found[0]

    async def add(self, document: Document) -> None:
        """Insert a new document, unless its subdomain is taken or another business is served with its numbers."""
        await self.refuse_taken(document)
        try:
            await self._businesses.insert_one(dict(document))
        except DuplicateKeyError:
            raise _taken(document["subDomain"]) from None

    async def refuse_taken(self, document: Document) -> None:
        """Raise if a new document's subdomain is taken, or another business is served with one of its numbers."""
        sub_domain = document["subDomain"]
        if await self._businesses.find_one({"subDomain": sub_domain}, {"_id": 1}):
            raise _taken(sub_domain)
        if document["whatsappEnabled"] and document["isActive"]:
            await self.refuse_contest(document)

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
                f"phone number id {number} belongs to {name!r}, which is switched on",
                f"`whatsapp-hub business disable {name}` first, or take the number away from one of the two",
            )

    async def change(self, document: Document, values: Mapping[str, Any], unset: Sequence[str] = ()) -> None:
        """Set these fields of a document, and remove those."""
        update = {"$set": dict(values)} | ({"$unset": dict.fromkeys(unset, "")} if unset else {})
        result = await self._businesses.update_one({"_id": document["_id"]}, update)
        _check_written(result.matched_count)

    async def add_to(self, document: Document, field: str, entry: Mapping[str, Any]) -> None:
        """Add an entry to a list in a document, whoever else changes it at the same time."""
        result = await self._businesses.update_one({"_id": document["_id"]}, {"$push": {field: dict(entry)}})
        _check_written(result.matched_count)

    async def take_from(self, document: Document, field: str, entry: Mapping[str, Any]) -> None:
        """Take what has these values out of a list in a document."""
        result = await self._businesses.update_one({"_id": document["_id"]}, {"$pull": {field: dict(entry)}})
        _check_written(result.matched_count)

    async def replace_secret(self, document: Document, path: str, stored: str, renewed: str) -> bool:
        """Store a secret's new form, unless somebody has stored another secret there; say whether it was stored."""
        result = await self._businesses.update_one({"_id": document["_id"], path: stored}, {"$set": {path: renewed}})
        return result.matched_count == 1


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


def _check_written(matched: int) -> None:
    if not matched:
        raise Failure("the business was removed meanwhile, nothing was written", "see `whatsapp-hub business list`")


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


def _taken(sub_domain: str) -> Failure:
    return Failure(f"the subdomain {sub_domain!r} is taken", "choose another, or see `whatsapp-hub business show`")
