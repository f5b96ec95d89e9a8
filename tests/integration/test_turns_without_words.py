"""Turns whose messages are taken back, changed, say nothing, or were spoken."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from tests.hub import Hub, StartHub, business, text_message, until, webhook_of
from whatsapp_hub.assistants.base import CustomerMessage
from whatsapp_hub.assistants.chat_route import ModelServer
from whatsapp_hub.assistants.model_servers import open_model_servers
from whatsapp_hub.assistants.voice import Voice
from whatsapp_hub.cloud_api.replies import Audio, Image, Media, Reply, Text
from whatsapp_hub.database import Database
from whatsapp_hub.demo.graph import GraphStandIn, open_server
from whatsapp_hub.demo.speech import silence
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice, Business

Start = Callable[..., Awaitable[Hub]]


@pytest.fixture
def start(database: Database, start_hub: StartHub) -> Start:
    """Start a hub with one business, number 101, whose document says this of its assistant."""

    async def run(assistant: dict[str, Any] | None = None, **env: str) -> Hub:
        chosen = {} if assistant is None else {"assistant": assistant}
        await database.businesses.insert_one(business("101", **chosen))
        return await start_hub(**env)

    return run


def other_message(kind: str, part: Any, wamid: str, **more: Any) -> dict[str, Any]:
    return text_message("", wamid=wamid, **more) | {"type": kind, kind: part}


async def post(hub: Hub, *messages: dict[str, Any]) -> None:
    assert await hub.post(webhook_of(*messages, number="101")) == 200


async def while_busy(hub: Hub, *messages: dict[str, Any]) -> list[str]:
    """Post while a first message is being answered, so that one turn takes them all; return what was said to them."""
    hub.graph.control.latency_s = (0.3, 0.3)
    await hub.say("101", "first", "wamid.first")
    await hub.row_where("101", "wamid.first", stage="replying")
    for message in messages:
        await post(hub, message)
    await hub.at_rest()
    assert hub.texts[0] == "first"
    return hub.texts[1:]


async def test_message_taken_back_before_its_turn_is_not_answered(start: Start) -> None:
    hub = await start()
    said = await while_busy(
        hub,
        text_message("oh no", wamid="wamid.1"),
        other_message("revoke", {"original_message_id": "wamid.1"}, "wamid.2"),
    )
    assert said == []
    rows = [await hub.row("101", wamid) for wamid in ("wamid.1", "wamid.2")]
    assert [row["state"] for row in rows] == ["done", "done"]


async def test_text_changed_before_its_turn_is_answered_as_it_is_now(start: Start) -> None:
    hub = await start()
    changed = {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "three"}}}
    said = await while_busy(hub, text_message("two", wamid="wamid.1"), other_message("edit", changed, "wamid.2"))
    assert said == ["(edited message) three"]


UNREADABLE = [
    ("unsupported", {"type": "poll"}),
    ("hologram", {"id": "9"}),
]


@pytest.mark.parametrize(("kind", "part"), UNREADABLE)
async def test_business_has_words_of_its_own_for_what_it_cannot_read(start: Start, kind: str, part: Any) -> None:
    hub = await start({"unsupportedText": "Please write to us."})
    await post(hub, other_message(kind, part, "wamid.1"))
    await hub.at_rest()
    assert hub.texts == ["Please write to us."]


async def test_business_may_leave_it_unanswered(start: Start) -> None:
    hub = await start({"unsupportedText": ""})
    await post(hub, other_message(*UNREADABLE[0], "wamid.1"))
    await hub.at_rest()
    assert (await hub.row("101", "wamid.1"))["outcome"] == "no_reply"


async def test_without_such_words_the_assistant_is_asked(start: Start) -> None:
    hub = await start()
    await post(hub, other_message(*UNREADABLE[0], "wamid.1"))
    await hub.at_rest()
    assert hub.texts == ["(a message of a kind that WhatsApp does not pass on: poll)"]


async def test_whoever_also_wrote_something_is_answered_by_the_assistant(start: Start) -> None:
    hub = await start({"unsupportedText": "Please write to us."})
    said = await while_busy(hub, other_message(*UNREADABLE[0], "wamid.1"), text_message("is it open?", wamid="wamid.2"))
    assert said == ["(a message of a kind that WhatsApp does not pass on: poll)\nis it open?"]


async def test_shadow_run_says_nothing_at_all(start: Start) -> None:
    hub = await start({"kind": "none", "unsupportedText": "Please write to us."})
    await post(hub, other_message(*UNREADABLE[0], "wamid.1"))
    await hub.at_rest()
    assert hub.texts == []


async def test_what_was_heard_is_remembered_by_whoever_ends_the_turn(start: Start, start_hub: StartHub) -> None:
    """The process that heard it dies with the reply not yet sent: the other one has no sound, only what is stored."""
    hub = await start(AI_API_KEY="key")
    hub.graph.model.speech.transcript = "do you deliver?"
    note = hub.graph.media.add("101", silence(), "audio/ogg")
    hub.graph.control.latency_s = (30.0, 30.0)
    await post(hub, other_message("audio", note.part(voice=True), "wamid.1"))
    await hub.row_where("101", "wamid.1", stage="replying")
    stored = await hub.row("101", "wamid.1")
    assert stored["said"] == "do you deliver?"
    hub.graph.control.latency_s = (0.0, 0.0)
    await hub.stop()
    other = await start_hub(AI_API_KEY="key")

    async def remembered() -> Any:
        return await other.database.conversations.find_one({"turns.customer": "do you deliver?"})

    await until(remembered)
    assert len(hub.graph.model.speech.requests) == 1


# A voice


def make_business(choice: AssistantChoice | None) -> Business:
    return Business(
        id="1",
        name="Acme",
        sub_domain="acme",
        account_id=None,
        phone_number_ids=("101",),
        enabled=True,
        access_token="token",
        assistant=choice,
    )


def said(*, heard: bool) -> tuple[CustomerMessage, ...]:
    kind = "audio" if heard else "text"
    return (CustomerMessage(id="wamid.1", kind=kind, text="hello", timestamp=int(time.time()), raw=b"{}", heard=heard),)


async def speak(choice: AssistantChoice | None, *replies: Reply, heard: bool = True) -> tuple[Any, GraphStandIn]:
    graph = GraphStandIn(rng=Random(1))
    async with open_server(graph.make_app()) as url:
        settings = Settings.isolated(ai_base_url=f"{url}/v1", ai_api_key="key")
        async with open_model_servers(settings, Metrics()) as servers:
            voice = Voice(settings, Metrics(), servers)
            return await voice.speak(replies, said(heard=heard), make_business(choice)), graph


SPEAKS = AssistantChoice(kind=None, voice_replies=True, voice="nova", speech_model="say-2")


async def test_text_is_spoken_to_whoever_spoke() -> None:
    picture = Image(media=Media(id="1"))
    spoken, graph = await speak(SPEAKS, Text(body="Nine to five."), picture)
    media = Media(data=silence(), mime_type="audio/ogg")
    assert list(spoken) == [Audio(media=media, voice=True, words="Nine to five."), picture]
    (asked,) = graph.model.speech.requests
    assert asked.fields == {"model": "say-2", "input": "Nine to five.", "voice": "nova", "response_format": "opus"}


async def test_long_text_is_better_read() -> None:
    long = Text(body="x" * 5000)
    spoken, graph = await speak(SPEAKS, long)
    assert list(spoken) == [long]
    assert graph.model.speech.requests == []


@pytest.mark.parametrize(("choice", "heard"), [(None, True), (AssistantChoice(kind=None), True), (SPEAKS, False)])
async def test_nothing_is_spoken_unasked(choice: AssistantChoice | None, heard: bool) -> None:
    spoken, graph = await speak(choice, Text(body="x"), heard=heard)
    assert list(spoken) == [Text(body="x")]
    assert graph.model.speech.requests == []


async def test_key_of_the_environment_goes_to_its_own_server_only() -> None:
    settings = Settings.isolated(ai_base_url="https://env.example/v1", ai_api_key="env-key")
    async with open_model_servers(settings, Metrics()) as servers:
        own = AssistantChoice(kind=None, base_url="https://own.example/v1")
        keyed = AssistantChoice(kind=None, base_url="https://own.example/v1", api_key="own-key")
        assert servers.choose(own, "m") == ModelServer(
            url="https://own.example/v1", key=None, model="m", from_document=True
        )
        assert servers.choose(keyed, "m").key == "own-key"
        assert servers.choose(None, "m").key == "env-key"
