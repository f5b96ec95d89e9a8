"""Every kind of message, posted over HTTP: what the assistant is given; and what is no message ends in ``events``."""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from tests.hub import Hub, business, hubs_on, own_database
from tests.spy import SPIES, Given, Spy
from whatsapp_hub.cloud_api.contents import (
    CallPermissionContent,
    ChoiceContent,
    ContactCard,
    ContactsContent,
    Content,
    Context,
    EditContent,
    FormContent,
    LocationContent,
    MediaContent,
    OrderContent,
    OrderLine,
    OtherContent,
    ProductContent,
    Referral,
    TextContent,
    UnsupportedContent,
)

SAMPLES: Final = Path(__file__).parents[1] / "samples"
NUMBER: Final = "106540352242922"
DIGEST: Final = "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI="
CARD: Final = ContactCard(name="Barbara J. Johnson", phones=("+1 (415) 555-0829",))
BROKEN: Final = "a message of a kind that WhatsApp does not pass on"

on_the_shared_hub = pytest.mark.asyncio(loop_scope="module")
ids = count()


def media(kind: str, mime_type: str, **more: Any) -> MediaContent:
    return MediaContent(kind=kind, id="1908647269898587", mime_type=mime_type, sha256=DIGEST, **more)


@dataclass
class Listening:
    """A hub whose assistant is a spy."""

    hub: Hub
    spy: Spy

    async def post(self, sample: str) -> list[str]:
        """Post a sample from a customer of its own; return the ids of its messages."""
        payload = orjson.loads((SAMPLES / f"{sample}.json").read_bytes())
        wamids = []
        for entry in payload["entry"]:
            for change in entry["changes"]:
                for message in change["value"].get("messages", ()):
                    number = next(ids)
                    wamids.append(f"wamid.{number}")
                    message |= {"id": wamids[-1], "timestamp": str(int(time.time()))}
                    message |= {key: f"{number:015}" for key in ("from", "from_user_id") if key in message}
        assert await self.hub.post(payload) == 200
        await self.hub.at_rest()
        return wamids

    async def given(self, sample: str) -> Given:
        (wamid,) = await self.post(sample)
        return self.spy.given[wamid]


@pytest_asyncio.fixture(name="listening", loop_scope="module", scope="module")
async def _listening(mongodb_uri: str) -> AsyncIterator[Listening]:
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_one(business(NUMBER, wabaId="102290129340398"))
        hub = await start(ASSISTANT="spy", ASSISTANTS="spy=tests.spy:make")
        yield Listening(hub=hub, spy=SPIES[-1])


GIVEN: Final[dict[str, tuple[str, Content]]] = {
    "text": (
        "Does it come in another color? ä \U0001f600",
        TextContent(body="Does it come in another color? ä \U0001f600"),
    ),
    "image": (
        "(image) Taj Mahal",
        media(
            "image",
            "image/jpeg",
            caption="Taj Mahal",
            url="https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&source=webhook",
        ),
    ),
    "video": ("(video)", media("video", "video/mp4")),
    "audio": ("(voice message)", media("audio", "audio/ogg; codecs=opus", voice=True)),
    "audio_file": (
        "(audio)",
        MediaContent(kind="audio", id="1908647269898588", mime_type="audio/mpeg", sha256=DIGEST),
    ),
    "document": (
        "(document offer.pdf) as agreed",
        media("document", "application/pdf", filename="offer.pdf", caption="as agreed"),
    ),
    "sticker": ("(sticker)", media("sticker", "image/webp")),
    "location": (
        "(location) Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301, 37.44216251868683, -122.16153582049394",
        LocationContent(
            latitude=37.44216251868683,
            longitude=-122.16153582049394,
            name="Philz Coffee",
            address="101 Forest Ave, Palo Alto, CA 94301",
        ),
    ),
    "contacts": ("(contacts) Barbara J. Johnson, +1 (415) 555-0829", ContactsContent(cards=(CARD,))),
    "contacts_without_name": (
        "(own contact) +1 (415) 555-0829",
        ContactsContent(cards=(ContactCard(phones=CARD.phones),), origin="contact_request"),
    ),
    "button_reply": ("Confirm", ChoiceContent(source="button", id="confirm", title="Confirm")),
    "list_reply": (
        "Priority Mail Express: Next day to 2 days",
        ChoiceContent(
            source="list", id="priority_express", title="Priority Mail Express", description="Next day to 2 days"
        ),
    ),
    "flow_reply": (
        "(form) day: Friday; guests: 4",
        FormContent(name="flow", body="Sent", answers={"day": "Friday", "guests": 4}, flow_token="ft1"),
    ),
    "call_permission_reply": (
        "(answer to a request to call) accept",
        CallPermissionContent(response="accept", source="user_action", expires_at=1750000000),
    ),
    "product_reply": (
        "(product) Bread, di9ozbzfi4",
        ProductContent(catalog_id="194836987003835", product_id="di9ozbzfi4", title="Bread"),
    ),
    "interactive_broken": (
        "(interactive message without readable content)",
        UnsupportedContent(kind="interactive", code=None),
    ),
    "quick_reply": ("Stop promotions", ChoiceContent(source="template", id="STOP_PROMOTIONS", title="Stop promotions")),
    "order": (
        "(order) 2 x di9ozbzfi4 at 30 USD; 1 x nqryix03ez at 25.5 USD. please wrap it",
        OrderContent(
            catalog_id="194836987003835",
            lines=(
                OrderLine(product_id="di9ozbzfi4", quantity="2", price="30", currency="USD"),
                OrderLine(product_id="nqryix03ez", quantity="1", price="25.5", currency="USD"),
            ),
            text="please wrap it",
        ),
    ),
    "unsupported": (f"({BROKEN}: video_note)", UnsupportedContent(kind="video_note", code=131051)),
    "edit": (
        "(edited message) three, not two",
        EditContent(original_message_id="wamid.HBgLFIRST", kind="text", content=TextContent(body="three, not two")),
    ),
    "edit_image": (
        "(edited message) (image) the red one",
        EditContent(
            original_message_id="wamid.HBgLFIRST",
            kind="image",
            content=media("image", "image/jpeg", caption="the red one"),
        ),
    ),
    "kind_of_tomorrow": ("(hologram message without readable content)", OtherContent()),
}


