"""The dead letters on the console: listed, counted, retried, discarded; what ``whatsapp-hub dead`` does."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import json_answer
from whatsapp_hub.http.console import views
from whatsapp_hub.http.console.doors import NotWanted, read_object
from whatsapp_hub.http.console.stories import Stories, read_ids, read_moment
from whatsapp_hub.inbox.dead import DeadLetters, Which

logger = logging.getLogger("console")

MOST_LISTED: Final = 100
MOST_AT_ONCE: Final = 200  #: are retried or discarded by one request; a page asks again for the rest
MAX_REASON_LENGTH: Final = 1_000

_HOUR: Final = timedelta(hours=1)
#: How long ago they died: from, until.
_AGES: Final[Mapping[str, tuple[timedelta | None, timedelta | None]]] = {
    "": (None, None),
    "hour": (_HOUR, None),
    "day": (24 * _HOUR, None),
    "week": (7 * 24 * _HOUR, None),
    "older": (None, 7 * 24 * _HOUR),
}

Action = Callable[[DeadLetters, str], Awaitable[bool]]


async def list_letters(request: web.Request) -> web.Response:
    """Answer with the newest dead letters that are wanted."""
    stories = request.app[keys.STORIES]
    numbers, which = await _read_filter(stories, request.query, before=read_moment(request.query.get("before")))
    letters = await stories.letters.find(phone_number_ids=numbers, which=which, most=MOST_LISTED)
    more = views.told(letters[-1].died_at) if len(letters) == MOST_LISTED else None
    return json_answer({"items": [views.letter_view(one, stories.names) for one in letters], "more": more})


async def list_reasons(request: web.Request) -> web.Response:
    """Answer with how many died of what."""
    stories = request.app[keys.STORIES]
    numbers, which = await _read_filter(stories, request.query)
    counts = await stories.letters.count_reasons(phone_number_ids=numbers, which=which)
    return json_answer({"items": [{"reason": reason, "count": count} for reason, count in counts], "more": None})


async def retry_letters(request: web.Request) -> web.Response:
    """Put dead letters back into their conversations."""
    return await _apply(request, DeadLetters.retry, "dead letters retried")


async def discard_letters(request: web.Request) -> web.Response:
    """Put dead letters away for good."""
    return await _apply(request, DeadLetters.discard, "dead letters discarded")


async def _apply(request: web.Request, action: Action, done: str) -> web.Response:
    """Do something to the letters that are named, or to the oldest of those that a filter finds.

    The oldest go first, so that those of one conversation keep their order. Where the database is lost on the way the
    rest stays what it is, and can be asked for again.
    """
    stories = request.app[keys.STORIES]
    wanted = await read_object(request)
    ids = await _find_ids(stories, wanted) if wanted.get("all") is True else read_ids(wanted, most=MOST_AT_ONCE)
    applied: list[str] = []
    gone: list[str] = []
    try:
        for letter_id in ids:
            (applied if await action(stories.letters, letter_id) else gone).append(letter_id)
    except StoreUnavailable:
        if not applied:
            raise
    finally:
        if applied:
            address = request.app[keys.CLIENT_ADDRESSES].key_of(request)
            logger.info(done, extra={"address": address, "count": len(applied), "message_ids": applied})
    more = len(applied) + len(gone) < len(ids) or (wanted.get("all") is True and len(ids) == MOST_AT_ONCE)
    return json_answer({"done": applied, "gone": gone, "more": more})


async def _find_ids(stories: Stories, wanted: Mapping[str, Any]) -> list[str]:
    """Return what a filter finds of what had died when the operator looked: what dies again meanwhile is left alone."""
    before = wanted.get("before")
    moment = read_moment(before) if isinstance(before, str) else None
    if moment is None:
        raise NotWanted(400, "the page did not say when it looked; reload it")
    texts = {name: value for name, value in wanted.items() if isinstance(value, str)}
    numbers, which = await _read_filter(stories, texts, before=moment)
    found = await stories.letters.find(phone_number_ids=numbers, which=which, most=MOST_AT_ONCE, oldest_first=True)
    return [letter.id for letter in found]


async def _read_filter(
    stories: Stories, wanted: Mapping[str, str], *, before: datetime | None = None
) -> tuple[tuple[str, ...] | None, Which]:
    """Read which letters are wanted. Raises ``NotWanted``."""
    reason, age = wanted.get("reason", ""), wanted.get("age", "")
    if age not in _AGES or len(reason) > MAX_REASON_LENGTH:
        raise NotWanted(400, "there is no such filter; reload the page")
    now = datetime.now(UTC)
    since, until = (now - one if one is not None else None for one in _AGES[age])
    limits = [moment for moment in (before, until) if moment is not None]
    which = Which(reason=reason or None, since=since, before=min(limits, default=None))
    return await stories.numbers_of(wanted.get("business", "")), which
