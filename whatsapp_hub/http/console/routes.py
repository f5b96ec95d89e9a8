"""Every route of the console."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from whatsapp_hub.http.console import dead_letters, stories
from whatsapp_hub.http.console.businesses import list_businesses, show_activity, switch_business
from whatsapp_hub.http.console.cache import clear_cache
from whatsapp_hub.http.console.doors import LOGIN, for_operators, for_operators_scripts
from whatsapp_hub.http.console.files import STATIC, show_file
from whatsapp_hub.http.console.overview import show_overview, stream_overview
from whatsapp_hub.http.console.pages import DEEP_PAGES, PAGES, log_in, log_out, show_frame, show_login

#: What the pages' scripts ask for: method, path below ``/console/api/``, handler.
API: Final = (
    ("GET", "overview", show_overview),
    ("GET", "overview/stream", stream_overview),
    ("GET", "businesses", list_businesses),
    ("GET", "businesses/activity", show_activity),
    ("POST", "businesses/switch", switch_business),
    ("POST", "cache/clear", clear_cache),
    ("GET", "businesses/names", stories.list_names),
    ("GET", "conversations", stories.list_conversations),
    ("GET", "conversations/{reference}", stories.show_conversation),
    ("POST", "conversations/{reference}/words", stories.tell_conversation_words),
    ("POST", "conversations/{reference}/customer", stories.tell_customer),
    ("GET", "messages/{id}", stories.show_message),
    ("POST", "messages/{id}/words", stories.tell_words),
    ("POST", "search", stories.search),
    ("GET", "dead-letters", dead_letters.list_letters),
    ("GET", "dead-letters/reasons", dead_letters.list_reasons),
    ("POST", "dead-letters/retry", dead_letters.retry_letters),
    ("POST", "dead-letters/discard", dead_letters.discard_letters),
)

#: A path made into the name of a route.
_NAMED: Final = str.maketrans({"/": ".", "{": None, "}": None})


def add_console_routes(app: web.Application) -> None:
    """Register the pages, what they are made of, and what their scripts ask for."""
    for path in PAGES:
        app.router.add_get(path, for_operators(show_frame), name=path.strip("/").replace("/", "."))
    for path, name in DEEP_PAGES.items():
        app.router.add_get(path, for_operators(show_frame), name=name)
    app.router.add_get(STATIC + "{name:.+}", show_file, name="console.static")
    login = app.router.add_resource(LOGIN, name="console.login")
    login.add_route("GET", show_login)
    login.add_route("POST", log_in)
    app.router.add_post("/console/logout", log_out, name="console.logout")
    for method, path, handler in API:
        name = f"console.api.{path}".translate(_NAMED)
        app.router.add_route(method, f"/console/api/{path}", for_operators_scripts(handler), name=name)