@on_the_shared_hub
@pytest.mark.parametrize("sample", GIVEN)
async def test_assistant_is_given_every_kind_in_words_and_as_a_value(listening: Listening, sample: str) -> None:
    text, content = GIVEN[sample]
    given = await listening.given(sample)
    assert (given.text, given.content) == (text, content)
    assert (given.referral, given.group_id) == (None, None)


@on_the_shared_hub
@pytest.mark.parametrize(
    ("sample", "context", "reply_to"),
    [
        ("text_reply", Context(message_id="wamid.HBgLFIRST", sender="15550783881"), "wamid.HBgLFIRST"),
        ("text_forwarded", Context(forwarded=True, frequently_forwarded=True), None),
        (
            "text_about_product",
            Context(
                message_id="wamid.HBgLFIRST",
                sender="15550783881",
                catalog_id="194836987003835",
                product_id="di9ozbzfi4",
            ),
            "wamid.HBgLFIRST",
        ),
    ],
)
async def test_assistant_is_given_what_a_message_refers_to(
    listening: Listening, sample: str, context: Context, reply_to: str | None
) -> None:
    given = await listening.given(sample)
    assert (given.context, given.reply_to) == (context, reply_to)


@on_the_shared_hub
async def test_assistant_is_given_the_ad_and_the_group(listening: Listening) -> None:
    assert (await listening.given("text_from_ad")).referral == Referral(
        source_url="https://fb.me/3cr4Wqqkv",
        source_id="120226305854810726",
        source_type="ad",
        headline="Chat with us",
        body="Summer succulents",
        media_type="image",
        media_url="https://scontent.example/1.jpg",
        click_id="Aff-n8ZTODiE79d22KtAwQKj9e",
    )
    assert (await listening.given("text_in_group")).group_id == "HBgLMTY1MDM4Nzk0MzkVAgASGBQ"


@on_the_shared_hub
@pytest.mark.parametrize(
    "sample",
    [
        "reaction",
        "reaction_removed",
        "revoke",
        "system_number_changed",
        "system_user_id_changed",
        "system_identity_changed",
    ],
)
async def test_notices_are_stored_and_nobody_is_asked(listening: Listening, sample: str) -> None:
    (wamid,) = await listening.post(sample)
    row = await listening.hub.row(NUMBER, wamid)
    assert (row["state"], row["outcome"]) == ("done", "no_reply")
    assert wamid not in listening.spy.given


