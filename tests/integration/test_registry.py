from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from whatsapp_hub.assistants.base import CustomerMessage, Text, Turn
from whatsapp_hub.assistants.registry import Assistants, open_assistants
from whatsapp_hub.cloud_api.parts import build_parts
from whatsapp_hub.errors import AssistantFailed, SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

OWN_CODE = """
import asyncio

log = []

class Shop:
    async def reply(self, turn):
        return ["Welcome to " + turn.business_name, turn.messages[-1].text.upper()]

class Keeper:
    async def __aenter__(self):
        log.append("opened")
        return self

    async def __aexit__(self, *error):
        log.append("closed")

    async def reply(self, turn):
        return "kept"

class Sleeper:
    async def reply(self, turn):
        await asyncio.Event().wait()

class Strange:
    async def reply(self, turn):
        return 7

class Dumb:
    pass

class Broken:
    def __init__(self):
        raise RuntimeError("no shop today")
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with an operator's assistants."""
    name = "an_operators_own_code"
    (tmp_path / f"{name}.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


TURN = Turn(
    id="106:wamid.1",
    business_id="64a1",
    business_name="Acme",
    sub_domain="acme",
    phone_number_id="106",
    customer="4915112345678",
    customer_name="Ada",
    messages=(CustomerMessage(id="wamid.1", kind="text", text="hello", timestamp=1, raw=b"{}"),),
    history=(),
)


async def say(assistants: Assistants, kind: str | None) -> list[str]:
    choice = AssistantChoice(kind=kind) if kind else None
    return [reply.body for reply in await assistants.choose(choice).reply(TURN) if isinstance(reply, Text)]


async def test_a_document_chooses_and_the_environment_answers_for_the_rest(own_code: str) -> None:
    settings = Settings.isolated(assistant="echo", assistants=f"shop={own_code}:Shop")
    async with open_assistants(settings, Metrics()) as assistants:
        assert await say(assistants, None) == ["hello"]
        assert await say(assistants, "none") == []
        assert await say(assistants, "shop") == ["Welcome to Acme", "HELLO"]


async def test_an_operators_own_may_be_the_environments_choice(own_code: str) -> None:
    settings = Settings.isolated(assistant="shop", assistants=f"shop={own_code}:Shop")
    async with open_assistants(settings, Metrics()) as assistants:
        assert await say(assistants, None) == ["Welcome to Acme", "HELLO"]
        assert await say(assistants, "echo") == ["hello"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("http", "it has no assistant.endpointUrl, which its assistant's kind http needs"),
        ("shop", "its assistant's kind 'shop' is not known; it may be echo, http, none, openai"),
        ("os:system", "its assistant's kind 'os:system' is not known"),
        ("x" * 1000, f"its assistant's kind '{'x' * 40}' is not known"),
    ],
)
async def test_a_kind_that_nobody_knows_is_a_fault_of_the_document(kind: str, words: str) -> None:
    async with open_assistants(Settings.isolated(assistant="echo"), Metrics()) as assistants:
        assert (assistants.find_fault(AssistantChoice(kind=kind)) or "").startswith(words)
        with pytest.raises(AssistantFailed, match="assistant"):
            assistants.choose(AssistantChoice(kind=kind))


async def test_nothing_that_a_document_says_is_imported(own_code: str) -> None:
    async with open_assistants(Settings.isolated(assistant="echo"), Metrics()) as assistants:
        for kind in (own_code, f"{own_code}:Shop", f"{own_code}.Shop"):
            with pytest.raises(AssistantFailed):
                assistants.choose(AssistantChoice(kind=kind))
    assert own_code not in sys.modules


async def test_what_has_to_be_closed_is_closed(own_code: str) -> None:
    settings = Settings.isolated(assistant="keeper", assistants=f"keeper={own_code}:Keeper")
    async with open_assistants(settings, Metrics()) as assistants:
        assert await say(assistants, None) == ["kept"]
        assert sys.modules[own_code].log == ["opened"]
    assert sys.modules[own_code].log == ["opened", "closed"]


async def test_an_operators_own_that_hangs_has_failed(own_code: str) -> None:
    settings = Settings.isolated(assistant="s", assistants=f"s={own_code}:Sleeper", ai_timeout_s=0.01)
    async with open_assistants(settings, Metrics()) as assistants:
        with pytest.raises(AssistantFailed, match="no answer within"):
            async with asyncio.timeout(1):
                await say(assistants, None)


async def test_an_operators_own_that_returns_nonsense_has_failed(own_code: str) -> None:
    settings = Settings.isolated(assistant="s", assistants=f"s={own_code}:Strange")
    async with open_assistants(settings, Metrics()) as assistants:
        with pytest.raises(AssistantFailed, match="returned int, not a reply or a text"):
            await say(assistants, None)


async def test_the_example_of_the_manual_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manual = Path(__file__).parents[2] / "docs" / "assistants.md"
    section = manual.read_text("utf-8").partition("## One of your own")[2]
    (tmp_path / "my_shop.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    async with open_assistants(Settings.isolated(assistant="shop", assistants="shop=my_shop:Shop"), Metrics()) as found:
        opening_hours = replace(TURN, messages=(replace(TURN.messages[0], text="Are you open?"),))
        assert await found.choose(None).reply(opening_hours) == (Text(body="Acme is open from nine to five."),)
        assert await say(found, None) == []


async def test_the_example_of_other_kinds_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manual = Path(__file__).parents[2] / "docs" / "assistants.md"
    section = manual.read_text("utf-8").partition("### What it may return")[2]
    (tmp_path / "my_waiter.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings.isolated(assistant="waiter", assistants="waiter=my_waiter:Waiter")
    async with open_assistants(settings, Metrics()) as found:
        replies = await found.choose(None).reply(TURN)
    kinds = [orjson.loads(part)["type"] for reply in replies for part in build_parts(reply)]
    assert kinds == ["reaction", "image", "interactive"]


async def test_every_faulty_one_is_named_at_the_start(own_code: str) -> None:
    targets = {"a": "not_there:x", "b": f"{own_code}:nothing", "c": f"{own_code}:Dumb", "d": f"{own_code}:Broken"}
    settings = Settings.isolated(assistant="echo", assistants=targets)
    with pytest.raises(SettingsInvalid) as caught:
        async with open_assistants(settings, Metrics()):
            pass
    assert [fault.partition(" cannot be loaded: ") for fault in caught.value.faults] == [
        ("ASSISTANTS: a=not_there:x", " cannot be loaded: ", "ModuleNotFoundError: No module named 'not_there'"),
        (
            f"ASSISTANTS: b={own_code}:nothing",
            " cannot be loaded: ",
            f"AttributeError: module '{own_code}' has no attribute 'nothing'",
        ),
        (
            f"ASSISTANTS: c={own_code}:Dumb",
            " cannot be loaded: ",
            "TypeError: the factory returned Dumb, which has no method reply",
        ),
        (f"ASSISTANTS: d={own_code}:Broken", " cannot be loaded: ", "RuntimeError: no shop today"),
    ]


async def test_without_a_choice_nothing_is_opened() -> None:
    with pytest.raises(SettingsInvalid, match="ASSISTANT: missing"):
        async with open_assistants(Settings.isolated(), Metrics()):
            pass
