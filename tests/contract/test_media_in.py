"""What customers send along: pictures are seen, voice notes are heard and may be answered with a voice."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from tests.hub import VAULT, Hub, StartHub, business, text_message, webhook_of
from tests.leaks import LEAKS
from tests.spy import SPIES
from whatsapp_hub.assistants.voice_wire import read_speech
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault
from whatsapp_hub.demo.inbound_media import StoredMedia
from whatsapp_hub.demo.speech import silence
from whatsapp_hub.errors import MediaUnavailable

JPEG = b"\xff\xd8\xff\xe0" + b"a picture" * 50
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 50
WEBP = b"RIFF\x24\x00\x00\x00WEBP" + b"a picture" * 50
KEY = LEAKS.seed("the key of the environment")

wamids = count()
Start = Callable[..., Awaitable[Hub]]


@pytest.fixture
def start(database: Database, start_hub: StartHub) -> Start:
    """Start a hub with one business, number 101, whose document says this of its assistant."""

    async def run(assistant: dict[str, Any] | None = None, **env: str) -> Hub:
        chosen = {} if assistant is None else {"assistant": assistant}
        await database.businesses.insert_one(business("101", **chosen))
        hub = await start_hub(**{"ASSISTANT": "openai", "AI_MODEL": "m-1", "AI_API_KEY": KEY, **env})
        hub.graph.control.tokens = {"101": "token-101", "102": "token-102"}
        return hub

    return run


async def send(hub: Hub, *media: StoredMedia, kind: str, sender: str = "491700000001", **more: Any) -> str:
    """Have a customer send files, in one go; return the id of the last message."""
    messages = []
    for one in media:
        message = text_message("", wamid=f"wamid.media.{next(wamids)}", sender=sender, type=kind)
        del message["text"]
        messages.append(message | {kind: one.part(**more)})
    assert await hub.post(webhook_of(*messages, number="101")) == 200
    await hub.at_rest()
    return str(messages[-1]["id"])


def asked(hub: Hub) -> list[Any]:
    """Return what the user said in the last question to the model."""
    return [
        message["content"] for message in hub.graph.model.requests[-1].body["messages"] if message["role"] == "user"
    ]


def shown(hub: Hub) -> list[bytes]:
    """Return the pictures of the last question."""
    urls = [
        part["image_url"]["url"]
        for content in asked(hub)
        if isinstance(content, list)
        for part in content
        if part["type"] == "image_url"
    ]
    return [base64.b64decode(url.partition(";base64,")[2]) for url in urls]


# Pictures


@pytest.mark.parametrize(
    ("data", "kind", "mime_type"),
    [(JPEG, "image", "image/jpeg"), (PNG, "image", "image/png"), (WEBP, "sticker", "image/webp")],
)
async def test_picture_is_shown_to_the_model_beside_its_caption(
    start: Start, data: bytes, kind: str, mime_type: str
) -> None:
    hub = await start()
    await send(hub, hub.graph.media.add("101", data, mime_type), kind=kind, caption="is this one left?")
    (content,) = asked(hub)
    assert content == [
        {"type": "text", "text": f"({kind}) is this one left?"},
        {"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{base64.b64encode(data).decode()}"}},
    ]
    assert await hub.sample("whatsapp_hub_assistant_media_total", what="vision", outcome="done") == 1


async def test_pictures_belong_to_their_turn_only(start: Start) -> None:
    hub = await start()
    await send(hub, hub.graph.media.add("101", JPEG, "image/jpeg"), kind="image")
    await hub.say("101", "and in red?", "wamid.next")
    await hub.at_rest()
    assert asked(hub) == ["(image)", "and in red?"]
    assert len(hub.graph.media.downloads) == 1


async def test_business_may_switch_pictures_off(start: Start) -> None:
    hub = await start({"vision": False})
    await send(hub, hub.graph.media.add("101", JPEG, "image/jpeg"), kind="image")
    assert asked(hub) == ["(image)"]
    assert hub.graph.media.asked == []


async def test_model_that_sees_nothing_is_asked_with_words_and_shown_no_more(start: Start) -> None:
    hub = await start()
    hub.graph.model.sees = False
    for number in range(2):
        await send(hub, hub.graph.media.add("101", JPEG, "image/jpeg"), kind="image", sender=f"49170{number}")
    assert hub.texts == ["echo: (image)", "echo: (image)"]
    assert len(hub.graph.media.downloads) == 1
    assert await hub.sample("whatsapp_hub_assistant_media_total", what="vision", outcome="refused") == 1


@pytest.mark.parametrize(
    "data", [b"", b"<svg onload=x>", b"GIF89a" + b"x" * 50, JPEG + b"x" * 6_000_000], ids=["none", "svg", "gif", "6MB"]
)
async def test_what_is_no_picture_for_a_model_is_told_in_words(start: Start, data: bytes) -> None:
    hub = await start()
    await send(hub, hub.graph.media.add("101", data, "image/jpeg"), kind="image")
    assert asked(hub) == ["(image)"]
    assert hub.texts == ["echo: (image)"]


async def test_at_most_five_pictures_of_a_turn_are_shown_the_newest(start: Start) -> None:
    hub = await start()
    hub.graph.control.latency_s = (0.2, 0.2)
    await hub.say("101", "first", "wamid.first")
    await hub.row_where("101", "wamid.first", stage="replying")
    pictures = [JPEG + bytes([number]) for number in range(7)]
    await send(hub, *(hub.graph.media.add("101", data, "image/jpeg") for data in pictures), kind="image")
    assert shown(hub) == pictures[2:]


@pytest.mark.parametrize(
    "fault",
    [Fault(endpoint="media", status=500, times=None), Fault(endpoint="download", status=404, times=None)],
    ids=lambda fault: fault.endpoint,
)
async def test_message_is_answered_without_what_cannot_be_fetched(start: Start, fault: Fault) -> None:
    hub = await start()
    hub.graph.control.faults.arm(fault)
    await send(hub, hub.graph.media.add("101", JPEG, "image/jpeg"), kind="image", caption="look")
    assert hub.texts == ["echo: (image) look"]
    assert len(hub.graph.media.asked) == 3
    assert await hub.sample("whatsapp_hub_graph_requests_total", endpoint="media", outcome="failed") == 1


async def test_file_of_another_business_is_not_shown(start: Start) -> None:
    hub = await start()
    theirs = hub.graph.media.add("102", JPEG, "image/jpeg")
    await send(hub, theirs, kind="image")
    assert hub.texts == ["echo: (image)"]
    assert hub.graph.media.downloads == []


async def test_larger_files_than_wanted_are_not_fetched(start: Start) -> None:
    hub = await start(MEDIA_MAX_BYTES="100")
    await send(hub, hub.graph.media.add("101", JPEG, "image/jpeg"), kind="image")
    assert asked(hub) == ["(image)"]
    assert hub.graph.media.downloads == []


async def test_slow_download_holds_up_no_send(start: Start) -> None:
    hub = await start()
    hub.graph.control.faults.arm(Fault(endpoint="download", effect=Effect.HANG, times=None, delay_s=20))
    for number in range(40):  # more than there are connections for media
        message = text_message("", wamid=f"wamid.slow.{number}", sender=f"4917{number:04}", type="image")
        del message["text"]
        message["image"] = hub.graph.media.add("101", JPEG, "image/jpeg").part()
        assert await hub.post(webhook_of(message, number="101")) == 200
    async with asyncio.timeout(5):
        while not hub.graph.media.downloads:
            await asyncio.sleep(0.01)
    began = time.monotonic()
    await hub.say("101", "hello", "wamid.fast", sender="4918")
    await hub.graph.log.wait_for(1)
    assert hub.texts == ["echo: hello"]
    assert time.monotonic() - began < 5
    hub.graph.control.faults.clear()


async def test_own_assistant_reads_a_file_when_it_wants_it_and_once(start: Start) -> None:
    hub = await start(ASSISTANT="spy", ASSISTANTS="spy=tests.spy:make", AI_TRANSCRIPTION_MODEL="")
    media = hub.graph.media.add("101", b"%PDF-1.7", "application/pdf")
    wamid = await send(hub, media, kind="document", filename="offer.pdf")
    given = SPIES[-1].given[wamid]
    assert (given.data, given.text) == (b"%PDF-1.7", "(document offer.pdf)")
    assert len(hub.graph.media.downloads) == 1
    assert given.message.attachment is not None
    with pytest.raises(MediaUnavailable, match="its turn is over"):
        await given.message.attachment.read()


# Voice


def voice_note(hub: Hub) -> StoredMedia:
    return hub.graph.media.add("101", silence(), "audio/ogg; codecs=opus")


async def test_voice_note_is_what_the_customer_said(start: Start) -> None:
    hub = await start({"language": "pt-BR"}, AI_TRANSCRIPTION_MODEL="hear-1")
    note = voice_note(hub)
    hub.graph.model.speech.transcript = "are you open on sundays?"
    await send(hub, note, kind="audio", voice=True)
    assert hub.texts == ["echo: are you open on sundays?"]
    (heard,) = hub.graph.model.speech.requests
    assert heard.fields == {"model": "hear-1", "response_format": "json", "language": "pt"}
    assert (heard.file, heard.filename, heard.content_type) == (note.data, "voice.ogg", "audio/ogg")
    assert heard.authorization == f"Bearer {KEY}"
    system = hub.graph.model.requests[-1].body["messages"][0]
    assert system["content"].endswith("Answer in this language: pt-BR.")

    await hub.say("101", "thanks", "wamid.thanks")
    await hub.at_rest()
    assert asked(hub) == ["are you open on sundays?", "thanks"]
    stored = await hub.database.inbox.distinct("said")
    assert stored == ["are you open on sundays?"]


@pytest.mark.parametrize("kind", ["echo", "spy"])
async def test_voice_is_heard_for_every_kind_of_assistant(start: Start, kind: str) -> None:
    hub = await start({"kind": kind}, ASSISTANTS="spy=tests.spy:make")
    wamid = await send(hub, voice_note(hub), kind="audio", voice=True)
    if kind == "echo":
        assert hub.texts == ["what I said"]
    else:
        assert (SPIES[-1].given[wamid].text, SPIES[-1].given[wamid].message.heard) == ("what I said", True)
        assert SPIES[-1].given[wamid].data == silence()
    assert len(hub.graph.media.downloads) == 1


@pytest.mark.parametrize(
    "assistant", [{"kind": "none"}, {"transcriptionModel": ""}, {"baseUrl": "https://127.0.0.1/v1", "kind": "echo"}]
)
async def test_nothing_is_heard_where_nobody_wants_it_or_may_be_asked(start: Start, assistant: dict[str, Any]) -> None:
    hub = await start(assistant)
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.graph.model.speech.requests == []
    assert hub.graph.media.asked == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="transcriptions", status=500, times=None),
        Fault(endpoint="transcriptions", status=400),
        Fault(endpoint="transcriptions", effect=Effect.GARBAGE, status=200),
        Fault(endpoint="transcriptions", effect=Effect.CLOSE_AFTER, times=None),
        Fault(endpoint="transcriptions", effect=Effect.TRUNCATED),
    ],
    ids=lambda fault: f"{fault.effect}-{fault.status}",
)
async def test_note_that_cannot_be_heard_is_told_in_words(start: Start, fault: Fault) -> None:
    hub = await start()
    hub.graph.control.faults.arm(fault)
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.texts == ["echo: (voice message)"]
    assert await hub.sample("whatsapp_hub_assistant_media_total", what="transcription", outcome="failed") == 1


async def test_hearing_is_tried_again_when_the_server_asks_for_patience(start: Start) -> None:
    hub = await start()
    hub.graph.control.faults.arm(Fault(endpoint="transcriptions", status=429, retry_after="0.3"))
    began = time.monotonic()
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.texts == ["echo: what I said"]
    assert time.monotonic() - began >= 0.3


async def test_server_that_hears_too_long_is_not_waited_for(start: Start) -> None:
    hub = await start(AI_TIMEOUT_S="0.2")
    hub.graph.control.faults.arm(Fault(endpoint="transcriptions", effect=Effect.HANG, delay_s=20, times=None))
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.texts == ["echo: (voice message)"]


async def test_server_without_ears_is_asked_once(start: Start) -> None:
    hub = await start()
    hub.graph.control.faults.arm(Fault(endpoint="transcriptions", status=404, times=None))
    for number in range(2):
        await send(hub, voice_note(hub), kind="audio", voice=True, sender=f"49170{number}")
    assert hub.texts == ["echo: (voice message)"] * 2
    assert len(hub.graph.model.speech.requests) == 1


SPOKEN = {"voiceReplies": True}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="speech", status=500, times=None),
        Fault(endpoint="speech", status=404),
        Fault(endpoint="speech", effect=Effect.GARBAGE, status=200),
        Fault(endpoint="speech", effect=Effect.NO_ID),
    ],
    ids=lambda fault: f"{fault.effect}-{fault.status}",
)
async def test_text_is_sent_where_nobody_can_speak(start: Start, fault: Fault) -> None:
    hub = await start(SPOKEN, AI_SPEECH_MODEL="say-1", AI_VOICE="nova")
    hub.graph.control.faults.arm(fault)
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.texts == ["echo: what I said"]
    spoken = hub.graph.model.speech.requests[1]
    assert spoken.path == "/v1/audio/speech"
    assert spoken.authorization == f"Bearer {KEY}"
    assert spoken.fields == {
        "model": "say-1",
        "input": "echo: what I said",
        "voice": "nova",
        "response_format": "opus",
    }


@pytest.mark.parametrize("assistant", [None, {"voiceReplies": False}])
async def test_nothing_is_spoken_unless_the_business_wants_it(start: Start, assistant: dict[str, Any] | None) -> None:
    hub = await start(assistant)
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert hub.texts == ["echo: what I said"]
    assert [request.path for request in hub.graph.model.speech.requests] == ["/v1/audio/transcriptions"]


async def test_what_was_written_is_answered_in_writing(start: Start) -> None:
    hub = await start(SPOKEN)
    await hub.say("101", "hello", "wamid.1")
    await hub.at_rest()
    assert hub.texts == ["echo: hello"]
    assert hub.graph.model.speech.requests == []


async def test_own_key_of_a_document_is_used_for_hearing_too(start: Start) -> None:
    own = LEAKS.seed("the-key-of-the-business")
    hub = await start({"apiKey": VAULT.encrypt(own)})
    await send(hub, voice_note(hub), kind="audio", voice=True)
    assert [request.authorization for request in hub.graph.model.speech.requests] == [f"Bearer {own}"]


def test_silence_of_the_stand_in_is_a_voice_note() -> None:
    assert read_speech(silence()) == silence()
