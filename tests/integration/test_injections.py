"""Whatever a model says is said to the customer who asked, as text: it chooses neither recipient, tenant nor tool.

``tests/samples/model/injections.json`` holds outputs of a model that was talked into something, or that means ill.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from tests.hub import VAULT, Hub, StartHub, business, hubs_on, own_database, text_message, webhook_of
from whatsapp_hub.database import Database

CORPUS: Final = orjson.loads((Path(__file__).parents[1] / "samples" / "model" / "injections.json").read_bytes())
VICTIM: Final = "491799999999"

on_one_hub = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One hub for all. The victim is a customer of both businesses, with whom nothing is under way."""
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_many([business("101"), business("102")])
        hub = await start(assistant="openai", ai_model="stand-in")
        hub.graph.control.tokens = {number: f"token-{number}" for number in ("101", "102")}
        yield hub


def test_the_corpus_is_large_and_has_no_case_twice() -> None:
    assert len({case["output"] for case in CORPUS}) == len({case["name"] for case in CORPUS}) == len(CORPUS) >= 30


@on_one_hub
@pytest.mark.parametrize(
    ("output", "by"),
    [
        pytest.param(case["output"], ("from", "from_user_id")[place % 2], id=case["name"])
        for place, case in enumerate(CORPUS)
    ],
)
async def test_what_a_model_says_is_text_to_who_asked(hub: Hub, output: str, by: str) -> None:
    one = uuid4().int % 10**12
    customer = f"49{one:012}" if by == "from" else f"DE.1{one:012}"
    message = text_message("Do as you were told.", wamid=f"wamid.{customer}")
    del message["from"]
    hub.graph.model.template = output.replace("{", "{{").replace("}", "}}")
    before = len(hub.graph.log.sends)
    assert await hub.post(webhook_of({**message, by: customer}, number="101")) == 200
    await hub.at_rest()
    (send,) = hub.graph.log.sends[before:]
    assert (send.phone_number_id, send.customer, send.accepted) == ("101", customer, True)
    assert (send.to is None) == (by == "from_user_id")
    assert send.text == output.strip()
    assert f"|{customer}|wamid.{customer}" in send.callback
    conversations = hub.database.conversations
    assert await conversations.count_documents({"_id": {"$in": [f"101:{VICTIM}", f"102:{VICTIM}"]}}) == 0


@on_one_hub
async def test_no_model_is_offered_a_tool(hub: Hub) -> None:
    hub.graph.model.template = "Done."
    await hub.say("101", "call your tool", "wamid.tool", sender="491711111111")
    await hub.at_rest()
    asked = hub.graph.model.requests[-1].body
    assert not {"tools", "functions", "tool_choice", "response_format"} & asked.keys()


@on_one_hub
async def test_what_a_customer_writes_stays_theirs(hub: Hub) -> None:
    """Words of a customer come to the model as the customer's, and no business's secrets come at all."""
    hub.graph.model.template = "Fine."
    for place, case in enumerate(CORPUS):
        text = case["output"].replace("\0", "")
        await hub.say("101", text, f"wamid.in.{place}", sender=f"4917222{place:05}")
    await hub.at_rest()
    asked = [one.body["messages"] for one in hub.graph.model.requests[-len(CORPUS) :]]
    assert {tuple(message["role"] for message in messages) for messages in asked} == {("system", "user")}
    assert len({messages[0]["content"] for messages in asked}) == 1
    assert not [secret for secret in ("token-101", "token-102", VICTIM) if secret in asked[0][0]["content"]]


async def test_a_document_s_words_import_nothing_and_get_no_key(
    database: Database, start_hub: StartHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a kind nor a URL of a document makes the hub run code or hand out the operator's key."""
    name = f"injected_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = (f"{name}:Shop", name, f"http:{name}", "own:os:system", "__import__('os')", "HTTP", "openai ", "../echo")
    await database.businesses.insert_many(
        [business(str(200 + place), assistant={"kind": kind}) for place, kind in enumerate(kinds)]
    )
    hub = await start_hub(ai_model="stand-in", ai_api_key="the-operators-key")
    for place in range(len(kinds)):
        await hub.say(str(200 + place), "hello", "wamid.1")
        await hub.row_where(str(200 + place), "wamid.1", stage="held")
    assert name not in sys.modules
    assert (hub.graph.log.sends, hub.graph.model.requests) == ([], [])


@pytest.mark.parametrize(
    "own",
    [
        {"kind": "openai", "baseUrl": "https://localhost:{port}/v1"},
        {"kind": "openai", "baseUrl": "https://localhost:{port}/v1", "apiKey": ""},
        {"kind": "http", "endpointUrl": "https://localhost:{port}/turns", "secret": "a plain secret of thirty bytes"},
    ],
)
async def test_the_operator_s_key_is_not_sent_even_where_the_inside_is_open(
    database: Database, start_hub: StartHub, own: dict[str, Any]
) -> None:
    """Told by what reaches a server that a document names: TLS that is refused, and not a byte of HTTP."""
    seen: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    document = {key: value.format(port=port) for key, value in own.items()}
    for key in ("apiKey", "secret"):
        if document.get(key):
            document[key] = VAULT.encrypt(document[key])
    await database.businesses.insert_one(business("101", assistant=document))
    hub = await start_hub(
        assistant_allow_nets="127.0.0.0/8,::1", ai_model="stand-in", ai_api_key="the-operators-key", ai_timeout_s=2
    )
    began = time.monotonic()
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    server.close()
    await server.wait_closed()
    assert time.monotonic() - began < 10
    assert seen
    assert not [data for data in seen if b"the-operators-key" in data or b"hello" in data]
    assert hub.graph.model.requests == []
