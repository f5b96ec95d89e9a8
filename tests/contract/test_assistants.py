"""What the environment and a document say about who writes the replies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Recorder
from tests.hub import VAULT, StartHub, business, until
from whatsapp_hub.assistants.asking import FALLBACK_TEXT
from whatsapp_hub.database import Database
from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import Settings

OWN_CODE = """
class Shop:
    async def reply(self, turn):
        return f"{turn.business_name} is open."
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the operator's, which has not been imported yet."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


async def ask(start_hub: StartHub, **settings: Any) -> list[str]:
    """Say "hello" to business 101, and return what was answered."""
    hub = await start_hub(**settings)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    return hub.texts


# ASSISTANT and ASSISTANTS


@pytest.mark.parametrize(
    ("settings", "answered"),
    [
        ({"ASSISTANT": "echo"}, ["hello"]),
        ({"ASSISTANT": "openai", "AI_MODEL": "stand-in"}, ["echo: hello"]),
        ({"ASSISTANT": "none"}, []),
    ],
)
async def test_assistant_writes_the_replies(
    database: Database, start_hub: StartHub, settings: dict[str, str], answered: list[str]
) -> None:
    await database.businesses.insert_one(business("101"))
    assert await ask(start_hub, **settings) == answered
    assert (await database.inbox.find_one({}) or {})["state"] == "done"  # stored whoever answers


async def test_code_of_the_operator_s_own_is_chosen_by_its_name_in_assistants(
    database: Database, start_hub: StartHub, own_code: str
) -> None:
    await database.businesses.insert_one(business("101"))
    assert await ask(start_hub, ASSISTANT="shop", ASSISTANTS=f"shop={own_code}:Shop") == ["Business 101 is open."]


@pytest.mark.parametrize("kind", ["echo", "openai", "none", "shop"])
async def test_document_s_own_assistant_wins_over_the_environment(
    database: Database, start_hub: StartHub, own_code: str, kind: str
) -> None:
    await database.businesses.insert_one(business("101", assistant={"kind": kind, "model": "document's"}))
    environment = "none" if kind != "none" else "echo"
    answered = {"echo": ["hello"], "openai": ["echo: hello"], "none": [], "shop": ["Business 101 is open."]}
    assert await ask(start_hub, ASSISTANT=environment, ASSISTANTS=f"shop={own_code}:Shop") == answered[kind]


@pytest.mark.parametrize("kind", ["{own_code}:Shop", "{own_code}", "os:system", "http", "parrot"])
async def test_nothing_that_a_document_names_is_imported(
    database: Database, start_hub: StartHub, own_code: str, kind: str
) -> None:
    await database.businesses.insert_one(business("101", assistant={"kind": kind.format(own_code=own_code)}))
    hub = await start_hub()
    await hub.say("101", "hello", "wamid.1")
    await hub.row_where("101", "wamid.1", stage="held")
    assert own_code not in sys.modules
    assert hub.graph.log.sends == []


# AI_*


async def test_model_is_asked_as_ai_base_url_ai_api_key_ai_model_and_ai_instructions_say(
    database: Database, start_hub: StartHub, recorder: Recorder
) -> None:
    await database.businesses.insert_one(business("101"))
    answered = await ask(
        start_hub,
        ASSISTANT="openai",
        AI_BASE_URL=f"{recorder.url}/model/v1",
        AI_API_KEY="environment-key",
        AI_MODEL="environment-model",
        AI_INSTRUCTIONS="You sell bread.",
    )
    assert answered == ["recorded"]
    (asked,) = recorder.asked
    assert asked.path == "/model/v1/chat/completions"
    assert asked.authorization == "Bearer environment-key"
    assert asked.body["model"] == "environment-model"
    assert asked.body["messages"] == [
        {"role": "system", "content": "You sell bread."},
        {"role": "user", "content": "hello"},
    ]


async def test_unset_ai_api_key_sends_none_and_unset_ai_instructions_a_sensible_text(
    database: Database, start_hub: StartHub, recorder: Recorder
) -> None:
    await database.businesses.insert_one(business("101"))
    await ask(start_hub, ASSISTANT="openai", AI_BASE_URL=recorder.url, AI_MODEL="model", AI_API_KEY="")
    (asked,) = recorder.asked
    assert asked.authorization is None
    assert asked.body["messages"][0]["content"] == Settings().ai_instructions != ""


