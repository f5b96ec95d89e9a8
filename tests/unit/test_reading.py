"""What a customer's message says, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whatsapp_hub.cloud_api.payload import read_webhook
from whatsapp_hub.cloud_api.reading import read_text, wants_reply

SAMPLES = Path(__file__).parents[1] / "samples"


def words(kind: str, body: object = None, **message: object) -> str:
    item = {"type": kind, **({} if body is None else {kind: body}), **message}
    read_kind, text = read_text(json.dumps(item).encode())
    assert read_kind == kind
    return text


@pytest.mark.parametrize(
    ("sample", "kind", "text"),
    [
        ("text", "text", "Does it come in another color? ä \U0001f600"),
        ("image", "image", "(image) Taj Mahal"),
        ("video", "video", "(video)"),
        ("audio", "audio", "(voice message)"),
        ("document", "document", "(document offer.pdf) as agreed"),
        ("sticker", "sticker", "(sticker)"),
        (
            "location",
            "location",
            "(location) Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301, 37.44216251868683, -122.16153582049394",
        ),
        ("contacts", "contacts", "(contacts) Barbara J. Johnson, +1 (415) 555-0829"),
        ("contacts_without_name", "contacts", "(own contact) +1 (415) 555-0829"),
        ("button_reply", "interactive", "Confirm"),
        ("list_reply", "interactive", "Priority Mail Express: Next day to 2 days"),
        ("flow_reply", "interactive", "(form) day: Friday; guests: 4"),
        ("call_permission_reply", "interactive", "(answer to a request to call) accept"),
        ("interactive_broken", "interactive", "(interactive message without readable content)"),
        ("quick_reply", "button", "Stop promotions"),
        ("reaction", "reaction", "\U0001f44d"),
        ("reaction_removed", "reaction", "(reaction removed)"),
        ("order", "order", "(order) 2 x di9ozbzfi4 at 30 USD; 1 x nqryix03ez at 25.5 USD. please wrap it"),
        ("system_number_changed", "system", "Sheena Nelson changed from 16505551234 to 12195555358"),
        ("unsupported", "unsupported", "(a message of a kind that WhatsApp does not pass on: video_note)"),
        ("edit", "edit", "(edited message) three, not two"),
        ("revoke", "revoke", "(message deleted)"),
        ("kind_of_tomorrow", "hologram", "(hologram message without readable content)"),
    ],
)
def test_every_kind_has_words(sample: str, kind: str, text: str) -> None:
    webhook = read_webhook((SAMPLES / f"{sample}.json").read_bytes(), now=1, new_id=None)

    assert read_text(webhook.messages[0].item) == (kind, text)


@pytest.mark.parametrize("item", [b"", b"{", b"5", b"null", b"[]", b"{}", b'{"type":5}', b'{"type":""}', b"\xff"])
def test_an_item_without_a_kind_has_words_too(item: bytes) -> None:
    assert read_text(item) == ("unknown", "(a message that could not be read)")


def test_an_unknown_kind_that_says_something_is_quoted() -> None:
    assert words("hologram", {"caption": "look"}) == "look"
    assert words("hologram", {"body": "look"}) == "look"


@pytest.mark.parametrize("body", [None, 5, "x", [], [5], {}, {"body": 5}, {"product_items": 5, "phones": {}}])
@pytest.mark.parametrize(
    "kind",
    ["text", "image", "audio", "document", "location", "contacts", "interactive", "button", "order", "edit", "system"],
)
def test_hostile_bodies_have_words(kind: str, body: object) -> None:
    assert words(kind, body).startswith("(")


def test_lone_surrogates_are_replaced() -> None:
    assert words("text", {"body": "a\ud83db"}) == "a?b"


def test_form_answers_may_be_nested_and_broken_forms_keep_their_title() -> None:
    form = {"response_json": '{"a":{"b":[1]},"flow_token":"x"}', "body": "Sent"}
    broken = {"response_json": "{", "body": "Sent"}
    deep = {"response_json": '{"a":' + "[" * 900 + "]" * 900 + "}", "body": "Sent"}

    assert words("interactive", {"nfm_reply": form}) == '(form) a: {"b":[1]}'
    assert words("interactive", {"nfm_reply": broken}) == "(form) Sent"
    assert words("interactive", {"nfm_reply": deep}) == "(form) Sent"


def test_an_edit_of_a_picture_is_read() -> None:
    edit = {"message": {"type": "image", "image": {"caption": "better"}}}

    assert words("edit", edit) == "(edited message) (image) better"
    assert words("edit", {"message": {"type": "edit", "edit": {}}}) == "(edited message)"


@pytest.mark.parametrize("kind", ["reaction", "system", "revoke"])
def test_notices_want_no_reply(kind: str) -> None:
    assert not wants_reply(kind)


@pytest.mark.parametrize("kind", ["text", "audio", "interactive", "unsupported", "edit", "hologram", "unknown"])
def test_what_a_customer_said_wants_a_reply(kind: str) -> None:
    assert wants_reply(kind)
