"""The webhook: what Meta calls. A POST is answered 200 only after everything in it is durable."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
import uuid
from typing import Final, Protocol

from aiohttp import web

from whatsapp_hub.cloud_api.messages import OtherItem, Webhook
from whatsapp_hub.cloud_api.payload import Item, read_webhook
from whatsapp_hub.cloud_api.signature import verify
from whatsapp_hub.errors import PayloadInvalid, StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.body import CLIENT_GONE, BodyReader, Refused
from whatsapp_hub.http.refusals import RefusalLog
from whatsapp_hub.telemetry.metrics import OTHER, SEVERAL, UNVERIFIED, Metrics
from whatsapp_hub.tenants.business import WebhookKeys

logger = logging.getLogger("webhook")

SIGNATURE_HEADER: Final = "X-Hub-Signature-256"


class Tenants(Protocol):
    """What the webhook has to know about businesses, all of it in memory."""

    @property
    def loaded(self) -> bool:
        """Whether an unknown subdomain is really one."""
        ...

    def webhook_keys(self, sub_domain: str | None) -> WebhookKeys | None:
        """Return what counts on a path; None for an unknown subdomain."""
        ...

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        """Return the subdomain of the business that has this number."""
        ...


class Journal(Protocol):
    """Who makes webhooks durable."""

    async def accept(self, webhook: Webhook) -> None:
        """Return when everything is durable. Raises ``StoreUnavailable``."""
        ...


async def handshake(request: web.Request) -> web.Response:
    """Answer Meta's question whether this is the address that it was told: with the bare challenge, or 403."""
    webhooks, query = request.app[keys.WEBHOOKS], request.query
    challenge = query.get("hub.challenge")
    if challenge is None or query.get("hub.mode") != "subscribe" or not webhooks.knows_token(request):
        return webhooks.refuse(Refused(403, "the verify token does not match"))
    return web.Response(
        body=challenge.encode(errors="replace"),
        content_type="text/plain",
        headers={"X-Content-Type-Options": "nosniff"},
    )


async def receive(request: web.Request) -> web.Response:
    """Take a webhook in, and answer 200 once everything in it is durable."""
    started = time.perf_counter()
    webhooks = request.app[keys.WEBHOOKS]
    status, business = 500, UNVERIFIED
    try:
        business = await webhooks.take_in(request)
        response = web.Response()
        status = response.status
    except Refused as refused:
        status, business = refused.status, refused.business
        response = webhooks.refuse(refused)
    finally:
        webhooks.count(business, status, time.perf_counter() - started)
    return response