async def test_document_has_its_own_model_instructions_and_key(
    database: Database, start_hub: StartHub, recorder: Recorder
) -> None:
    own = {"model": "document-model", "instructions": "You sell flowers.", "apiKey": VAULT.encrypt("document-key")}
    await database.businesses.insert_one(business("101", assistant=own))
    settings = {"AI_API_KEY": "environment-key", "AI_MODEL": "environment-model"}
    await ask(start_hub, ASSISTANT="openai", AI_BASE_URL=recorder.url, **settings)
    (asked,) = recorder.asked
    assert (asked.authorization, asked.body["model"]) == ("Bearer document-key", "document-model")
    assert asked.body["messages"][0]["content"] == "You sell flowers."


async def test_model_that_needs_longer_than_ai_timeout_s_is_given_up(
    database: Database, start_hub: StartHub, recorder: Recorder
) -> None:
    await database.businesses.insert_one(business("101"))
    recorder.may_answer.clear()
    settings = {"AI_BASE_URL": recorder.url, "AI_MODEL": "model", "AI_TIMEOUT_S": "0.1"}
    assert await ask(start_hub, ASSISTANT="openai", **settings) == [FALLBACK_TEXT]
    assert len(recorder.asked) >= 1


@pytest.mark.parametrize(("most", "expected"), [("2", 2), ("1000", 8)])
async def test_ai_max_connections_are_open_at_most(
    database: Database, start_hub: StartHub, recorder: Recorder, most: str, expected: int
) -> None:
    await database.businesses.insert_one(business("101"))
    recorder.may_answer.clear()
    settings = {"AI_BASE_URL": recorder.url, "AI_MODEL": "model", "AI_MAX_CONNECTIONS": most}
    hub = await start_hub(ASSISTANT="openai", **settings)
    await asyncio.gather(*(hub.say("101", "hello", f"wamid.{n}", sender=f"49{n}") for n in range(8)))
    await recorder.hold(expected)
    await hub.graph.log.wait_for(8)
    assert recorder.most_running == expected


@pytest.mark.parametrize(("turns", "roles"), [("0", ""), ("1", "ua"), ("2", "uaua")])
async def test_history_turns_are_shown_to_the_assistant(
    database: Database, start_hub: StartHub, turns: str, roles: str
) -> None:
    await database.businesses.insert_one(business("101"))
    hub = await start_hub(ASSISTANT="openai", AI_MODEL="stand-in", HISTORY_TURNS=turns)
    for n in range(4):
        await hub.say("101", f"question {n}", f"wamid.{n}")
        await hub.at_rest()
    asked = hub.graph.model.requests[-1].body["messages"]
    assert "".join(message["role"][0] for message in asked) == f"s{roles}u"
    assert asked[-1]["content"] == "question 3"
    if roles:
        assert asked[1]["content"] == f"question {3 - int(turns)}"


# Servers that a document names


@pytest.fixture
async def connections() -> AsyncIterator[tuple[int, list[str]]]:
    """A port on loopback, and who connected to it."""
    seen: list[str] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("nets", "url", "is_reached"),
    [
        ("", "https://127.0.0.1:{port}/v1", False),
        ("10.0.0.0/8", "https://127.0.0.1:{port}/v1", False),
        ("127.0.0.0/8", "https://127.0.0.1:{port}/v1", True),
        ("127.0.0.0/8", "http://127.0.0.1:{port}/v1", False),
        ("", "https://localhost:{port}/v1", False),
        ("127.0.0.0/8,::1", "https://localhost:{port}/v1", True),
    ],
)
async def test_document_s_url_leads_inside_only_to_assistant_allow_nets(
    database: Database,
    start_hub: StartHub,
    connections: tuple[int, list[str]],
    nets: str,
    url: str,
    is_reached: bool,
) -> None:
    port, seen = connections
    own = {"kind": "openai", "model": "model", "baseUrl": url.format(port=port)}
    await database.businesses.insert_one(business("101", assistant=own))
    hub = await start_hub(ASSISTANT_ALLOW_NETS=nets)
    await hub.say("101", "hello", "wamid.1")

    async def is_settled() -> bool:
        return bool(hub.texts) or (await hub.row("101", "wamid.1"))["stage"] == "held"

    await until(is_settled)
    assert bool(seen) == is_reached


# What is refused at the start


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ASSISTANT": ""}, "ASSISTANT"),
        ({"ASSISTANT": "openai", "AI_MODEL": "gpt", "AI_BASE_URL": "https://api.openai.com/v1"}, "AI_API_KEY"),
        ({"ASSISTANT": "echo", "ASSISTANTS": "shop=no_such_module:Shop"}, "no_such_module"),
    ],
)
async def test_assistant_that_cannot_be_had_is_told_at_the_start(
    start_hub: StartHub, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        await start_hub(**settings)
    assert any(words in fault for fault in caught.value.faults)
