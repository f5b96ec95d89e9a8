"""Uploads over TCP: how they share connections with sends, and how long their ids are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.hub import until
from whatsapp_hub.cloud_api.client import GraphClient, open_session
from whatsapp_hub.cloud_api.errors import Verdict
from whatsapp_hub.cloud_api.media_types import UploadResult
from whatsapp_hub.cloud_api.messages import ConversationId
from whatsapp_hub.cloud_api.outgoing import build_send, text_part
from whatsapp_hub.cloud_api.replies import Image, Media, Reply
from whatsapp_hub.conversation.attachments import IDS_LIVE_S, Attachments
from whatsapp_hub.conversation.holds import Holds
from whatsapp_hub.demo.graph import open_server
from whatsapp_hub.inbox.document import InboxRow, Stage, State
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business, Unserved


class Graph:
    """Takes messages at once, and uploads when it is told to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.uploading = 0
        self.may_answer = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.raw_path)
        await request.read()
        if request.path.endswith("/messages"):
            return web.json_response({"messages": [{"id": "wamid.OUT"}]})
        self.uploading += 1
        await self.may_answer.wait()
        return web.json_response({"id": "17"})


@pytest.fixture
async def graph() -> Graph:
    return Graph()


@pytest.fixture
async def client(graph: Graph) -> AsyncIterator[GraphClient]:
    app = web.Application()
    app.router.add_post("/{path:.*}", graph.handle)
    async with open_server(app) as url, open_session() as session:
        yield GraphClient(session, base_url=url, version="v26.0", metrics=Metrics(), max_connections=8)


async def upload(client: GraphClient, token: str = "token", number: str = "101") -> UploadResult:
    return await client.upload(phone_number_id=number, token=token, data=b"x", mime_type="image/png")


async def test_uploads_leave_most_connections_to_sends(client: GraphClient, graph: Graph) -> None:
    uploads = [asyncio.create_task(upload(client)) for _ in range(6)]

    async def two_are_under_way() -> bool:
        return graph.uploading == 2

    await until(two_are_under_way)
    body = build_send(text_part("x"), customer="49", callback_data="")
    sends = [client.send(phone_number_id="101", token="token", body=body, may_send=lambda: True) for _ in range(12)]
    async with asyncio.timeout(5):
        assert {(await send).verdict for send in asyncio.as_completed(sends)} == {Verdict.SENT}
    assert graph.uploading == 2
    graph.may_answer.set()
    assert [result.media_id for result in await asyncio.gather(*uploads)] == ["17"] * 6


async def test_number_cannot_choose_where_it_is_uploaded_to(client: GraphClient, graph: Graph) -> None:
    graph.may_answer.set()
    await upload(client, number="../../evil?x=/#")
    assert graph.paths == ["/v26.0/..%2F..%2Fevil%3Fx%3D%2F%23/media"]


async def test_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        await request.read()
        return web.Response(status=307, headers={"Location": "/evil"})

    app = web.Application()
    app.router.add_post("/{path:.*}", redirect)
    async with open_server(app) as url, open_session() as session:
        result = await upload(GraphClient(session, base_url=url, version="v26.0", metrics=Metrics()))
    assert (result.verdict, asked) == (Verdict.RETRY, ["/v26.0/101/media"])


@pytest.mark.parametrize("token", ["", "tok\nen", "tökén"])
async def test_token_that_is_none_is_not_sent(client: GraphClient, graph: Graph, token: str) -> None:
    assert (await upload(client, token)).verdict is Verdict.HOLD
    assert graph.paths == []


async def test_nobody_there_is_tried_again() -> None:
    async with open_session() as session:
        client = GraphClient(session, base_url="http://127.0.0.1:9", version="v26.0", metrics=Metrics())
        result = await upload(client)
    assert (result.verdict, result.reason) == (Verdict.RETRY, "no answer to the upload: ClientConnectorError")


# Ids that are used again


class Counting:
    """Uploads nothing, and gives a new id each time."""

    def __init__(self) -> None:
        self.uploads: list[tuple[str, bytes]] = []

    async def upload(self, *, phone_number_id: str, token: str, data: bytes, mime_type: str) -> UploadResult:
        self.uploads.append((phone_number_id, data))
        return UploadResult(verdict=Verdict.SENT, media_id=str(len(self.uploads)))


class Tenants:
    """Knows nobody."""

    async def find(self, phone_number_id: str) -> Business | Unserved:
        return Unserved(reason="")

    async def find_past_cache(self, phone_number_id: str) -> Business | Unserved:
        return Unserved(reason="")

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        return None


def make_attachments(uploader: Counting, *, ids_live_s: float = IDS_LIVE_S) -> Attachments:
    holds = Holds(Tenants(), Metrics(), assistant_fault=lambda _: None, says_nothing=lambda _: False, recheck_s=1)
    return Attachments(uploader, holds, most_ids=2, ids_live_s=ids_live_s)


async def ids(attachments: Attachments, *contents: bytes, number: str = "101") -> list[str | None]:
    """Return the ids that pictures with these contents are sent by."""
    row = InboxRow(
        id=f"{number}:wamid.1",
        conversation=ConversationId(f"{number}:49"),
        owner="",
        epoch=1,
        state=State.ACTIVE,
        stage=Stage.NEW,
        attempts=1,
        place=1,
        arrival=1,
        item=b"{}",
    )
    tenant = Business(
        id="1", name="", sub_domain="b", account_id=None, phone_number_ids=(number,), enabled=True, access_token="token"
    )
    pictures: list[Reply] = [Image(media=Media(data=content, mime_type="image/png")) for content in contents]
    replies = await attachments.upload(row, tenant, pictures)
    return [reply.media.id for reply in replies if isinstance(reply, Image)]


async def test_id_is_used_again_for_the_same_content_of_the_same_number() -> None:
    uploader = Counting()
    attachments = make_attachments(uploader)
    large = bytes(300_000)  # hashed beside the event loop
    assert await ids(attachments, b"a", large, b"a", large) == ["1", "2", "1", "2"]
    assert await ids(attachments, b"a", number="102") == ["3"]
    assert uploader.uploads == [("101", b"a"), ("101", large), ("102", b"a")]


async def test_only_so_many_ids_are_remembered_and_only_while_they_live() -> None:
    attachments = make_attachments(Counting())
    assert await ids(attachments, b"a", b"b", b"c", b"b", b"a") == ["1", "2", "3", "2", "4"]
    attachments.forget("4")
    assert await ids(attachments, b"a", b"a") == ["5", "5"]
    short_lived = make_attachments(Counting(), ids_live_s=0)
    assert await ids(short_lived, b"a", b"a") == ["1", "2"]
