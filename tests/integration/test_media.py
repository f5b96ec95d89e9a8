"""Fetching what customers send along, from the stand-in for Graph over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

import pytest
from aiohttp import ClientTimeout, DefaultResolver, web

from tests.leaks import LEAKS
from whatsapp_hub.assistants.guard import GuardingResolver
from whatsapp_hub.cloud_api import media as media_module
from whatsapp_hub.cloud_api.media import MediaClient, MediaFile, open_media_session
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.inbound_media import StoredMedia
from whatsapp_hub.errors import MediaUnavailable
from whatsapp_hub.telemetry.metrics import Metrics

TOKEN = LEAKS.seed("a business's token for media")
NUMBER = "101"
MAX_BYTES = 1024 * 1024


@dataclass(kw_only=True)
class Place:
    """The stand-in, a server that is a stranger, and a client."""

    graph: GraphStandIn
    client: MediaClient
    other: str

    def add(self, data: bytes = b"a picture", mime_type: str = "image/jpeg", number: str = NUMBER) -> StoredMedia:
        return self.graph.media.add(number, data, mime_type)

    async def fetch(self, media: StoredMedia, *, token: str = TOKEN, number: str = NUMBER, sha256: str = "") -> bytes:
        file = await self.client.fetch(media_id=media.id, phone_number_id=number, token=token, sha256=sha256)
        try:
            return await file.read()
        finally:
            file.close()

    async def why_not(self, media: StoredMedia, *, token: str = TOKEN, number: str = NUMBER, sha256: str = "") -> str:
        with pytest.raises(MediaUnavailable) as caught:
            await self.fetch(media, token=token, number=number, sha256=sha256)
        assert self.client._budget.taken == 0
        return str(caught.value)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        graph = GraphStandIn()
        graph.control.tokens = {NUMBER: TOKEN, "102": "another token"}
        url = await stack.enter_async_context(open_server(graph.make_app()))
        app = web.Application()
        other = await stack.enter_async_context(open_server(app, host="127.0.0.2"))
        session = await stack.enter_async_context(open_media_session(DefaultResolver()))
        client = MediaClient(
            session,
            base_url=url,
            version="v26.0",
            metrics=Metrics(),
            max_bytes=MAX_BYTES,
            retry_base_s=0.001,
            rng=Random(1),
        )
        yield Place(graph=graph, client=client, other=other)


async def test_media_comes_with_the_token_of_its_business(place: Place) -> None:
    media = place.add(b"x" * 700_000)  # more than is kept in memory
    sha256 = base64.b64encode(hashlib.sha256(media.data).digest()).decode()
    assert await place.fetch(media, sha256=sha256) == media.data
    assert place.graph.media.downloads == [(media.id, TOKEN)]


async def test_media_of_another_number_is_not_to_be_had(place: Place) -> None:
    theirs = place.add(number="102")
    assert await place.why_not(theirs) == "Graph answered 401"
    assert await place.why_not(theirs, token="another token") == "Graph answered 400"
    assert place.graph.media.downloads == []


async def test_link_to_a_stranger_is_not_followed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    media = place.add()
    for link in (f"{place.other}/x", "https://evil.example/x", "file:///etc/passwd", "http://[", "x"):
        media.url = link
        assert "link" in await place.why_not(media)
    assert TOKEN not in caplog.text
    assert place.graph.media.downloads == []


@pytest.mark.parametrize("where", ["{other}/x", "http://169.254.169.254/latest", "https://evil.example/", ""])
async def test_redirect_to_a_stranger_is_not_followed(place: Place, where: str) -> None:
    media = place.add()
    media.redirect = where.format(other=place.other)
    assert "redirected" in await place.why_not(media)
    assert len(place.graph.media.downloads) == 1


async def test_redirect_within_the_host_keeps_the_token_and_ends(place: Place) -> None:
    first, second = place.add(), place.add(b"a picture")
    first.redirect = f"/_media/{second.key}"
    assert await place.fetch(first) == second.data
    assert [token for _, token in place.graph.media.downloads] == [TOKEN, TOKEN]
    first.redirect = f"/_media/{first.key}"
    assert await place.why_not(first) == "it is redirected more than 3 times"


async def test_token_stays_behind_when_a_redirect_leads_to_metas_storage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    async def storage(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=b"a picture")

    app = web.Application()
    app.router.add_get("/v/file", storage)
    async with open_server(app, host="127.0.0.3") as address:
        monkeypatch.setattr(place.client._hosts, "may_fetch", lambda url: str(url.origin()) == address)
        media = place.add()
        media.redirect = f"{address}/v/file"
        assert await place.fetch(media) == b"a picture"
    assert seen == [None]


async def test_size_is_checked_before_and_while_it_comes(place: Place) -> None:
    told, hidden, silent = place.add(b"x" * (MAX_BYTES + 1)), place.add(b"x" * 2048), place.add(b"x" * (MAX_BYTES + 1))
    assert await place.why_not(told) == f"it is larger than {MAX_BYTES} bytes (MEDIA_MAX_BYTES)"
    assert place.graph.media.downloads == []
    hidden.file_size = 100
    assert await place.why_not(hidden) == "it is larger than Meta said"
    silent.file_size = None
    assert await place.why_not(silent) == "it is larger than Meta said"


@pytest.mark.parametrize("liar", ["graph", "webhook"])
async def test_what_does_not_fit_its_digest_is_fetched_three_times_and_not_used(place: Place, liar: str) -> None:
    media = place.add()
    wrong = hashlib.sha256(b"another").hexdigest()
    if liar == "graph":
        media.sha256 = wrong
    why = await place.why_not(media, sha256=wrong if liar == "webhook" else "")
    assert why == "it is not what its SHA-256 says, tried 3 times"
    assert len(place.graph.media.downloads) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="media", status=500),
        Fault(endpoint="media", status=429),
        Fault(endpoint="media", effect=Effect.CLOSE_AFTER),
        Fault(endpoint="media", effect=Effect.CUT),
        Fault(endpoint="download", status=503),
        Fault(endpoint="download", status=404),
        Fault(endpoint="download", status=403),
        Fault(endpoint="download", effect=Effect.CUT),
        Fault(endpoint="download", effect=Effect.TRUNCATED),
        Fault(endpoint="download", effect=Effect.CLOSE_BEFORE),
    ],
    ids=lambda fault: f"{fault.endpoint}-{fault.effect}-{fault.status}",
)
async def test_failures_are_tried_again_with_a_new_link_but_three_times_at_most(place: Place, fault: Fault) -> None:
    media = place.add(b"picture" * 100)
    place.graph.control.faults.arm(fault, fault)
    assert await place.fetch(media) == media.data
    assert len(place.graph.media.asked) == 3

    place.graph.control.faults.arm(fault, fault, fault)
    assert "tried 3 times" in await place.why_not(media)
    assert len(place.graph.media.asked) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_refusal_of_graph_is_not_tried_again(place: Place, status: int) -> None:
    media = place.add()
    place.graph.control.faults.arm(Fault(endpoint="media", status=status, times=None))
    assert await place.why_not(media) == f"Graph answered {status}"
    assert len(place.graph.media.asked) == 1


@pytest.mark.parametrize("effect", [Effect.GARBAGE, Effect.NO_ID])
async def test_garbage_for_a_link_is_no_link(place: Place, effect: Effect) -> None:
    place.graph.control.faults.arm(Fault(endpoint="media", effect=effect, status=200))
    assert await place.why_not(place.add()) == "Meta names no link for it"


async def test_download_that_stalls_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "DOWNLOAD_TIMEOUT", ClientTimeout(total=0.1))
    place.graph.control.faults.arm(Fault(endpoint="download", effect=Effect.HANG, times=None, delay_s=5))
    assert "no answer" in await place.why_not(place.add())


@pytest.mark.parametrize("token", ["", "a\nb", "tök"])
async def test_token_that_is_none_is_not_sent(place: Place, token: str) -> None:
    assert "access token" in await place.why_not(place.add(), token=token)
    assert place.graph.media.asked == []


async def test_hostile_ids_stay_in_their_place(place: Place) -> None:
    media = place.add()
    for media_id in ("../../101/messages", "a/b?c=d#e", "%2e%2e", "\ud83d", "..", ""):
        media.id = media_id
        assert "Graph answered" in (why := await place.why_not(media)) or "no id" in why
    assert place.graph.log.sends == []


async def test_file_that_is_read_takes_room_until_it_is_closed(place: Place) -> None:
    media = place.add(b"x" * 1000)
    files: list[MediaFile] = [
        await place.client.fetch(media_id=media.id, phone_number_id=NUMBER, token=TOKEN) for _ in range(3)
    ]
    assert place.client._budget.taken == 3000
    for file in files:
        file.close()
        file.close()
    assert place.client._budget.taken == 0


async def test_fetch_that_is_cancelled_leaves_nothing_behind(place: Place) -> None:
    media = place.add()
    place.graph.control.faults.arm(Fault(endpoint="download", effect=Effect.HANG, delay_s=30))
    fetch = asyncio.create_task(place.fetch(media))
    await _until(lambda: bool(place.graph.media.downloads))
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    assert place.client._budget.taken == 0
    assert await place.fetch(media) == media.data


async def test_reasons_in_the_log_name_no_secret(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    media = place.add()
    place.graph.control.faults.arm(Fault(endpoint="media", status=400))
    await place.why_not(media)
    record = next(record for record in caplog.records if record.message == "media not fetched")
    assert record.__dict__["reason"] == "Graph answered 400"


async def test_guard_lets_the_operators_own_host_be_private(place: Place) -> None:
    guard = GuardingResolver((), DefaultResolver(), free_host="localhost")
    assert await guard.resolve("localhost", 80)
    strict = GuardingResolver((), DefaultResolver())
    with pytest.raises(OSError, match="not public"):
        await strict.resolve("localhost", 80)
    await guard.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
