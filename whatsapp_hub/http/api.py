"""The API: what businesses call, each with a key of its own, to send by themselves and to pause their assistant.

A request is looked at in this order: key, path, form, size, JSON, words, switch, number. Nothing is read of a body and
nothing is asked of the database before the key holds. ``202`` comes after the message is durable, and not before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from aiohttp import hdrs, web

from whatsapp_hub.cloud_api.messages import conversation_id
from whatsapp_hub.conversation.pauses import Pauses
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import NOTHING_HERE, json_answer
from whatsapp_hub.http.api_requests import (
    RequestInvalid,
    read_customer_id,
    read_idempotency_key,
    read_pause_request,
    read_send_request,
)
from whatsapp_hub.http.body import BodyReader, Refused
from whatsapp_hub.http.openapi import DESCRIPTION
from whatsapp_hub.http.refusals import RefusalLog
from whatsapp_hub.inbox.outbound import Origin
from whatsapp_hub.inbox.outbox import KeyReused, Outbox
from whatsapp_hub.tenants.business import ApiTenant

MAX_API_BODY_BYTES: Final = 256 * 1024

_BEARER: Final = "bearer "
_CHALLENGE: Final = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="whatsapp-hub"'}
_JSON: Final = "application/json"


class Tenants(Protocol):
    """What the API has to know about businesses, all of it in memory."""

    @property
    def loaded(self) -> bool:
        """Whether an unknown key is really one."""
        ...

    def api_tenant(self, key: str) -> ApiTenant | None:
        """Return the business that has this API key; None for a wrong one."""
        ...


async def send_message(request: web.Request) -> web.Response:
    """Take a message in that a business sends by itself."""
    return await request.app[keys.API].answer(request, Api.send)


async def show_message(request: web.Request) -> web.Response:
    """Tell what became of such a message."""
    return await request.app[keys.API].answer(request, Api.show)


async def pause_conversation(request: web.Request) -> web.Response:
    """Silence the assistant in a conversation for a while."""
    return await request.app[keys.API].answer(request, Api.pause)


async def show_description(_: web.Request) -> web.Response:
    """Answer with the description of the API, OpenAPI 3.1."""
    return json_answer(DESCRIPTION)


class Api:
    """What stands between a client and the inbox."""

    def __init__(self, tenants: Tenants, outbox: Outbox, pauses: Pauses, *, body_timeout_s: float) -> None:
        """Let in who has a key of one of these tenants."""
        self._tenants = tenants
        self._outbox = outbox
        self._pauses = pauses
        self._bodies = BodyReader(timeout_s=body_timeout_s, max_bytes=MAX_API_BODY_BYTES)
        self._refusals = RefusalLog(what="API requests")

    async def answer(
        self, request: web.Request, work: Callable[[Api, web.Request, ApiTenant], Awaitable[web.Response]]
    ) -> web.Response:
        """Do the work if the request's key is one of the business that its path names; put refusals into answers."""
        try:
            return await work(self, request, self._tenant_of(request))
        except Refused as refused:
            refusal = refused
        except RequestInvalid as error:
            refusal = Refused(error.status, str(error))
        except StoreUnavailable:
            refusal = Refused(503, "the database did not confirm in time, try again")
        self._refusals.add(refusal.status, refusal.error)
        answer = refusal.answer()
        if refusal.status == web.HTTPUnauthorized.status_code:
            answer.headers.update(_CHALLENGE)
        return answer

    async def send(self, request: web.Request, tenant: ApiTenant) -> web.Response:
        """Answer 202 when a message is durable."""
        idempotency_key = read_idempotency_key(request.headers.getall("Idempotency-Key", []))
        wanted = read_send_request(await self._read(request))
        if not tenant.enabled:
            raise Refused(409, "the business is switched off")
        try:
            message_id = await self._outbox.send(
                customer=wanted.customer,
                phone_number_id=_choose_number(tenant, wanted.phone_number_id),
                phone_number_ids=tenant.phone_number_ids,
                parts=wanted.parts,
                origin=Origin(business_id=tenant.id, key_id=tenant.key_id, digest=wanted.digest),
                idempotency_key=idempotency_key,
            )
        except KeyReused:
            raise Refused(422, "the Idempotency-Key was used for another message") from None
        place = {hdrs.LOCATION: f"/api/v1/{tenant.sub_domain}/messages/{message_id}"}
        return json_answer({"id": message_id, "state": "queued"}, status=202, headers=place)

    async def show(self, request: web.Request, tenant: ApiTenant) -> web.Response:
        """Answer with the state of a message."""
        state = await self._outbox.state(
            business_id=tenant.id,
            phone_number_ids=tenant.phone_number_ids,
            message_id=request.match_info["id"],
        )
        if state is None:
            raise Refused(404, NOTHING_HERE)
        return json_answer(state.to_json())

    async def pause(self, request: web.Request, tenant: ApiTenant) -> web.Response:
        """Silence the assistant in a conversation, or let it speak again."""
        customer = read_customer_id(request.match_info["id"])
        wanted = read_pause_request(await self._read(request))
        number = _choose_number(tenant, wanted.phone_number_id)
        conversation = conversation_id(number, customer)
        until = datetime.now(UTC) + timedelta(minutes=wanted.minutes) if wanted.minutes else None
        if until is None:
            await self._pauses.resume(conversation)
        else:
            await self._pauses.pause(conversation, until)
        told = None if until is None else until.isoformat(timespec="seconds").replace("+00:00", "Z")
        return json_answer({"paused_until": told})

    def _tenant_of(self, request: web.Request) -> ApiTenant:
        """Return whose key it is, if it counts on this path. Raises ``Refused``."""
        unread = not request.content.is_eof()
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        has_one = len(given) == 1 and given[0][: len(_BEARER)].lower() == _BEARER
        tenant = self._tenants.api_tenant(given[0][len(_BEARER) :].strip() if has_one else "")
        if tenant is None and not self._tenants.loaded:
            raise Refused(503, "the businesses are not loaded yet, try again", unread=unread)
        if tenant is None:
            raise Refused(401, "give one of the business's API keys as Authorization: Bearer ...", unread=unread)
        if tenant.sub_domain != request.match_info["subDomain"]:
            # Not a word more than for a subdomain, or an id, that nobody has.
            raise Refused(404, NOTHING_HERE, unread=unread)
        return tenant

    async def _read(self, request: web.Request) -> bytes:
        if request.content_type != _JSON:
            raise Refused(415, f"the body has to be {_JSON}", unread=not request.content.is_eof())
        return await self._bodies.read(request)


def _choose_number(tenant: ApiTenant, wanted: str | None) -> str:
    own = tenant.own_phone_number_ids
    if wanted is not None and wanted not in own:
        raise Refused(422, "from is none of the business's phone number ids")
    if not own:
        raise Refused(409, "the business has no phone number that it is served with")
    if wanted is None and len(own) > 1:
        raise Refused(422, "from is missing: the business has several phone number ids")
    return wanted or own[0]
