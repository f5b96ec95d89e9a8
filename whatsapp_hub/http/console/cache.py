"""Clearing the cache of businesses from a page, at every process, as ``/admin/cache/clear`` does."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from whatsapp_hub.http import keys
from whatsapp_hub.http.admin import DATABASE_TIMEOUT_S
from whatsapp_hub.http.answers import json_answer

logger = logging.getLogger("console")


async def clear_cache(request: web.Request) -> web.Response:
    """Forget every business; the next message of each reads it anew."""
    count = request.app[keys.DIRECTORY].cache_info().size  # before: our own node may hear of it first
    async with asyncio.timeout(DATABASE_TIMEOUT_S):
        await request.app[keys.NODES].raise_cache_epoch(warm=False)
    request.app[keys.DIRECTORY].clear()
    logger.info("cache cleared", extra={"count": count})
    return json_answer({"cleared": count})
