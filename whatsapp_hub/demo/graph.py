"""A stand-in for the Graph API and for a language model: one application, for the demo, for tests and as a process.

It speaks Meta's wire format, sends the statuses of what it accepted to the hub's webhook, and fails when it is told to:
by ``GraphStandIn.control`` in the same process, or ``POST /_control``. ``GET /_sends`` tells what was to be sent.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

import click
import orjson
import uvloop
from aiohttp import web

from whatsapp_hub.cloud_api.errors import describe
from whatsapp_hub.cloud_api.outgoing import is_bsuid
from whatsapp_hub.demo.accounts import Accounts
from whatsapp_hub.demo.control import Control
from whatsapp_hub.demo.faults import Effect, Fault, Faults, json_answer, misbehave
from whatsapp_hub.demo.inbound_media import InboundMedia
from whatsapp_hub.demo.message_check import media_id_of
from whatsapp_hub.demo.models import ModelStandIn
from whatsapp_hub.demo.refused import Refused
from whatsapp_hub.demo.sends import Send, SendLog
from whatsapp_hub.demo.statuses import StatusSender, WebhookTarget
from whatsapp_hub.demo.uploads import Uploads, read_upload
from whatsapp_hub.demo.wire import check_message, error_body, is_plain_text, load_json, read_body, success_body, text_of

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_SUCCESS: Final = b'{"success":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """One request to mark a message as read."""

    phone_number_id: str
    message_id: str
    shows_typing: bool


class GraphStandIn:
    """The stand-in. ``make_app`` may be called once."""

    def __init__(
        self, *, webhook: WebhookTarget | None = None, log_path: Path | None = None, rng: Random | None = None
    ) -> None:
        self._rng = rng or SystemRandom()
        self.log = SendLog(log_path)
        self.typings: list[Typing] = []
        self.on_typing: Callable[[Typing], None] = lambda _: None
        self.statuses = StatusSender(webhook)
        self.uploads = Uploads()
        faults = Faults()
        self.model = ModelStandIn(faults, self._rng)
        self.control = Control(faults, self.statuses, self.model)
        self.media = InboundMedia(faults, self._check_token)
        self.accounts = Accounts(self._find_token_fault)
        self._wamid_prefix = f"wamid.{secrets.token_hex(8).upper()}"
        self._wamids = 0
        self.clock_offset_s = time.time() - time.monotonic()  #: so that no jump of the clock shows between two sends

    def make_app(self) -> web.Application:
        """Return the application; it sends statuses while it runs."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.cleanup_ctx.append(self._background)
        self.model.add_routes(app)
        self.media.add_routes(app)
        app.router.add_post("/_control", self._change)
        app.router.add_get("/_sends", self._list_sends)
        self.accounts.add_routes(app)
        app.router.add_post("/{version}/{phone_number_id}/messages", self._messages)
        app.router.add_post("/{version}/{phone_number_id}/media", self._media)
        app.router.add_get("/{version}/{phone_number_id}", self._number)
        return app

    async def _background(self, _: web.Application) -> AsyncIterator[None]:
        sender = asyncio.create_task(self.statuses.run())
        yield
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender
        await self.log.close()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        number, token = request.match_info["phone_number_id"], _bearer(request)
        raw = await request.read()
        began = self._now()
        try:
            self._check_token(number, token)
            body = read_body(raw)
            if body.get("status") == "read":
                return await self._read_receipt(request, number, token, body)
            check_message(body)
            if media_id := media_id_of(body):
                self.uploads.check(media_id, number)
        except Refused as refused:
            await self.log.add(self._record(number, token, load_json(raw), began, code=refused.code))
            return json_answer(error_body(refused.code, str(refused)), status=refused.status)
        return await self._send(request, number, token, body, began)

    async def _send(
        self, request: web.Request, number: str, token: str, body: dict[str, Any], began: float
    ) -> web.StreamResponse:
        customer = str(body.get("to") or body.get("recipient"))
        fault = self.control.faults.take(endpoint="messages", token=token, customer=customer, text=text_of(body))
        await self._linger()
        send = self._record(number, token, body, began, fault=fault)
        await self.log.add(send)
        if send.accepted:
            self.statuses.schedule(send, fault.statuses if fault and fault.statuses else self.control.plan)
        answer = success_body(customer, send.wamid or "")
        return json_answer(answer) if fault is None else await _fail(request, fault, answer)

    async def _read_receipt(
        self, request: web.Request, number: str, token: str, body: dict[str, Any]
    ) -> web.StreamResponse:
        message_id = body.get("message_id")
        if not isinstance(message_id, str):
            raise Refused(100, "message_id is missing")
        fault = self.control.faults.take(endpoint="typing", token=token)
        await self._linger()
        if fault is None or fault.accepts:
            typing = Typing(phone_number_id=number, message_id=message_id, shows_typing="typing_indicator" in body)
            self.typings.append(typing)
            self.on_typing(typing)
        return json_answer(_SUCCESS) if fault is None else await _fail(request, fault, _SUCCESS)

    async def _media(self, request: web.Request) -> web.StreamResponse:
        number, token = request.match_info["phone_number_id"], _bearer(request)
        try:
            self._check_token(number, token)
            upload = await read_upload(request, number)
        except Refused as refused:
            return json_answer(error_body(refused.code, str(refused)), status=refused.status)
        fault = self.control.faults.take(endpoint="media", token=token)
        await self._linger()
        taken = fault is None or fault.accepts
        answer = orjson.dumps({"id": self.uploads.add(upload)}) if taken else b"{}"
        return json_answer(answer) if fault is None else await _fail(request, fault, answer)

    async def _linger(self) -> None:
        if self.control.latency_s[1] > 0:
            await asyncio.sleep(self._rng.uniform(*self.control.latency_s))

    def _check_token(self, number: str, token: str) -> None:
        tokens = self.control.tokens
        if not token or (tokens is not None and number in tokens and tokens[number] != token):
            raise Refused(190, "Error validating access token")
        if tokens is not None and number not in tokens:
            raise Refused(33, "Object does not exist, or cannot be loaded due to missing permissions")

    def _find_token_fault(self, token: str) -> Refused | None:
        """Say whether a token is nobody's."""
        tokens = self.control.tokens
        if token and (tokens is None or token in tokens.values()):
            return None
        return Refused(190, "Error validating access token")

    def _record(
        self,
        number: str,
        token: str,
        body: dict[str, Any],
        began: float,
        *,
        code: int | None = None,
        fault: Fault | None = None,
    ) -> Send:
        """Note what was asked for and what comes of it, with an id of its own unless it is an error."""
        accepted = code is None and (fault is None or fault.accepts)
        to, recipient = (str(body[key]) if body.get(key) else None for key in ("to", "recipient"))
        context = body.get("context")
        return Send(
            phone_number_id=number,
            token=fingerprint(token),
            to=to,
            recipient=recipient,
            text=text_of(body),
            callback=str(body.get("biz_opaque_callback_data") or ""),
            reply_to=str(context["message_id"]) if isinstance(context, dict) and "message_id" in context else None,
            wamid=self._next_wamid() if accepted else None,
            began=began,
            time=self._now(),
            accepted=accepted and not (to and is_bsuid(to)),
            code=fault.code if fault and fault.effect is Effect.ERROR else code,
            body=body if body and not is_plain_text(body) else None,
        )

    def _now(self) -> float:
        return time.monotonic() + self.clock_offset_s

    def _next_wamid(self) -> str:
        self._wamids += 1
        return f"{self._wamid_prefix}{self._wamids:08X}=="

    async def _number(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["phone_number_id"]
        if self.media.holds(number):
            return await self.media.describe(request, number, _bearer(request))
        self.accounts.note_number(number)
        try:
            self._check_token(number, _bearer(request))
        except Refused as refused:
            return json_answer(error_body(refused.code, str(refused)), status=refused.status)
        return json_answer(
            orjson.dumps(
                {"id": number, "display_phone_number": number, "verified_name": "Sample", "quality_rating": "GREEN"}
            )
        )

    async def _change(self, request: web.Request) -> web.Response:
        try:
            self.control.apply(orjson.loads(await request.read()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return web.Response(status=400, text=f"{type(error).__name__}: {error}\n")
        return json_answer(b"{}")

    async def _list_sends(self, request: web.Request) -> web.Response:
        """Answer with the sends from number ``since`` on, so that a checker can follow."""
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            return web.Response(status=400, text="since is not a number\n")
        return json_answer(orjson.dumps([asdict(send) for send in self.log.sends[int(since) :]]))


@functools.lru_cache(maxsize=10_000)
def fingerprint(token: str) -> str:
    """Name a token without telling it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


@asynccontextmanager
async def open_server(app: web.Application, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an application on a port of its own (0: any that is free) and yield its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


async def _fail(request: web.Request, fault: Fault, answer: bytes) -> web.StreamResponse:
    return await misbehave(request, fault, answer, error_body(fault.code, describe(fault.code)))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="0: any that is free; the address is printed.")
@click.option(
    "--log", "log_path", type=click.Path(path_type=Path), help="Append every send as a JSON line, synced to disk."
)
@click.option("--webhook-url", help="Where statuses go.")
@click.option(
    "--app-secret", envvar="STAND_IN_APP_SECRET", default="", help="What signs them; better in the environment."
)
@click.option("--latency", type=(float, float), default=(0.0, 0.0), help="Range of Graph's answers in seconds.")
@click.option(
    "--model-latency", type=(float, float), default=(0.0, 0.0), help="Range of the model's answers in seconds."
)
def main(  # noqa: PLR0917 - click passes them by name
    host: str,
    port: int,
    log_path: Path | None,
    webhook_url: str | None,
    app_secret: str,
    latency: tuple[float, float],
    model_latency: tuple[float, float],
) -> None:
    """Run the stand-in as a process of its own, until it is stopped."""
    target = WebhookTarget(url=webhook_url, secret=app_secret.encode()) if webhook_url else None

    async def serve() -> None:
        stand_in = GraphStandIn(webhook=target, log_path=log_path)
        stand_in.control.latency_s = latency
        stand_in.model.latency_s = model_latency
        async with open_server(stand_in.make_app(), host=host, port=port) as address:
            click.echo(address)
            await asyncio.Event().wait()

    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
