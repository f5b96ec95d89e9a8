"""Every route of the console."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from whatsapp_hub.http.console.businesses import list_businesses, show_activity, switch_business
from whatsapp_hub.http.console.cache import clear_cache
from whatsapp_hub.http.console.doors import LOGIN, for_operators, for_operators_scripts
from whatsapp_hub.http.console.files import STATIC, show_file
from whatsapp_hub.http.console.overview import show_overview, stream_overview
from whatsapp_hub.http.console.pages import PAGES, log_in, log_out, show_frame, show_login

#: What the pages' scripts ask for: method, path below ``/console/api/``, handler.
API: Final = (
    ("GET", "overview", show_overview),
    ("GET", "overview/stream", stream_overview),
    ("GET", "businesses", list_businesses),
    ("GET", "businesses/activity", show_activity),
    ("POST", "businesses/switch", switch_business),
    ("POST", "cache/clear", clear_cache),
)


def add_console_routes(app: web.Application) -> None:
    """Register the pages, what they are made of, and what their scripts ask for."""
    for path in PAGES:
        app.router.add_get(path, for_operators(show_frame), name=path.strip("/").replace("/", "."))
    app.router.add_get(STATIC + "{name:.+}", show_file, name="console.static")
    login = app.router.add_resource(LOGIN, name="console.login")
    login.add_route("GET", show_login)
    login.add_route("POST", log_in)
    app.router.add_post("/console/logout", log_out, name="console.logout")
    for method, path, handler in API:
        name = f"console.api.{path.replace('/', '.')}"
        app.router.add_route(method, f"/console/api/{path}", for_operators_scripts(handler), name=name)
