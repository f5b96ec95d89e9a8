"""The keys under which the application and a request carry what handlers need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from whatsapp_hub.conversation.pauses import Pauses
    from whatsapp_hub.http.api import Api
    from whatsapp_hub.http.client_address import ClientAddresses
    from whatsapp_hub.http.console.console import Console
    from whatsapp_hub.http.console.stories import Stories
    from whatsapp_hub.http.webhook import Webhooks
    from whatsapp_hub.inbox.journal import Journal
    from whatsapp_hub.inbox.nodes import Nodes
    from whatsapp_hub.settings import Settings
    from whatsapp_hub.telemetry.health import Health
    from whatsapp_hub.telemetry.metrics import Metrics
    from whatsapp_hub.tenants.directory import Directory

SETTINGS: Final[web.AppKey[Settings]] = web.AppKey("settings")
METRICS: Final[web.AppKey[Metrics]] = web.AppKey("metrics")
HEALTH: Final[web.AppKey[Health]] = web.AppKey("health")
NODES: Final[web.AppKey[Nodes]] = web.AppKey("nodes")  # tells the other processes
DIRECTORY: Final[web.AppKey[Directory]] = web.AppKey("directory")
JOURNAL: Final[web.AppKey[Journal]] = web.AppKey("journal")
WEBHOOKS: Final[web.AppKey[Webhooks]] = web.AppKey("webhooks")
API: Final[web.AppKey[Api]] = web.AppKey("api")
CLIENT_ADDRESSES: Final[web.AppKey[ClientAddresses]] = web.AppKey("client_addresses")
PAUSES: Final[web.AppKey[Pauses]] = web.AppKey("pauses")
PLAYGROUND: Final[web.AppKey[str | None]] = web.AppKey("playground")  #: where it is, in the demo only

#: Set by the limits where an address earned a smaller body than everybody's; the webhook reads no more than that.
MAX_BODY_BYTES: Final[web.RequestKey[int]] = web.RequestKey("max_body_bytes")
CONSOLE: Final[web.AppKey[Console]] = web.AppKey("console")
STORIES: Final[web.AppKey[Stories]] = web.AppKey("stories")
