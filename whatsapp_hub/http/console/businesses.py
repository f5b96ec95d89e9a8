"""The page of the businesses: how each stands, and switching it on and off."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from whatsapp_hub.errors import BusinessRefused
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import json_answer
from whatsapp_hub.http.console.activity import MOST_NUMBERS, find_activity
from whatsapp_hub.http.console.doors import NotWanted, read_object
from whatsapp_hub.http.console.standing import Circumstances, describe
from whatsapp_hub.inbox.store import unknown_on_error
from whatsapp_hub.tenants.managed import BusinessDocuments
from whatsapp_hub.tenants.store import Wanted

logger = logging.getLogger("console")

PAGE: Final = 25  #: businesses
MAX_WORDS: Final = 100  #: characters of what is looked for
WRITE_TIMEOUT_S: Final = 5.0
ACTIVITY_TIMEOUT_S: Final = 4.0

_SHOWN: Final = ("all", "attention", "on", "off")


async def list_businesses(request: web.Request) -> web.Response:
    """Answer with a page of businesses, by subdomain: ``?words=&state=&page=``, the first page is 1."""
    directory, words = request.app[keys.DIRECTORY], request.query.get("words", "").strip()[:MAX_WORDS]
    shown, page = request.query.get("state", _SHOWN[0]), _read_page(request.query.get("page", "1"))
    known = Circumstances(
        held=request.app[keys.CONSOLE].held(),
        contests=directory.contests(),
        problems=directory.problems(),
        expiries=directory.token_expiries(),
    )
    in_need = known.in_need(datetime.now(UTC)) if shown == "attention" else None
    wanted = Wanted(words=words, switched_on={"on": True, "off": False}.get(shown), sub_domains=in_need)
    found, total = await directory.find_page(wanted, skip=(page - 1) * PAGE, limit=PAGE)
    more = page + 1 if page * PAGE < total else None
    items = [describe(business, known) for business in found]
    return json_answer({"items": items, "more": more, "total": total, "page": page, "per_page": PAGE})


async def show_activity(request: web.Request) -> web.Response:
    """Answer how much there is of each phone number id: ``?number=&number=``."""
    numbers = request.query.getall("number", [])[:MOST_NUMBERS]
    async with asyncio.timeout(ACTIVITY_TIMEOUT_S):
        items = await find_activity(request.app[keys.CONSOLE].database, numbers)
    return json_answer({"items": items, "more": None, "days": request.app[keys.SETTINGS].inbox_retention_days})


async def switch_business(request: web.Request) -> web.Response:
    """Switch a business on or off, as ``business enable`` and ``disable`` do."""
    asked = await read_object(request)
    sub_domain, on = asked.get("business"), asked.get("on")
    if not isinstance(sub_domain, str) or not isinstance(on, bool):
        raise NotWanted(400, "name the business, and whether it is to be on")
    documents = BusinessDocuments(request.app[keys.CONSOLE].database)
    try:
        with unknown_on_error("switch a business", WRITE_TIMEOUT_S):
            await _switch(documents, sub_domain, on=on)
    except BusinessRefused as exc:
        raise NotWanted(409, str(exc)) from None
    logger.info("business switched", extra={"business": sub_domain, "on": on})
    return json_answer({"business": sub_domain, "switched_on": on})


async def _switch(documents: BusinessDocuments, sub_domain: str, *, on: bool) -> None:
    document = await documents.get(sub_domain)
    if on:
        if document.get("isActive") is not True:
            raise BusinessRefused(
                f"{sub_domain!r} is switched off in the dashboard (isActive)",
                f"switch it on there, or with `whatsapp-hub business enable {sub_domain} --active`",
            )
        await documents.refuse_contest(document)
    await documents.change(document, {"whatsappEnabled": on})


def _read_page(text: str) -> int:
    return min(max(1, int(text)), 10_000) if text.isascii() and text.isdecimal() and len(text) < 6 else 1