class Webhooks:
    """What stands between a request and the journal, in this order: form, size, room, time, signature, JSON, tenant."""

    def __init__(
        self, tenants: Tenants, journal: Journal, metrics: Metrics, *, allow_unsigned: bool, body_timeout_s: float
    ) -> None:
        """Accept what no secret applies to only if ``allow_unsigned``."""
        self._tenants = tenants
        self._journal = journal
        self._metrics = metrics
        self._allow_unsigned = allow_unsigned
        self._bodies = BodyReader(timeout_s=body_timeout_s)
        self._refusals = RefusalLog()
        # An unknown subdomain is checked like any other, against a secret that nobody has, so that it does not show.
        self._nobodys_keys = WebhookKeys(app_secrets=(secrets.token_bytes(32),), verify_token=None)

    def knows_token(self, request: web.Request) -> bool:
        """Tell whether the verify token of a handshake is the one of its path. An unset or empty one never is."""
        applying = self._tenants.webhook_keys(request.match_info.get("subDomain"))
        expected = applying.verify_token if applying else None
        given = request.query.get("hub.verify_token")
        if not given or not expected:
            return False
        return hmac.compare_digest(_bytes(given), _bytes(expected))

    async def take_in(self, request: web.Request) -> str:
        """Make everything in a webhook durable, and return whose it is.

        Raises:
            Refused: it was not accepted, or cannot be stored now.

        """
        applying = self._keys_of(request)
        body = await self._bodies.read(request)
        self._check_signature(request, body, applying)
        webhook = self._keep_own(_read(body, applying), applying)
        business = self._name_business(webhook, applying)
        try:
            await self._journal.accept(webhook)
        except StoreUnavailable:
            raise Refused(503, "the webhook cannot be stored now, try again", business=business) from None
        return business

    def refuse(self, refused: Refused) -> web.Response:
        """Note a refusal, and build its answer."""
        if refused.status != CLIENT_GONE:
            self._refusals.add(refused.status, refused.error)
        return refused.answer()

    def count(self, business: str, status: int, seconds: float) -> None:
        """Count an answered webhook."""
        self._metrics.count_webhook(business, status)
        self._metrics.webhook_request_duration.observe(seconds)

    def _keys_of(self, request: web.Request) -> WebhookKeys:
        applying = self._tenants.webhook_keys(request.match_info.get("subDomain"))
        if applying is None and not self._tenants.loaded:
            # It may be a known one. Forgers learn nothing: before the table was read, every subdomain gets this.
            raise Refused(503, "the businesses are not loaded yet, try again", unread=True)
        return applying or self._nobodys_keys

    def _check_signature(self, request: web.Request, body: bytes, applying: WebhookKeys) -> None:
        if not applying.app_secrets and self._allow_unsigned:
            return
        headers = request.headers.getall(SIGNATURE_HEADER, ())
        if len(headers) != 1 or not verify(body, headers[0], applying.app_secrets):
            raise Refused(401, "the signature is missing or wrong")

    def _keep_own(self, webhook: Webhook, applying: WebhookKeys) -> Webhook:
        """Drop what a business's own secret cannot speak for."""
        if applying.only_phone_number_ids is None:
            return webhook
        own = own_items(webhook, applying)
        if refused := len(webhook) - len(own):
            logger.warning("items of others refused", extra={"business": applying.sub_domain, "count": refused})
            self._metrics.count_item("message", "ignored", len(webhook.messages) - len(own.messages))
            self._metrics.count_item("status", "ignored", len(webhook.statuses) - len(own.statuses))
            self._metrics.count_item("other", "ignored", len(webhook.others) - len(own.others))
        return own

    def _name_business(self, webhook: Webhook, applying: WebhookKeys) -> str:
        if applying.only_phone_number_ids is not None:
            return applying.sub_domain or OTHER
        items: tuple[Item, ...] = (*webhook.messages, *webhook.statuses, *webhook.others)
        names = {self._tenants.sub_domain_of(item.phone_number_id) for item in items if item.phone_number_id}
        if len(names) > 1:
            return SEVERAL
        return (names.pop() if names else applying.sub_domain) or OTHER


def own_items(webhook: Webhook, applying: WebhookKeys) -> Webhook:
    """Return what is about the business's own numbers or, where no number is named, about its own account."""
    numbers = applying.only_phone_number_ids or frozenset()
    return Webhook(
        messages=tuple([item for item in webhook.messages if item.phone_number_id in numbers]),
        statuses=tuple([item for item in webhook.statuses if item.phone_number_id in numbers]),
        others=tuple([item for item in webhook.others if _is_own(item, applying)]),
    )


def _is_own(item: OtherItem, applying: WebhookKeys) -> bool:
    if item.phone_number_id is not None:
        return item.phone_number_id in (applying.only_phone_number_ids or ())
    return item.account_id is not None and item.account_id == applying.only_account_id


def _read(body: bytes, applying: WebhookKeys) -> Webhook:
    try:
        return read_webhook(body, now=int(time.time()), new_id=None if applying.app_secrets else _new_id)
    except PayloadInvalid:
        raise Refused(400, "the body is not a JSON object", business=applying.sub_domain or OTHER) from None


def _new_id() -> str:
    return f"unnamed.{uuid.uuid4().hex}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
