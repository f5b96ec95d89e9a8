"""All reads of the tenants' room, each bounded in time; a database that is down is asked by one caller at a time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from whatsapp_hub.cloud_api.messages import phone_number_id_of
from whatsapp_hub.database import Database, DatabaseError
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.tenants.documents import BUSINESS_FIELDS, ROW_FIELDS

T = TypeVar("T")
Document = Mapping[str, Any]

#: The driver, left alone, would look for a server as long as for everything else together.
READ_TIMEOUT_S: Final = 2.0
#: The table of a very large installation takes its time.
SCAN_TIMEOUT_S: Final = 30.0
#: Every read holds one of Motor's threads, and the inbox needs those too.
MAX_READS: Final = 16
#: How long a database that failed is left alone.
PAUSE_S: Final = 1.0
#: So many of the newest conversations are looked at for the numbers that wrote last.
MAX_CONVERSATIONS: Final = 20_000

SWITCHED_ON: Final = {"whatsappEnabled": True, "isActive": True}  #: a condition on a business's document
_BUSINESS: Final = dict.fromkeys(BUSINESS_FIELDS, 1)
_ROW: Final = dict.fromkeys(ROW_FIELDS, 1)
# JavaScript's dates reach further than Python's, and a program that means "never" writes such a one.
_LENIENT: Final = CodecOptions[dict[str, Any]](
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which businesses to look for: those for which everything holds that is set."""

    words: str = ""  #: in the name or the subdomain, or one of its phone number ids
    switched_on: bool | None = None
    sub_domains: frozenset[str] | None = None

    def to_query(self) -> Document:
        """Write it for the database."""
        conditions: list[Document] = []
        if self.words:
            within = {"$regex": re.escape(self.words), "$options": "i"}
            conditions.append(
                {"$or": [{"subDomain": within}, {"name": within}, {"whatsappPhoneNumberIds": self.words}]}
            )
        if self.switched_on is not None:
            conditions.append({"$and" if self.switched_on else "$nor": [SWITCHED_ON]})
        if self.sub_domains is not None:
            conditions.append({"subDomain": {"$in": sorted(self.sub_domains)}})
        return {"$and": conditions} if conditions else {}


class TenantStore:
    """Reads ``businesses``, and of ``conversations`` who was served last.

    Every method raises ``StoreUnavailable``.
    """

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        # The stream of changes decodes as the collection does that it is opened on.
        self._database = replace(database, businesses=database.businesses.with_options(codec_options=_LENIENT))
        self._businesses = self._database.businesses
        self._conversations = database.conversations
        self._slots = asyncio.Semaphore(MAX_READS)
        self._down_until: float | None = None

    async def find_by_number(self, phone_number_id: str) -> Sequence[Document]:
        """Return the documents with this number, whatever their switches."""
        return await self._find_with("whatsappPhoneNumberIds", phone_number_id)

    async def find_by_sub_domain(self, sub_domain: str) -> Sequence[Document]:
        """Return the documents with this subdomain, whatever their switches."""
        return await self._find_with("subDomain", sub_domain)

    async def find_all(self) -> Sequence[Document]:
        """Return every document, with what makes a ``Business``."""
        return await self._ask(lambda: self._businesses.find({}, _BUSINESS).to_list(None), SCAN_TIMEOUT_S)

    async def find_rows(self) -> Sequence[Document]:
        """Return every document, with what makes a ``Row``."""
        return await self._ask(lambda: self._businesses.find({}, _ROW).to_list(None), SCAN_TIMEOUT_S)

    async def find_newest(self, count: int) -> Sequence[Document]:
        """Return the newest of the switched-on businesses."""
        query = self._businesses.find(SWITCHED_ON, _BUSINESS)
        return await self._ask(lambda: query.sort("createdAt", -1).limit(count).to_list(None))

    async def find_page(self, wanted: Wanted, *, skip: int, limit: int) -> tuple[Sequence[Document], int]:
        """Return some of the documents that are wanted, by subdomain, and how many there are altogether."""
        if not wanted.words.isprintable():
            return (), 0
        query = wanted.to_query()
        found = self._businesses.find(query, _BUSINESS).sort("subDomain", 1).skip(skip).limit(limit)
        documents = await self._ask(lambda: found.to_list(None))
        return documents, await self._ask(lambda: self._businesses.count_documents(query))

    async def find_last_served(self, phone_number_id: str, business_ids: Sequence[str]) -> str | None:
        """Return which of these businesses the hub answered for last on this number; None: for none of them."""
        own = {"_id": {"$gte": f"{phone_number_id}:", "$lt": f"{phone_number_id};"}}  # ";" comes right after ":"
        query = self._conversations.find(own | {"business": {"$in": list(business_ids)}}, {"business": 1})
        found = await self._ask(lambda: query.sort("updated_at", -1).limit(1).to_list(None))
        return found[0]["business"] if found else None

    async def find_recent_numbers(self, count: int) -> list[str]:
        """Return the phone number ids of the newest conversations, each once, newest first."""
        return await self._ask(lambda: self._collect_recent_numbers(count))

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Document]]:
        """Follow changes of ``businesses``. Raises ``StoreUnavailable`` where that is not to be had, or has broken."""
        try:
            async with self._database.watch_businesses() as changes:
                yield changes
        except (DatabaseError, BSONError) as exc:
            raise _unavailable(exc) from exc

    async def _find_with(self, field: str, value: str) -> Sequence[Document]:
        if not value.isprintable():
            return ()  # nobody has it, and a lone surrogate cannot even be asked for
        return await self._ask(lambda: self._businesses.find({field: value}, _BUSINESS).to_list(None))

    async def _collect_recent_numbers(self, count: int) -> list[str]:
        numbers: dict[str, None] = {}
        cursor = self._conversations.find({}, {"_id": 1}).sort("updated_at", -1).limit(MAX_CONVERSATIONS)
        try:
            async for conversation in cursor:
                numbers[phone_number_id_of(str(conversation["_id"]))] = None
                if len(numbers) == count:
                    break
        finally:
            await cursor.close()
        return list(numbers)

    async def _ask(self, read: Callable[[], Awaitable[T]], timeout_s: float = READ_TIMEOUT_S) -> T:
        async with self._slots:
            self._refuse_while_down(timeout_s)
            try:
                # The driver's own timeout frees its thread, ours counts the time until it has one too.
                with pymongo.timeout(timeout_s):
                    async with asyncio.timeout(timeout_s):
                        found = await read()
            except (DatabaseError, BSONError, TimeoutError) as exc:
                self._down_until = time.monotonic() + PAUSE_S
                raise _unavailable(exc) from exc
            self._down_until = None
            return found

    def _refuse_while_down(self, timeout_s: float) -> None:
        if self._down_until is None:
            return
        now = time.monotonic()
        if now < self._down_until:
            raise StoreUnavailable("The database was found to be down a moment ago.")
        self._down_until = now + timeout_s  # this caller finds out; the others go on without


def _unavailable(exc: Exception) -> StoreUnavailable:
    code = getattr(exc, "code", None)
    return StoreUnavailable(
        f"The businesses cannot be read ({type(exc).__name__}{'' if code is None else f' {code}'})."
    )
