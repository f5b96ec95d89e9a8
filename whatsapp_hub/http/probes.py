"""What watches the hub from outside: liveness, readiness, and the metrics in two forms."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import hdrs, web
from prometheus_client import Gauge

from whatsapp_hub.http.answers import NO_SNIFFING, error_answer, json_answer
from whatsapp_hub.http.client_address import is_within
from whatsapp_hub.http.keys import CLIENT_ADDRESSES, DIRECTORY, HEALTH, METRICS, SETTINGS
from whatsapp_hub.telemetry.metrics import Metrics

SERVICE: Final = "whatsapp-webhook"  # the guide's name
TEXT_TYPES: Final = frozenset({"text/plain", "application/openmetrics-text"})


async def show_health(request: web.Request) -> web.Response:
    """Answer whether the process works: what a restart could mend, so not the database."""
    health = request.app[HEALTH]
    body = {
        "status": "healthy" if health.alive else "unhealthy",
        "timestamp": time.time(),
        "database": "healthy" if health.database_ok else "unhealthy",
        "service": SERVICE,
    }
    return json_answer(body, status=200 if health.alive else 503)


async def show_readiness(request: web.Request) -> web.Response:
    """Answer whether webhooks can be stored now and, if not, why."""
    reasons = request.app[HEALTH].reasons()
    if reasons:
        return json_answer({"ready": False, "timestamp": time.time(), "reasons": reasons}, status=503)
    return json_answer({"ready": True, "timestamp": time.time()})


async def show_metrics(request: web.Request) -> web.Response:
    """Answer with the guide's JSON or, to who asks for it, with Prometheus's text."""
    if not _is_allowed(request):
        return _refuse()
    if asks_for_text(request):
        return await _render(request.app[METRICS], _accepted(request))
    return json_answer(_describe(request.app))


async def show_prometheus(request: web.Request) -> web.Response:
    """Answer with Prometheus's text, whatever was asked for."""
    return await _render(request.app[METRICS]) if _is_allowed(request) else _refuse()


def asks_for_text(request: web.BaseRequest) -> bool:
    """Tell whether ``Accept`` names Prometheus's text or OpenMetrics, and JSON less or not at all."""
    text = json = 0.0
    for media_range in _accepted(request).split(","):
        name, *parameters = (piece.strip().lower() for piece in media_range.split(";"))
        if name in TEXT_TYPES:
            text = max(text, _read_quality(parameters))
        elif name == "application/json":
            json = _read_quality(parameters)
    return text > json


def _accepted(request: web.BaseRequest) -> str:
    return ",".join(request.headers.getall(hdrs.ACCEPT, ()))


def _read_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _is_allowed(request: web.Request) -> bool:
    return is_within(request.app[CLIENT_ADDRESSES].of(request), request.app[SETTINGS].metrics_allow)


def _refuse() -> web.Response:
    return error_answer(403, "your address is not in METRICS_ALLOW")


async def _render(metrics: Metrics, accept: str = "") -> web.Response:
    # With a thousand businesses this takes tens of milliseconds, which webhooks would wait for.
    body, content_type = await asyncio.to_thread(metrics.render, accept)
    return web.Response(
        body=body, headers={hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store", **NO_SNIFFING}
    )


def _describe(app: web.Application) -> dict[str, object]:
    settings, metrics, cache = app[SETTINGS], app[METRICS], app[DIRECTORY].cache_info()
    asked = cache.hits + cache.misses
    return {
        "cache": {
            "size": cache.size,
            "max_size": cache.max_size,
            "ttl_seconds": cache.ttl_s,
            "hits": cache.hits,
            "misses": cache.misses,
            "hit_rate": round(cache.hits / asked, 4) if asked else 0.0,
        },
        "connection_pool": {
            "max_pool_size": settings.mongodb_max_pool_size,
            "min_pool_size": settings.mongodb_min_pool_size,
        },
        "inbox": {
            "pending_messages": int(_total(metrics.pending_messages)),
            "oldest_pending_seconds": _total(metrics.oldest_pending),
            "dead_letters": int(_total(metrics.dead_letters)),
        },
        "timestamp": time.time(),
    }


def _total(gauge: Gauge) -> float:
    return sum(sample.value for family in gauge.collect() for sample in family.samples)
