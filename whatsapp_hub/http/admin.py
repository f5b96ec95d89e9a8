"""What the operator can do over HTTP: clear and warm the cache of businesses."""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Final

from aiohttp import hdrs, web
from pydantic import SecretStr

from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.http.answers import error_answer, json_answer
from whatsapp_hub.http.keys import CLIENT_ADDRESSES, DIRECTORY, NODES, SETTINGS

logger = logging.getLogger("hub")

DATABASE_TIMEOUT_S: Final = 2.0

_BEARER: Final = "bearer "
_CHALLENGE: Final = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="whatsapp-hub"'}
_RETRY_AFTER: Final = {hdrs.RETRY_AFTER: "5"}


def is_operator(request: web.BaseRequest, token: SecretStr | None) -> bool:
    """Tell whether the request carries the admin token. Takes the same time for every wrong one."""
    given = request.headers.get(hdrs.AUTHORIZATION, "")
    if token is None or given[: len(_BEARER)].lower() != _BEARER:
        return False
    expected = token.get_secret_value().encode()
    return hmac.compare_digest(given[len(_BEARER) :].strip().encode("utf-8", "surrogateescape"), expected)


async def clear_cache(request: web.Request) -> web.Response:
    """Forget every business, here and on every other node; the next message of each reads it anew."""
    if (refusal := _refuse_stranger(request)) is not None:
        return refusal
    try:
        count = await forget_businesses(request.app)
    except (StoreUnavailable, TimeoutError):
        # What is cached is all that the hub knows of its businesses now.
        return error_answer(503, "not cleared: the database did not answer", headers=_RETRY_AFTER)
    return json_answer({"status": "success", "message": "Cache cleared", "cleared": count})


async def warm_cache(request: web.Request) -> web.Response:
    """Read the businesses that wrote last into the cache, here and on every other node."""
    if (refusal := _refuse_stranger(request)) is not None:
        return refusal
    try:
        await _tell_nodes(request.app, warm=True)
    except (StoreUnavailable, TimeoutError):
        return error_answer(503, "not warmed: the database did not answer", headers=_RETRY_AFTER)
    count = await request.app[DIRECTORY].warm_up()
    logger.info("cache warmed", extra={"count": count})
    return json_answer({"status": "success", "message": "Cache warmed", "warmed": count})


async def forget_businesses(app: web.Application) -> int:
    """Forget every cached business, here and on every other node; return how many this one knew.

    Raises:
        StoreUnavailable, TimeoutError: the database did not answer, and nothing is forgotten.

    """
    count = app[DIRECTORY].cache_info().size  # before: our own node may hear of it first
    await _tell_nodes(app, warm=False)
    app[DIRECTORY].clear()
    logger.info("cache cleared", extra={"count": count})
    return count


async def _tell_nodes(app: web.Application, *, warm: bool) -> None:
    async with asyncio.timeout(DATABASE_TIMEOUT_S):
        await app[NODES].raise_cache_epoch(warm=warm)


def _refuse_stranger(request: web.Request) -> web.Response | None:
    token = request.app[SETTINGS].admin_token
    if token is None:
        return error_answer(403, "closed; set ADMIN_TOKEN to open it")
    if is_operator(request, token):
        return None
    address = request.app[CLIENT_ADDRESSES].key_of(request)
    logger.warning("admin request without the right token", extra={"address": address})
    return error_answer(401, "give the admin token as Authorization: Bearer ...", headers=_CHALLENGE)
