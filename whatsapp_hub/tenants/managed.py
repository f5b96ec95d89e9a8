"""The documents of ``businesses``, as operators read and write them: by a command or in the console.

Writes only what is asked for. Another program owns these documents; the server itself never writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.errors import DuplicateKeyError

from whatsapp_hub.database import Database
from whatsapp_hub.errors import BusinessRefused
from whatsapp_hub.tenants.store import SWITCHED_ON

Document = Mapping[str, Any]

# Another program writes these documents: a date that it means as "never" must not fail a whole list.
_LENIENT: Final = CodecOptions[dict[str, Any]](
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


class BusinessDocuments:
    """The collection ``businesses``. Its methods raise ``BusinessRefused`` and the driver's errors."""

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
            raise BusinessRefused(
                f"several businesses have the subdomain {sub_domain!r}", "mend that in the database first"
            )
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
            {"whatsappPhoneNumberIds": {"$in": list(wanted)}, "_id": {"$ne": document.get("_id")}, **SWITCHED_ON}
        )
        async for other in others:
            theirs = other["whatsappPhoneNumberIds"]
            number = min(wanted.intersection(theirs if isinstance(theirs, list) else [theirs]), key=str)
            name = other.get("subDomain") or other["_id"]
            raise BusinessRefused(
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


def _check_written(matched: int) -> None:
    if not matched:
        raise BusinessRefused(
            "the business was removed meanwhile, nothing was written", "see `whatsapp-hub business list`"
        )


def _taken(sub_domain: str) -> BusinessRefused:
    return BusinessRefused(
        f"the subdomain {sub_domain!r} is taken", "choose another, or see `whatsapp-hub business show`"
    )


def unknown_business(*sub_domains: str) -> BusinessRefused:
    """Say that no business is called that."""
    names = ", ".join(map(repr, sub_domains))
    return BusinessRefused(f"no business has the subdomain {names}", "`whatsapp-hub business list` shows them all")