FIELDS: Final = {
    "account_alerts": "account_alerts",
    "account_disabled": "account_update",
    "account_restricted": "account_update",
    "account_update": "account_update",
    "account_violation": "account_update",
    "app_state_sync": "smb_app_state_sync",
    "business_username": "business_username_update",
    "call_connect": "calls",
    "call_status": "calls",
    "echo": "smb_message_echoes",
    "echo_revoke": "smb_message_echoes",
    "errors_only": "messages",
    "field_of_tomorrow": "holograms",
    "group_participants": "group_participants_update",
    "handover": "messaging_handovers",
    "history": "history",
    "phone_number_quality": "phone_number_quality_update",
    "standby": "standby",
    "standby_echo": "standby",
    "template_category": "template_category_update",
    "template_components": "message_template_components_update",
    "template_quality": "message_template_quality_update",
    "template_rejected": "message_template_status_update",
    "template_status": "message_template_status_update",
    "user_actions": "messages",
    "user_id_update": "user_id_update",
    "user_preferences": "user_preferences",
}


@on_the_shared_hub
@pytest.mark.parametrize("sample", FIELDS)
async def test_what_is_no_message_is_kept_whole_and_counted(listening: Listening, sample: str) -> None:
    hub, field = listening.hub, FIELDS[sample]
    label = "unknown" if field == "holograms" else field
    before = await hub.sample("whatsapp_hub_events_total", field=label)
    payload = orjson.loads((SAMPLES / f"{sample}.json").read_bytes())
    change = payload["entry"][0]["changes"][0]
    change["value"]["of_this_test"] = mark = f"mark-{next(ids)}"  # another than that of other tests

    assert await hub.post(payload) == 200

    found = await hub.database.events.find({"field": field}).to_list(None)
    (event,) = [one for one in found if mark.encode() in one["item"]]
    kept = orjson.loads(event["item"])
    kept.pop("time", None)
    assert kept == change
    assert await hub.sample("whatsapp_hub_events_total", field=label) == before + 1
    assert not [given for given in listening.spy.given.values() if mark.encode() in given.message.raw]


@on_the_shared_hub
async def test_kinds_and_fields_that_nobody_knows_are_counted(listening: Listening) -> None:
    hub = listening.hub
    before = [await hub.sample("whatsapp_hub_unknown_total", what=what) for what in ("message", "field")]
    await listening.post("kind_of_tomorrow")
    payload = orjson.loads((SAMPLES / "field_of_tomorrow.json").read_bytes())
    payload["entry"][0]["changes"][0]["value"]["of_this_test"] = next(ids)
    assert await hub.post(payload) == 200
    after = [await hub.sample("whatsapp_hub_unknown_total", what=what) for what in ("message", "field")]
    assert after == [before[0] + 1, before[1] + 1]


@on_the_shared_hub
async def test_one_broken_item_of_each_sort_stops_no_sibling(listening: Listening) -> None:
    hub = listening.hub
    good = {"from": "4917", "timestamp": str(int(time.time())), "type": "text", "text": {"body": "here"}}
    broken: list[Any] = [
        5,
        None,
        "x",
        [],
        {},
        {**good, "type": 5, "id": "wamid.odd1"},
        {**good, "id": 5},
        {**good, "type": "image", "image": "x", "id": "wamid.odd2"},
        {**good, "type": "order", "order": {"product_items": {"a": 1}}, "id": "wamid.odd3"},
        {**good, "type": "contacts", "contacts": [5, None, {"name": 5, "phones": 5}], "id": "wamid.odd4"},
    ]
    messages: list[Any] = []
    for number, item in enumerate(broken):
        messages += [item, {**copy.deepcopy(good), "id": f"wamid.good{number}", "from": f"49170{number}"}]
    value = {"metadata": {"phone_number_id": NUMBER}, "messages": messages}
    assert await hub.post({"entry": [{"id": "w", "changes": [{"field": "messages", "value": value}]}]}) == 200
    await hub.at_rest()
    assert all(f"wamid.good{number}" in listening.spy.given for number in range(len(broken)))
    assert all(f"wamid.odd{number}" in listening.spy.given for number in range(1, 5))


def test_every_sample_is_tested_here_or_is_about_something_else() -> None:
    elsewhere = {
        # envelopes and keys: test_payload
        "batch",
        "contacts_only",
        "extra_keys",
        "load_test",
        "text_bsuid_only",
        "text_old",
        # with a test of their own above
        "reaction",
        "reaction_removed",
        "revoke",
        "system_identity_changed",
        "system_number_changed",
        "system_user_id_changed",
        "text_about_product",
        "text_forwarded",
        "text_from_ad",
        "text_in_group",
        "text_reply",
    }
    names = {path.stem for path in SAMPLES.glob("*.json")}
    statuses = {name for name in names if name.startswith("status_")}
    assert names == {*GIVEN, *FIELDS} | elsewhere | statuses
