"""Which phone numbers a business has, for operators who name it by its subdomain. Nothing here is on a hot path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from whatsapp_hub.database import Database
from whatsapp_hub.inbox.store import unknown_on_error

TIMEOUT_S: Final = 2.0
MOST_BUSINESSES: Final = 10_000
FALLBACK: Final = "fallback"  #: the name of the business that the environment sets up


class Numbers:
    """The phone number ids in ``businesses``, and the one that the environment names, if any.

    Every method raises ``StoreUnavailable``.
    """

    def __init__(self, database: Database, *, fallback: str | None = None) -> None:
        """Read from this database."""
        self._businesses = database.businesses
        self._fallback = fallback

    async def of(self, sub_domain: str) -> tuple[str, ...] | None:
        """Return the numbers of a business; None where nobody has the subdomain."""
        with unknown_on_error("read a business's numbers", TIMEOUT_S):
            document = await self._businesses.find_one({"subDomain": sub_domain}, {"whatsappPhoneNumberIds": 1})
        if document is not None:
            return tuple(listed_numbers(document))
        return (self._fallback,) if self._fallback and sub_domain == FALLBACK else None

    async def all(self) -> tuple[str, ...]:
        """Return every number."""
        documents = await self._read({"whatsappPhoneNumberIds": 1})
        own = (self._fallback,) if self._fallback else ()
        return tuple(dict.fromkeys([*own, *(number for one in documents for number in listed_numbers(one))]))

    async def sub_domains(self) -> list[str]:
        """Return the subdomain of every business that has one, in order."""
        found = {
            one["subDomain"] for one in await self._read({"subDomain": 1}) if isinstance(one.get("subDomain"), str)
        }
        return sorted(found | ({FALLBACK} if self._fallback else set()))

    async def _read(self, fields: Mapping[str, int]) -> list[dict[str, Any]]:
        with unknown_on_error("read the businesses' numbers", TIMEOUT_S):
            found: list[dict[str, Any]] = await self._businesses.find({}, fields).limit(MOST_BUSINESSES).to_list(None)
        return found


def listed_numbers(document: Mapping[str, Any]) -> list[str]:
    """Return the phone number ids in a business's document, whatever else stands there."""
    numbers = document.get("whatsappPhoneNumberIds")
    return [number for number in (numbers if isinstance(numbers, list) else [numbers]) if isinstance(number, str)]
