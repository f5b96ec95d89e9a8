"""``GET /playground``: the way to the demo's page, which lives outside of the hub so that it survives it."""

from __future__ import annotations

from aiohttp import web

from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import error_answer


async def show_playground(request: web.Request) -> web.Response:
    """Lead to the page, in the demo only."""
    page = request.app[keys.PLAYGROUND]
    if page is None:
        return error_answer(404, "the playground is a part of the demo: whatsapp-hub demo")
    return web.Response(status=302, headers={"Location": page})
