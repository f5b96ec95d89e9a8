"""The application: the one place where everything is put together.

Each resource is a context that opens in order and closes in reverse. When the process stops, aiohttp first closes its
sockets and lets the handlers end, then the contexts close: turns are drained and handed back while the node is still
alive, then the HTTP sessions close, and the database last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from random import Random
from typing import Final

from aiohttp import web
from yarl import URL

from whatsapp_hub.app_turns import Resources, make_pacer, make_slowdowns, make_turns
from whatsapp_hub.assistants.guard import GuardingResolver
from whatsapp_hub.assistants.registry import Assistants, open_assistants
from whatsapp_hub.cloud_api.client import GraphClient, open_session
from whatsapp_hub.cloud_api.media import MediaClient, open_media_session
from whatsapp_hub.conversation.dispatcher import Dispatcher
from whatsapp_hub.conversation.history import History
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.conversation.pauses import Pauses
from whatsapp_hub.conversation.typing_indicator import TypingIndicator
from whatsapp_hub.database import Database, DatabaseError, connect
from whatsapp_hub.http import keys
from whatsapp_hub.http.api import Api
from whatsapp_hub.http.body import MAX_BODY_BYTES
from whatsapp_hub.http.client_address import ClientAddresses
from whatsapp_hub.http.console.console import Console
from whatsapp_hub.http.console.stories import make_stories
from whatsapp_hub.http.limits import Limits
from whatsapp_hub.http.routes import add_routes
from whatsapp_hub.http.webhook import Webhooks
from whatsapp_hub.inbox.alert_claims import AlertClaims
from whatsapp_hub.inbox.census import Census
from whatsapp_hub.inbox.indexes import ensure_inbox_indexes
from whatsapp_hub.inbox.journal import Journal
from whatsapp_hub.inbox.nodes import Nodes
from whatsapp_hub.inbox.outbox import Outbox
from whatsapp_hub.inbox.outcomes import Outcomes
from whatsapp_hub.inbox.pending_limits import PendingLimit, PendingLimits
from whatsapp_hub.inbox.recovery import Recovery
from whatsapp_hub.inbox.store import InboxStore
from whatsapp_hub.settings import Settings
from whatsapp_hub.supervision import SideTasks
from whatsapp_hub.telemetry.alert_sender import AlertSender, DatabaseLook, Look, open_alert_session
from whatsapp_hub.telemetry.alerts import AlertBook, token_alerts
from whatsapp_hub.telemetry.health import Health
from whatsapp_hub.telemetry.late_failures import LateFailures
from whatsapp_hub.telemetry.logs import find_secrets
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.telemetry.redaction import Redactor
from whatsapp_hub.tenants.business import WebhookKeys
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.indexes import ensure_indexes
from whatsapp_hub.tenants.vault import Vault

logger = logging.getLogger("hub")

_DATABASE: Final = web.AppKey("database", Database)
_SIDE_TASKS: Final = web.AppKey("side_tasks", SideTasks)
_ASSISTANTS: Final = web.AppKey("assistants", Assistants)
_GRAPH: Final = web.AppKey("graph", GraphClient)
_MEDIA: Final = web.AppKey("media", MediaClient)
_ALERTS: Final = web.AppKey("alerts", AlertBook)
_LOOKS: Final = web.AppKey("looks", list[Look])
_HOLDS: Final = web.AppKey("holds", Holds)
_CENSUS: Final = web.AppKey("census", Census)

LAST_ALERTS_S: Final = 2.0  # a stop waits no longer for whoever is told


def create_app(settings: Settings, *, playground: str | None = None) -> web.Application:
    """Build the application. Nothing is opened before it starts. ``playground`` is where the demo has its page."""
    metrics = Metrics(max_businesses=settings.business_cache_size)
    addresses = ClientAddresses(settings.trusted_proxies)

    def webhook_keys(sub_domain: str | None) -> WebhookKeys | None:
        return app[keys.DIRECTORY].webhook_keys(sub_domain)

    per_address = Limits(settings, metrics, addresses, webhook_keys)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[per_address.middleware])
    app[keys.SETTINGS] = settings
    app[keys.PLAYGROUND] = playground
    app[keys.METRICS] = metrics
    app[keys.HEALTH] = Health(metrics)
    app[keys.CLIENT_ADDRESSES] = addresses
    app[_SIDE_TASKS] = SideTasks()
    app[_ALERTS], app[_LOOKS] = AlertBook(), []
    add_routes(app)
    app.on_shutdown.append(_stop_being_ready)

    async def limits_context(_: web.Application) -> AsyncIterator[None]:
        yield
        await per_address.close()

    app.cleanup_ctx.extend(
        [
            limits_context,
            _database_context,
            _directory_context,
            _http_context,
            _media_context,
            _alerts_context,
            _conversation_context,
            _console_context,
        ]
    )
    return app


def has_failed(app: web.Application) -> bool:
    """Whether the application stopped because something in it died."""
    return app[_SIDE_TASKS].failed


async def _stop_being_ready(app: web.Application) -> None:
    app[keys.HEALTH].stop()
    if keys.CONSOLE in app:
        app[keys.CONSOLE].streams.end_all()


async def _database_context(app: web.Application) -> AsyncIterator[None]:
    settings = app[keys.SETTINGS]
    assert settings.mongodb_uri is not None  # noqa: S101 - checked before an application is built
    assert settings.mongodb_db_name is not None  # noqa: S101
    async with connect(
        settings.mongodb_uri.get_secret_value(),
        settings.mongodb_db_name,
        max_pool_size=settings.mongodb_max_pool_size,
        min_pool_size=settings.mongodb_min_pool_size,
    ) as database:
        app[_DATABASE] = database
        yield


async def _directory_context(app: web.Application) -> AsyncIterator[None]:
    settings = app[keys.SETTINGS]
    assert settings.encryption_secret is not None  # noqa: S101 - checked before an application is built
    vault = Vault(
        settings.encryption_secret.get_secret_value(),
        [secret.get_secret_value() for secret in settings.encryption_secrets_old],
    )
    app[keys.DIRECTORY] = Directory(app[_DATABASE], vault, settings, app[keys.METRICS])
    app[keys.NODES] = Nodes(app[_DATABASE], settings.timing)
    tasks = app[_SIDE_TASKS]
    tasks.start("loop watch", app[keys.HEALTH].watch_loop())
    tasks.start("business changes", app[keys.DIRECTORY].run())
    yield
    await tasks.stop()


async def _http_context(app: web.Application) -> AsyncIterator[None]:
    settings, metrics = app[keys.SETTINGS], app[keys.METRICS]
    most = settings.graph_max_connections
    async with open_session(max_connections=most) as session, open_assistants(settings, metrics) as assistants:
        app[_GRAPH] = GraphClient(
            session,
            base_url=settings.graph_api_base_url,
            version=settings.graph_api_version,
            metrics=metrics,
            max_connections=most,
        )
        app[_ASSISTANTS] = assistants
        yield


async def _media_context(app: web.Application) -> AsyncIterator[None]:
    """What customers send along has a session of its own, which reaches public addresses only."""
    settings = app[keys.SETTINGS]
    resolver = GuardingResolver((), free_host=URL(settings.graph_api_base_url).host)
    async with open_media_session(resolver) as session:
        app[_MEDIA] = MediaClient(
            session,
            base_url=settings.graph_api_base_url,
            version=settings.graph_api_version,
            metrics=app[keys.METRICS],
            max_bytes=settings.media_max_bytes,
            retry_base_s=settings.timing.media_retry_base_s,
            rng=Random(),  # noqa: S311 - jitter
        )
        yield
    await resolver.close()


async def _alerts_context(app: web.Application) -> AsyncIterator[None]:
    """Tell operators, if they want that; what turns did while they were drained is told last."""
    url = app[keys.SETTINGS].alert_webhook_url
    if url is None:
        yield
        return
    directory, tasks, looks, timing = app[keys.DIRECTORY], app[_SIDE_TASKS], app[_LOOKS], app[keys.SETTINGS].timing
    looks.append(DatabaseLook(app[keys.HEALTH], after_s=timing.alert_outage_s))
    looks.append(lambda: token_alerts(directory.token_expiries(), datetime.now(UTC)))
    async with open_alert_session() as session:
        sender = AlertSender(
            session,
            url.get_secret_value(),
            book=app[_ALERTS],
            looks=looks,
            claims=AlertClaims(app[_DATABASE]),
            redactor=Redactor(find_secrets(app[keys.SETTINGS])),
            metrics=app[keys.METRICS],
            instance=lambda: app[keys.NODES].id,
            every_s=timing.alert_look_s,
        )
        tasks.start("alerts", sender.run())
        yield
        await tasks.stop("alerts")
        with suppress(TimeoutError, DatabaseError):
            async with asyncio.timeout(LAST_ALERTS_S):
                if census := app.get(_CENSUS):
                    await census.take()
                await sender.tell_due()


async def _conversation_context(app: web.Application) -> AsyncIterator[None]:
    async with _conversations(app) as journal:
        settings = app[keys.SETTINGS]
        app[keys.JOURNAL] = journal
        app[keys.API] = Api(
            app[keys.DIRECTORY],
            Outbox(app[_DATABASE], journal),
            app[keys.PAUSES],
            body_timeout_s=settings.timing.body_timeout_s,
        )
        app[keys.WEBHOOKS] = Webhooks(
            app[keys.DIRECTORY],
            journal,
            app[keys.METRICS],
            allow_unsigned=settings.allow_unsigned_webhooks,
            body_timeout_s=settings.timing.body_timeout_s,
        )
        yield


async def _console_context(app: web.Application) -> AsyncIterator[None]:
    holds, tasks = app[_HOLDS], app[_SIDE_TASKS]
    console = app[keys.CONSOLE] = Console(
        database=app[_DATABASE],
        directory=app[keys.DIRECTORY],
        nodes=app[keys.NODES],
        health=app[keys.HEALTH],
        metrics=app[keys.METRICS],
        holds=holds.all,
    )
    settings = app[keys.SETTINGS]
    if settings.admin_token is None:
        yield
        return
    app[keys.STORIES] = make_stories(app[_DATABASE], settings, app[keys.DIRECTORY].sub_domain_of)
    app[keys.NODES].report = console.report
    tasks.start("recent figures", console.recent.run())
    yield
    await tasks.stop("recent figures")


@asynccontextmanager
async def _conversations(app: web.Application) -> AsyncIterator[Journal]:
    settings, metrics, database, tasks = app[keys.SETTINGS], app[keys.METRICS], app[_DATABASE], app[_SIDE_TASKS]
    timing, directory, nodes = settings.timing, app[keys.DIRECTORY], app[keys.NODES]
    store = InboxStore(database, on_late_failure=LateFailures(metrics, directory.sub_domain_of))
    resources = _resources(app, store)
    holds, outcomes, history = resources.holds, resources.outcomes, resources.history
    dispatcher = Dispatcher(
        own_id=lambda: nodes.id,
        turns=make_turns(resources),
        outcomes=outcomes,
        metrics=metrics,
        loop_is_late=lambda: app[keys.HEALTH].loop_is_late,
        timing=timing,
        business_pacer=make_pacer(settings.rate_limit_business),
        customer_pacer=make_pacer(settings.rate_limit_customer) if settings.rate_limit_customer else None,
    )
    recovery = _recovery(app, dispatcher)
    holds.on_release = dispatcher.release
    directory.on_change.append(lambda number: tasks.start_passing(holds.recheck(number)))
    tasks.start("rounds", recovery.run())
    tasks.start("holds", holds.run())
    tasks.start("pending limits", _pending_limits(app, dispatcher).run(timing.pending_look_s))
    journal = _journal(app, store, dispatcher, recovery)
    try:
        yield journal
    finally:
        await journal.flush()
        await dispatcher.drain(settings.drain_timeout_s)
        await resources.typing.close()
        await outcomes.flush()
        await history.flush()
        await tasks.stop("rounds")  # not earlier: a node that drains is alive
        await recovery.hand_back()


def _resources(app: web.Application, store: InboxStore) -> Resources:
    settings, metrics, database = app[keys.SETTINGS], app[keys.METRICS], app[_DATABASE]
    interval_s = settings.timing.batch_interval_s
    slowdowns = make_slowdowns(settings, metrics)
    return Resources(
        settings=settings,
        database=database,
        graph=app[_GRAPH],
        media=app[_MEDIA],
        assistants=app[_ASSISTANTS],
        nodes=app[keys.NODES],
        health=app[keys.HEALTH],
        metrics=metrics,
        outcomes=Outcomes(store, batch_interval_s=interval_s),
        history=History(database, keep_turns=settings.history_turns, batch_interval_s=interval_s),
        holds=_holds(app),
        typing=TypingIndicator(app[_GRAPH], enabled=settings.typing_indicator, slowdowns=slowdowns),
        slowdowns=slowdowns,
    )


def _journal(app: web.Application, store: InboxStore, dispatcher: Dispatcher, recovery: Recovery) -> Journal:
    settings = app[keys.SETTINGS]
    ack_timeout_s = settings.timing.ack_timeout_s
    pauses = Pauses(app[_DATABASE], keep_turns=settings.history_turns, ack_timeout_s=ack_timeout_s)
    app[keys.PAUSES] = pauses
    return Journal(
        store,
        dispatcher,
        app[keys.METRICS],
        is_open=lambda: recovery.joined,
        ack_timeout_s=ack_timeout_s,
        note=pauses.note,
    )


def _holds(app: web.Application) -> Holds:
    assistants = app[_ASSISTANTS]
    holds = app[_HOLDS] = Holds(
        app[keys.DIRECTORY],
        app[keys.METRICS],
        assistant_fault=assistants.find_fault,
        says_nothing=assistants.says_nothing,
        recheck_s=app[keys.SETTINGS].timing.held_recheck_s,
    )
    app[_LOOKS].append(holds.alerts)
    return holds


def _pending_limits(app: web.Application, dispatcher: Dispatcher) -> PendingLimits:
    directory = app[keys.DIRECTORY]
    return PendingLimits(
        app[_DATABASE],
        limits=lambda: [
            PendingLimit(sub_domain=name, phone_number_ids=numbers, most=most)
            for name, numbers, most in directory.pending_limits()
        ],
        own_id=lambda: app[keys.NODES].id,
        drop=dispatcher.drop,
    )


def _recovery(app: web.Application, dispatcher: Dispatcher) -> Recovery:
    settings, directory = app[keys.SETTINGS], app[keys.DIRECTORY]
    census = app[_CENSUS] = Census(app[_DATABASE], app[keys.METRICS], directory, on_dead=app[_ALERTS].note_dead_letter)

    async def prepare() -> None:
        await ensure_inbox_indexes(
            app[_DATABASE],
            done_days=settings.inbox_retention_days,
            dead_days=settings.dead_retention_days,
            conversation_days=settings.conversation_retention_days,
        )
        for remark in await ensure_indexes(app[_DATABASE]):
            logger.warning("index of businesses", extra={"remark": remark})
        if settings.warmup_cache:
            await directory.warm_up()
        app[_SIDE_TASKS].start("census", census.run())  # it counts by the indexes

    return Recovery(
        app[_DATABASE],
        nodes=app[keys.NODES],
        worker=dispatcher,
        health=app[keys.HEALTH],
        timing=settings.timing,
        prepare=prepare,
        clear_cache=directory.clear,
        warm_cache=lambda: app[_SIDE_TASKS].start_passing(directory.warm_up()),
    )
