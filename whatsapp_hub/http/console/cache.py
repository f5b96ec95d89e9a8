"""Clearing the cache of businesses from a page, at every process, as ``/admin/cache/clear`` does."""

from __future__ import annotations

from aiohttp import web

from whatsapp_hub.http.admin import forget_businesses
from whatsapp_hub.http.answers import json_answer


async def clear_cache(request: web.Request) -> web.Response:
    """Forget every business; the next message of each reads it anew."""
    return json_answer({"cleared": await forget_businesses(request.app)})
