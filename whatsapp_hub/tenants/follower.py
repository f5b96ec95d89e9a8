"""Keeps the table in memory up to date: at once through a change stream, by polling where that is not to be had."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.tenants.documents import BUSINESS_FIELDS, ROW_FIELDS, Decrypt, read_row
from whatsapp_hub.tenants.store import Document, TenantStore
from whatsapp_hub.tenants.table import Problem, Table, Touched

logger = logging.getLogger("business_service")

POLL_S: Final = 30.0

_OUR_FIELDS: Final = frozenset((*BUSINESS_FIELDS, *ROW_FIELDS))


class Follower:
    """The one writer of the table. It also says what changed, so that caches can let go of it.

    Without a stream it reads the table again and again, which shows what webhooks are checked against; everything else
    of a business (its token, its assistant) is seen anew when its cache entry expires.

    Changes of other programs in other fields of a document are ignored: a dashboard that notes each log-in must not
    empty the caches.
    """

    def __init__(
        self,
        store: TenantStore,
        table: Table,
        decrypt: Decrypt,
        *,
        on_touched: Callable[[Touched], None],
        on_gap: Callable[[], None],
        ttl_s: float,
        retry_s: float,
    ) -> None:
        """Follow into ``table``.

        Args:
            store: what to read from.
            table: what to keep up to date.
            decrypt: for businesses' own secrets.
            on_touched: hears what changed, after the table has it.
            on_gap: called when changes may have been missed, because the stream was away for a while.
            ttl_s: how long the caches rely on what they have.
            retry_s: the pause after the first failure.

        """
        self._store = store
        self._table = table
        self._decrypt = decrypt
        self._on_touched = on_touched
        self._on_gap = on_gap
        self._ttl_s = ttl_s
        self._retry_s = retry_s
        self._writing = asyncio.Lock()
        self._unresolved: set[str] = set()
        self._reported: frozenset[Problem] = frozenset()
        self.loaded = False  #: the table was read at least once
        self.streaming = False  #: changes are seen at once
        self._failing = False
        self._was_refused = False

    async def refresh(self) -> None:
        """Read the whole table. Raises ``StoreUnavailable``."""
        async with self._writing:
            rows = [read_row(document, self._decrypt) for document in await self._store.find_rows()]
            touched = self._table.replace(rows)
            if self.loaded:
                self._on_touched(touched)
            self.loaded = True
            await self._resolve(touched)
        self._report()

    async def run(self) -> None:
        """Follow until cancelled."""
        pause_s = self._retry_s
        while True:
            if not await self._try_refresh() or await self._stream():
                pause_s = self._retry_s
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret, only a spread
            pause_s = min(2 * pause_s, self._ttl_s, POLL_S)

    async def _try_refresh(self) -> bool:
        try:
            await self.refresh()
        except StoreUnavailable as exc:
            if not self._failing:
                logger.warning("businesses cannot be read", extra={"reason": str(exc)})
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    async def _stream(self) -> bool:
        """Follow the stream of changes until it ends; return whether there was one at all."""
        reason = "the collection was dropped or renamed"
        try:
            async with self._store.watch() as changes:
                await self._begin_streaming()
                async for change in changes:
                    await self._apply(change)
        except StoreUnavailable as exc:
            reason = str(exc)
        was_open = self.streaming
        self.streaming = False
        if was_open or not self._was_refused:
            logger.warning("business changes are polled", extra={"poll_s": min(self._ttl_s, POLL_S), "reason": reason})
        self._was_refused = True
        return was_open

    async def _begin_streaming(self) -> None:
        if self._was_refused:
            self._on_gap()
        await self.refresh()  # what changed before the stream was open
        self.streaming = True
        logger.info("business changes are seen at once")

    async def _apply(self, change: Document) -> None:
        identity = change.get("documentKey", {}).get("_id")
        if identity is None or not _is_ours(change):
            return
        document = change.get("fullDocument")
        async with self._writing:
            if document is None:
                touched = self._table.update((), removed=[str(identity)])
            else:
                touched = self._table.update([read_row(document, self._decrypt)])
            self._on_touched(touched)
            await self._resolve(touched)
        self._report()

    async def _resolve(self, touched: Touched) -> None:
        """Ask who of several claimants was served last, for the numbers where that may have changed."""
        self._unresolved |= touched.phone_number_ids
        for number in tuple(self._unresolved):
            claimants = self._table.claimants(number)
            if len(claimants) > 1:
                try:
                    self._table.set_keeper(number, await self._store.find_last_served(number, claimants))
                except StoreUnavailable:
                    continue  # stays unresolved until the next change or poll
            self._unresolved.discard(number)

    def _report(self) -> None:
        problems = self._table.problems()
        for problem in problems - self._reported:
            logger.warning(
                "business document is faulty", extra={"business": problem.business, "reason": problem.reason}
            )
        for problem in self._reported - problems:
            logger.info("business document is mended", extra={"business": problem.business, "reason": problem.reason})
        self._reported = problems


def _is_ours(change: Mapping[str, Any]) -> bool:
    """Tell whether a change touches a field that the hub reads."""
    description = change.get("updateDescription")
    if description is None:
        return True
    paths = (
        *description.get("updatedFields", ()),
        *description.get("removedFields", ()),
        *(array["field"] for array in description.get("truncatedArrays", ())),
    )
    return any(path.partition(".")[0] in _OUR_FIELDS for path in paths)
