"""Every route of the console."""

from __future__ import annotations

from aiohttp import web

from whatsapp_hub.http.console.doors import LOGIN, for_operators
from whatsapp_hub.http.console.files import STATIC, show_file
from whatsapp_hub.http.console.pages import PAGES, log_in, log_out, show_frame, show_login


def add_console_routes(app: web.Application) -> None:
    """Register the pages, what they are made of, and what their scripts ask for."""
    for path in PAGES:
        app.router.add_get(path, for_operators(show_frame), name=path.strip("/").replace("/", "."))
    app.router.add_get(STATIC + "{name:.+}", show_file, name="console.static")
    login = app.router.add_resource(LOGIN, name="console.login")
    login.add_route("GET", show_login)
    login.add_route("POST", log_in)
    app.router.add_post("/console/logout", log_out, name="console.logout")
