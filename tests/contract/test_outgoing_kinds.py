"""Every kind of message that an assistant may answer with, over real HTTP, as Graph gets it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.hub import VAULT, Hub, StartHub, business, text_message, until, webhook_of
from tests.scripted import SCRIPTED, Scripted
from whatsapp_hub.cloud_api.parts import read_reply
from whatsapp_hub.cloud_api.replies import (
    Audio,
    Button,
    Buttons,
    ChoiceList,
    Contacts,
    Document,
    Image,
    LinkButton,
    ListRow,
    ListSection,
    Location,
    LocationRequest,
    Media,
    Reaction,
    Reply,
    Sticker,
    Template,
    Text,
    Video,
)
from whatsapp_hub.database import Database
from whatsapp_hub.demo.faults import Effect, Fault, StatusPlan
from whatsapp_hub.demo.graph import fingerprint
from whatsapp_hub.tenants.documents import read_business

CUSTOMER = "491700000001"
SAMPLES = Path(__file__).parents[1] / "samples" / "out"

#: What an assistant returns for the sample of this name.
REPLIES: dict[str, Reply] = {
    "text": Text(body="We are open from nine to five."),
    "text_with_preview": Text(body="Look: https://example.com/menu", preview_url=True),
    "text_that_quotes": Text(body="Yes, that one.", reply_to="wamid.1"),
    "image": Image(media=Media(link="https://example.com/menu.jpg"), caption="Today's menu"),
    "video": Video(media=Media(link="https://example.com/tour.mp4"), caption="A tour of the house"),
    "audio": Audio(media=Media(link="https://example.com/welcome.mp3")),
    "voice": Audio(media=Media(link="https://example.com/welcome.ogg"), voice=True),
    "document": Document(
        media=Media(link="https://example.com/17.pdf"), filename="invoice-17.pdf", caption="Your invoice"
    ),
    "sticker": Sticker(media=Media(link="https://example.com/thanks.webp")),
    "location": Location(latitude=52.520008, longitude=13.404954, name="The shop", address="Main Street 1, Berlin"),
    "contacts": Contacts(
        cards=(
            {
                "name": {"formatted_name": "Barbara J. Johnson", "first_name": "Barbara", "last_name": "Johnson"},
                "phones": [{"phone": "+16505550829", "type": "WORK"}],
            },
        )
    ),
    "reaction": Reaction(message_id="wamid.1", emoji="👍"),
    "reaction_removed": Reaction(message_id="wamid.1", emoji=""),
    "buttons": Buttons(
        header="Your order",
        body="Shall we deliver it tomorrow?",
        footer="Free of charge",
        buttons=(Button(id="yes", title="Yes"), Button(id="no", title="No")),
    ),
    "list": ChoiceList(
        body="When would you like to come?",
        button="Times",
        sections=(
            ListSection(
                title="Friday",
                rows=(ListRow(id="fr18", title="6 pm", description="Terrace"), ListRow(id="fr20", title="8 pm")),
            ),
            ListSection(title="Saturday", rows=(ListRow(id="sa18", title="6 pm"),)),
        ),
    ),
    "link_button": LinkButton(body="Pay here, please.", display_text="Pay", url="https://example.com/pay/17"),
    "location_request": LocationRequest(body="Where shall we deliver to?"),
    "template": Template(
        name="order_ready",
        language="en_US",
        components=({"type": "body", "parameters": [{"type": "text", "text": "17"}]},),
    ),
}
#: What is remembered of it.
WORDS = {
    "text": "We are open from nine to five.",
    "text_with_preview": "Look: https://example.com/menu",
    "text_that_quotes": "Yes, that one.",
    "image": "(image) Today's menu",
    "video": "(video) A tour of the house",
    "audio": "(audio)",
    "voice": "(voice message)",
    "document": "(document invoice-17.pdf) Your invoice",
    "sticker": "(sticker)",
    "location": "(location) The shop, Main Street 1, Berlin, 52.520008, 13.404954",
    "contacts": "(contacts) Barbara J. Johnson, +16505550829",
    "reaction": "(reaction) 👍",
    "reaction_removed": "(reaction removed)",
    "buttons": "Your order\nShall we deliver it tomorrow?\n[Yes]\n[No]\nFree of charge",
    "list": "When would you like to come?\nFriday\n[6 pm]: Terrace\n[8 pm]\nSaturday\n[6 pm]",
    "link_button": "Pay here, please.\n[Pay] https://example.com/pay/17",
    "location_request": "Where shall we deliver to?\n(asks for the location)",
    "template": "(template order_ready)\n17",
}


def sample(name: str, *, sender: str = CUSTOMER, wamid: str = "wamid.1") -> Any:
    """Return a recorded request, as it is when this customer is answered."""
    recorded = orjson.loads((SAMPLES / f"{name}.json").read_bytes())
    answered = {"to": sender, "biz_opaque_callback_data": f"hub1|0|1|{sender}|{wamid}"}
    assert recorded.keys() >= answered.keys()
    return {**recorded, **answered}


async def start(database: Database, start_hub: StartHub, **document: Any) -> Hub:
    """Start a hub whose business 101 is answered for by the script."""
    await database.businesses.insert_one(business("101", **document))
    return await start_hub(**SCRIPTED)


async def answer(hub: Hub, *replies: Reply, wamid: str = "wamid.1", sender: str = CUSTOMER) -> list[Any]:
    """Have the assistant answer a customer with this, and return what Graph was sent."""
    Scripted.says(go=replies)
    before = len(hub.graph.log.sends)
    await hub.say("101", "go", wamid, sender=sender)
    await hub.at_rest()
    return [send.body or send.text for send in hub.graph.log.sends[before:]]


async def remembered(hub: Hub, *replies: str, sender: str = CUSTOMER) -> None:
    """Wait until this is what was said to the customer, turn by turn, as the assistant will see it."""

    async def is_remembered() -> bool:
        found = await hub.database.conversations.find_one({"_id": f"101:{sender}"}) or {}
        turns = [turn["reply"] for turn in found.get("turns", ())]
        assert turns == [*replies][: len(turns)]
        return len(turns) == len(replies)

    await until(is_remembered)


# What Graph gets


async def test_every_kind_is_sent_as_recorded_and_remembered_in_words(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub)
    for n, (name, reply) in enumerate(REPLIES.items()):
        sender = f"49170000{n:04}"
        (sent,) = await answer(hub, reply, sender=sender, wamid=f"wamid.{name}")
        expected = sample(name, sender=sender, wamid=f"wamid.{name}")
        assert sent == (expected["text"]["body"] if name == "text" else expected)
        await remembered(hub, WORDS[name], sender=sender)


@pytest.mark.parametrize("name", sorted(REPLIES))
def test_every_sample_is_read_as_the_reply_that_it_is(name: str) -> None:
    form = sample(name)
    del form["to"], form["biz_opaque_callback_data"]
    assert read_reply(form) == REPLIES[name]


def test_every_sample_has_its_reply() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == REPLIES.keys() == WORDS.keys()


async def test_several_replies_are_sent_in_order_each_after_the_other(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.latency_s = (0.05, 0.05)
    replies = (REPLIES["image"], Text(body="This is the menu."), REPLIES["buttons"])
    assert [_kind(sent) for sent in await answer(hub, *replies)] == ["image", "text", "interactive"]
    first, second, third = hub.graph.log.accepted
    assert second.began >= first.time
    assert third.began >= second.time
    await remembered(hub, "\n".join((WORDS["image"], "This is the menu.", WORDS["buttons"])))


def _kind(sent: Any) -> str:
    return "text" if isinstance(sent, str) else str(sent["type"])


async def test_reply_that_nothing_can_be_made_of_is_asked_for_again_and_then_dead_with_its_fault(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    assert await answer(hub, Image(media=Media(link="ftp://example.com/a.jpg"), caption="secret")) == []
    row = await hub.row("101", "wamid.1")
    assert (row["state"], len(Scripted.turns)) == ("dead", 5)
    assert row["reason"] == "failed 5 times: the assistant's reply: image has a link that is not https"


# Media that the hub uploads

PICTURE = b"\xff\xd8\xff a picture"


def picture(data: bytes = PICTURE, mime_type: str | None = "image/jpeg", **more: str) -> Image:
    return Image(media=Media(data=data, mime_type=mime_type), **more)


async def uploads(hub: Hub, outcome: str) -> float:
    return await hub.sample("whatsapp_hub_graph_requests_total", endpoint="media", outcome=outcome)


async def test_data_is_uploaded_and_sent_by_its_id_and_the_same_data_again_by_the_same_id(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.tokens = {"101": "token-101"}
    (first,) = await answer(hub, picture(caption="Look"))
    ((media_id, upload),) = hub.graph.uploads.by_id.items()
    assert first["image"] == {"id": media_id, "caption": "Look"}
    assert (upload.phone_number_id, upload.mime_type, upload.size) == ("101", "image/jpeg", len(PICTURE))
    voice = Audio(media=Media(data=b"OggS", mime_type="audio/ogg"), voice=True, words="Good morning")
    again, spoken = await answer(hub, picture(), voice, wamid="wamid.2")
    assert again["image"] == {"id": media_id}
    assert spoken["audio"].keys() == {"id", "voice"}
    assert await uploads(hub, "sent") == 2
    await remembered(hub, "(image) Look", "(image)\nGood morning")


async def test_megabytes_are_uploaded_in_pieces(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub)
    data = bytes(range(256)) * 4096 * 12
    (sent,) = await answer(hub, Document(media=Media(data=data, mime_type="application/pdf"), filename="a.pdf"))
    upload = hub.graph.uploads.by_id[sent["document"]["id"]]
    assert (upload.size, upload.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_media_that_whatsapp_does_not_take_is_not_even_uploaded_and_its_caption_is_sent(
    database: Database, start_hub: StartHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub = await start(database, start_hub)
    too_large = picture(b"x" * (5 * 1024 * 1024 + 1), caption="Look")
    assert await answer(hub, too_large, Text(body="More to come")) == ["Look", "More to come"]
    assert hub.graph.uploads.by_id == {}
    (record,) = [record for record in caplog.records if record.getMessage() == "media not sent"]
    assert "larger than 5120 KB" in str(vars(record)["reason"])
    assert "Look" not in str(vars(record))


async def test_media_that_graph_refuses_leaves_its_caption_and_alone_a_dead_letter(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(Fault(endpoint="media", code=131053, times=3))
    assert await answer(hub, picture(caption="Look")) == ["Look"]
    voice = Audio(media=Media(data=b"OggS", mime_type="audio/ogg"), voice=True, words="Good morning")
    assert await answer(hub, voice, wamid="wamid.2") == ["Good morning"]
    assert await answer(hub, picture(), wamid="wamid.3") == []
    row = await hub.row("101", "wamid.3")
    assert row["reason"] == ("media cannot be sent, and nothing else was to be said: 131053 the media cannot be used")
    assert await uploads(hub, "dead") == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="media", code=131016, status=500),
        Fault(endpoint="media", effect=Effect.GARBAGE),
        Fault(endpoint="media", effect=Effect.CLOSE_BEFORE),
        Fault(endpoint="media", effect=Effect.CLOSE_AFTER),
        Fault(endpoint="media", effect=Effect.NO_ID),
    ],
    ids=lambda fault: fault.effect.value,
)
async def test_upload_that_fails_is_tried_again_with_the_turn(
    database: Database, start_hub: StartHub, fault: Fault
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(fault)
    (sent,) = await answer(hub, picture())
    assert sent["image"]["id"] in hub.graph.uploads.by_id
    assert len(Scripted.turns) == 2
    assert (await uploads(hub, "retry"), await uploads(hub, "sent")) == (1, 1)


async def test_upload_with_a_refused_token_holds_the_business_and_burns_no_attempt(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(Fault(endpoint="media", code=190, status=401))
    Scripted.says(go=picture())
    await hub.say("101", "go", "wamid.1")
    row = await hub.row_where("101", "wamid.1", stage="held")
    assert (row["reason"], row["attempts"]) == ("190 the access token expired or is invalid", 1)
    await hub.database.businesses.update_one({}, {"$set": {"whatsappAccessToken": VAULT.encrypt("new-token")}})
    await hub.row_where("101", "wamid.1", state="done", attempts=1)
    (send,) = hub.graph.log.accepted
    assert send.token == fingerprint("new-token")


async def test_id_of_another_number_is_refused_by_the_stand_in(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("102"))
    hub = await start(database, start_hub)
    (sent,) = await answer(hub, picture())
    Scripted.says(go=Image(media=Media(id=sent["image"]["id"])))
    await hub.say("102", "go", "wamid.2")
    row = await hub.row_where("102", "wamid.2", state="dead")
    assert row["reason"] == "131009 a parameter's value is invalid"


async def test_id_that_graph_no_longer_takes_is_not_used_again(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub)
    await answer(hub, picture())
    hub.graph.uploads.by_id.clear()
    await answer(hub, picture(), wamid="wamid.2")
    assert (await hub.row("101", "wamid.2"))["state"] == "dead"
    (sent,) = await answer(hub, picture(), wamid="wamid.3")
    assert sent["image"]["id"] in hub.graph.uploads.by_id


# Media that Graph refuses at the send


async def test_picture_that_graph_cannot_use_leaves_its_caption_and_what_comes_after_it(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(Fault(code=131053, times=1))
    refused, *sent = await answer(hub, REPLIES["image"], Text(body="And this is the text."))
    assert (_kind(refused), sent) == ("image", ["Today's menu", "And this is the text."])
    stored = (await hub.row("101", "wamid.1"))["parts"][0]
    assert orjson.loads(stored["body"]) == {"type": "text", "text": {"body": "Today's menu"}}
    await remembered(hub, "Today's menu\nAnd this is the text.")
    hub.graph.control.faults.arm(Fault(code=131053, times=1))
    refused, *sent = await answer(hub, REPLIES["sticker"], Text(body="Bye"), wamid="wamid.2")
    assert (_kind(refused), sent) == ("sticker", ["Bye"])
    await remembered(hub, "Today's menu\nAnd this is the text.", "Bye")


async def test_picture_that_says_nothing_else_becomes_a_dead_letter(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(Fault(code=131053, times=1))
    await answer(hub, REPLIES["sticker"])
    assert (await hub.row("101", "wamid.1"))["reason"] == "131053 the media cannot be used"


# Replies that come too late

LATE = {"name": "order_ready", "language": "en_US", "components": sample("template")["template"]["components"]}
DAY_S = 86_400


async def test_reply_that_graph_finds_too_late_becomes_the_business_s_template(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub, assistant={"lateTemplate": LATE})
    hub.graph.control.faults.arm(Fault(code=131047, text="second", times=1))
    first, refused, late = await answer(hub, Text(body="first"), Text(body="second"), Text(body="third"))
    assert (first, refused, late["template"]) == ("first", "second", sample("template")["template"])
    row = await hub.row("101", "wamid.1")
    assert (row["state"], row["outcome"]) == ("done", "replied")
    await remembered(hub, "first\n(template order_ready)\n17")
    parts = row["parts"]
    assert [part["state"] for part in parts] == ["sent", "sent", "waiting"]
    assert [orjson.loads(part["body"])["type"] for part in parts] == ["text", "template", "text"]  # as stored
    assert (parts[1]["attempt"], parts[1]["void_attempts"], parts[2]["dropped"]) == (2, 1, True)


async def test_without_a_template_it_becomes_a_dead_letter_that_says_so(
    database: Database, start_hub: StartHub
) -> None:
    hub = await start(database, start_hub)
    hub.graph.control.faults.arm(Fault(code=131047))
    await answer(hub, Text(body="late"))
    assert (await hub.row("101", "wamid.1"))["reason"] == NO_TEMPLATE


NO_TEMPLATE = (
    "131047 over 24 hours since the customer's last message; "
    "the business has no template for that (assistant.lateTemplate)"
)


async def test_template_that_is_refused_is_not_rewritten_once_more(database: Database, start_hub: StartHub) -> None:
    hub = await start(database, start_hub, assistant={"lateTemplate": LATE})
    hub.graph.control.faults.arm(Fault(code=131047, times=2))
    assert len(await answer(hub, Text(body="late"))) == 2
    assert (await hub.row("101", "wamid.1"))["state"] == "dead"


@pytest.mark.parametrize("fault", [Effect.CLOSE_AFTER, Effect.HANG])
async def test_template_that_may_have_been_sent_waits_for_its_status_like_any_part(
    database: Database, start_hub: StartHub, fault: Effect
) -> None:
    hub = await start(database, start_hub, assistant={"lateTemplate": LATE})
    text_refused, template_unknown = Fault(code=131047), Fault(effect=fault, delay_s=0.1, statuses=StatusPlan())
    hub.graph.control.faults.arm(text_refused, template_unknown)
    sent = [_kind(one) for one in await answer(hub, Text(body="late"))]
    # Taken before the connection closed: its status says so. Not taken: none comes, and it is sent again.
    assert sent == (["text", "template"] if fault is Effect.CLOSE_AFTER else ["text", "template", "template"])
    assert (await hub.row("101", "wamid.1"))["state"] == "done"


async def test_process_that_takes_over_sends_the_template_and_not_what_it_stands_for(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_one(business("101", assistant={"lateTemplate": LATE}))
    hub = await start_hub(**SCRIPTED, drain_timeout_s=0.1)
    hub.graph.control.faults.arm(Fault(code=131047), Fault(effect=Effect.HANG))
    Scripted.says(go="late")
    await hub.say("101", "go", "wamid.1")

    async def template_is_under_way() -> bool:
        return len(hub.graph.log.sends) == 2

    await until(template_is_under_way)
    await hub.stop()
    other = await start_hub(**SCRIPTED)
    await other.row_where("101", "wamid.1", state="done")
    assert [_kind(send.body or send.text) for send in hub.graph.log.sends] == ["text", "template", "template"]
    assert len(Scripted.turns) == 1


def days_old(text: str, wamid: str, days: float) -> dict[str, Any]:
    return text_message(text, wamid=wamid, timestamp=str(int(time.time() - days * DAY_S)))


async def test_hub_knows_by_itself_what_comes_too_late(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101", assistant={"lateTemplate": LATE}))
    await database.businesses.insert_one(business("102"))
    hub = await start_hub(**SCRIPTED, REPLY_MAX_AGE_S="1000000")
    Scripted.says(go=("first", "second"))
    for number in ("101", "102"):
        assert await hub.post(webhook_of(days_old("go", "wamid.1", 1.5), number=number)) == 200
    await hub.at_rest()
    (send,) = hub.graph.log.sends
    assert (send.phone_number_id, (send.body or {})["type"]) == ("101", "template")
    row = await hub.row("102", "wamid.1")
    assert (row["reason"], [part["state"] for part in row["parts"]]) == (NO_TEMPLATE, ["waiting", "waiting"])


async def test_newer_message_that_waits_or_was_answered_keeps_the_window_open(
    database: Database, start_hub: StartHub
) -> None:
    await database.businesses.insert_one(business("101", assistant={"lateTemplate": LATE}))
    hub = await start_hub(**SCRIPTED, REPLY_MAX_AGE_S="1000000")
    Scripted.says(go="in time", **{"go on": "in time"})
    both = days_old("go", "wamid.1", 1.5), days_old("go on", "wamid.2", 0)
    assert await hub.post(webhook_of(*both, number="101")) == 200
    await hub.at_rest()
    assert await hub.post(webhook_of(days_old("go", "wamid.3", 1.5), number="101")) == 200
    await hub.at_rest()
    assert {*hub.texts} == {"in time"}


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("order_ready", "assistant.lateTemplate is no template"),
        ({"name": "order_ready"}, "assistant.lateTemplate is no template"),
        ({**LATE, "secret": "words"}, "assistant.lateTemplate is no template"),
        ({**LATE, "components": [7]}, "assistant.lateTemplate cannot be sent"),
        ({**LATE, "name": " "}, "assistant.lateTemplate cannot be sent"),
    ],
)
def test_template_that_cannot_be_one_is_a_fault_of_the_document(template: object, fault: str) -> None:
    read = read_business(business("101", assistant={"lateTemplate": template}), VAULT.decrypt)
    assert (read.fault or "").startswith(fault)
    assert "words" not in (read.fault or "")
