"""Every route there is, with the name that limits and metrics know it by."""

from __future__ import annotations

from aiohttp import web

from whatsapp_hub.http.admin import clear_cache, warm_cache
from whatsapp_hub.http.api import pause_conversation, send_message, show_description, show_message
from whatsapp_hub.http.console.routes import add_console_routes
from whatsapp_hub.http.playground import show_playground
from whatsapp_hub.http.probes import show_health, show_metrics, show_prometheus, show_readiness
from whatsapp_hub.http.webhook import handshake, receive


def add_routes(app: web.Application) -> None:
    """Register the routes of the contract."""
    for path, name in (("/whatsapp_response", "webhook"), ("/whatsapp_response/{subDomain}", "webhook.business")):
        resource = app.router.add_resource(path, name=name)
        resource.add_route("GET", handshake)
        resource.add_route("POST", receive)
    app.router.add_get("/health", show_health, name="health")
    app.router.add_get("/ready", show_readiness, name="ready")
    app.router.add_get("/metrics", show_metrics, name="metrics")
    app.router.add_get("/prometheus/metrics", show_prometheus, name="prometheus")
    app.router.add_post("/admin/cache/clear", clear_cache, name="admin.cache.clear")
    app.router.add_post("/admin/cache/warmup", warm_cache, name="admin.cache.warmup")
    app.router.add_get("/api/v1/openapi.json", show_description, name="api.description")
    app.router.add_post("/api/v1/{subDomain}/messages", send_message, name="api.messages")
    app.router.add_get("/api/v1/{subDomain}/messages/{id}", show_message, name="api.message")
    app.router.add_post("/api/v1/{subDomain}/conversations/{id}/pause", pause_conversation, name="api.pause")
    add_console_routes(app)
    app.router.add_get("/playground", show_playground, name="playground")
