"""Replies as messages: whatever is to be said, Meta takes it, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_hub.cloud_api import replies
from whatsapp_hub.cloud_api.outgoing import build_send
from whatsapp_hub.cloud_api.parts import build_parts, read_reply, without_media
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
from whatsapp_hub.demo.message_check import check_content
from whatsapp_hub.errors import ReplyInvalid

Value = TypeVar("Value")
LINK = "https://example.com/a.jpg"


def built(reply: Reply) -> list[dict[str, Any]]:
    """Return the messages of a reply; each has to be one that Meta takes."""
    bodies = [orjson.loads(build_send(part, customer="49", callback_data="")) for part in build_parts(reply)]
    for body in bodies:
        check_content(body)
    return [orjson.loads(part) for part in build_parts(reply)]


# Whatever the reply

#: Around every limit, and with what is easily cut wrongly: accents, joined emoji, flags, line breaks.
ALPHABET = st.sampled_from("ab. \n\täé\u0301😀👍🏽\u200d👩🇩🇪…!-")
LENGTHS = st.sampled_from(
    [0, 1, 3, 19, 20, 21, 24, 25, 60, 61, 72, 73, 200, 257, 1023, 1024, 1025, 2100, 4096, 4097, 9000]
)
IDS = st.one_of(
    st.text(max_size=4), st.integers(0, 30).map(str), st.sampled_from([0, 199, 200, 201, 256, 257]).map("i".__mul__)
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text of a telling length, in which nothing repeats for long."""
    length = draw(LENGTHS)
    seed = draw(st.text(ALPHABET, min_size=1, max_size=12))
    counted = "".join(f"{seed}{n}" for n in range(length // (len(seed) + 1) + 1))
    return counted[:length]


WORDS = st.one_of(st.text(ALPHABET, max_size=30), texts())
LINKS = st.sampled_from(
    [LINK, "http://example.com/a.jpg", "ftp://example.com", "https://", "https:// x", "", "https://[", "x"]
)
MEDIA = st.one_of(
    st.builds(Media, link=LINKS),
    st.builds(Media, id=st.sampled_from(["1", "", " "])),
    st.just(Media(data=b"x")),
    st.just(Media()),
)
QUOTED = st.sampled_from([None, "wamid.quoted"])
ROWS = st.lists(st.builds(ListRow, id=IDS, title=WORDS, description=WORDS), max_size=13).map(tuple)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.dictionaries(
    st.sampled_from(["formatted_name", "first_name", "last_name", "suffix"]), st.one_of(WORDS, st.none())
)
CARDS = st.one_of(
    st.fixed_dictionaries({"name": NAMES}, optional={"phones": st.just([{"phone": "+49 1"}]), "org": JSON}),
    st.dictionaries(st.text(max_size=3), JSON, max_size=2),
)
AROUND: dict[str, st.SearchStrategy[Any]] = {"header": WORDS, "body": WORDS, "footer": WORDS, "reply_to": QUOTED}
CHOICES = st.one_of(
    st.builds(Buttons, buttons=st.lists(st.builds(Button, id=IDS, title=WORDS), max_size=5).map(tuple), **AROUND),
    st.builds(
        ChoiceList,
        button=WORDS,
        sections=st.lists(st.builds(ListSection, rows=ROWS, title=WORDS), max_size=12).map(tuple),
        **AROUND,
    ),
    st.builds(LinkButton, display_text=WORDS, url=LINKS, **AROUND),
)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Text, body=WORDS, preview_url=st.booleans(), reply_to=QUOTED),
    st.builds(Image, media=MEDIA, caption=WORDS, reply_to=QUOTED),
    st.builds(Video, media=MEDIA, caption=WORDS),
    st.builds(Audio, media=MEDIA, voice=st.booleans(), words=WORDS),
    st.builds(Document, media=MEDIA, caption=WORDS, filename=st.text(ALPHABET, max_size=9)),
    st.builds(Sticker, media=MEDIA),
    st.builds(Location, latitude=st.floats(), longitude=st.floats(-200, 200), name=WORDS, address=WORDS),
    st.builds(Contacts, cards=st.lists(CARDS, max_size=3).map(tuple)),
    st.builds(Reaction, message_id=IDS, emoji=st.one_of(WORDS, st.sampled_from(["👍🏽", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]))),
    CHOICES,
    st.builds(
        Template, name=IDS, language=st.sampled_from(["en_US", ""]), components=st.lists(CARDS, max_size=2).map(tuple)
    ),
    st.builds(LocationRequest, body=WORDS, reply_to=QUOTED),
)


@given(REPLIES)
def test_whatever_the_reply_meta_takes_every_message_of_it(reply: Reply) -> None:
    try:
        messages = built(reply)
    except ReplyInvalid:
        return
    quoted = [n for n, message in enumerate(messages) if "context" in message]
    assert quoted in ([], [0])


@given(REPLIES)
def test_what_is_built_can_be_read_and_is_built_the_same_again(reply: Reply) -> None:
    try:
        parts = build_parts(reply)
    except ReplyInvalid:
        return
    assert [build_parts(read_reply(orjson.loads(part))) for part in parts] == [[part] for part in parts]


@given(CHOICES)
def test_no_word_is_lost_whatever_becomes_of_choices(reply: Buttons | ChoiceList | LinkButton) -> None:
    said = squeezed(*(words for message in built(reply) for words in shown(message)))
    for words in to_be_said(reply):
        assert squeezed(words) in said


@given(WORDS, st.sampled_from([Image, Video, Document]))
def test_no_word_of_a_caption_is_lost(caption: str, kind: type[Image | Video | Document]) -> None:
    first, *rest = built(kind(media=Media(id="1"), caption=caption))
    said = [first[first["type"]].get("caption", ""), *(message["text"]["body"] for message in rest)]
    assert squeezed(*said) == squeezed(caption)


def squeezed(*words: str) -> str:
    return "".join("".join(words).split())


def shown(message: dict[str, Any]) -> Iterator[str]:
    """Yield what a customer reads of a message, in order."""
    if message["type"] == "text":
        yield message["text"]["body"]
        return
    interactive = message["interactive"]
    yield interactive.get("header", {}).get("text", "")
    yield interactive["body"]["text"]
    yield interactive.get("footer", {}).get("text", "")
    action = interactive["action"]
    yield from (button["reply"]["title"] for button in action.get("buttons", ()))
    for section in action.get("sections", ()):
        yield section.get("title", "")
        for row in section["rows"]:
            yield from (row["title"], row.get("description", ""))
    yield from action.get("parameters", {}).values()


def to_be_said(reply: Buttons | ChoiceList | LinkButton) -> Iterator[str]:
    """Yield all that a reply says but what opens a list, which says nothing where no list opens."""
    yield from (reply.header, reply.body, reply.footer)
    match reply:
        case Buttons(buttons=buttons):
            yield from (button.title for button in buttons)
        case ChoiceList(sections=sections):
            for section in sections:
                yield section.title
                yield from (words for row in section.rows for words in (row.title, row.description))
        case LinkButton(display_text=display_text, url=url):
            yield from (display_text, url)


# Each limit to the letter


def words_of(length: int) -> str:
    """Return a text that may be cut anywhere."""
    return ("abcdefghi " * 500)[:length].replace(" ", "-")


def with_buttons(**changes: Any) -> Buttons:
    return Buttons(**{"body": "?", "buttons": (Button(id="1", title="Yes"),), **changes})


def with_rows(*, button: str = "Open", section: str = "", **row: str) -> ChoiceList:
    first, second = ListRow(**{"id": "1", "title": "One", **row}), ListRow(id="2", title="Two")
    return ChoiceList(body="?", button=button, sections=(ListSection(rows=(first, second), title=section),))


def many_rows(count: int, sections: int = 1) -> ChoiceList:
    rows = tuple(ListRow(id=str(n), title=f"Row {n}") for n in range(count))
    share = -(-count // sections)
    shares = tuple(ListSection(rows=rows[n : n + share], title=f"{n}") for n in range(0, count, share))
    return ChoiceList(body="?", button="Open", sections=shares)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda n: Text(body=words_of(n)), 4096),
        (lambda n: Image(media=Media(id="1"), caption=words_of(n)), 1024),
        (lambda n: Video(media=Media(id="1"), caption=words_of(n)), 1024),
        (lambda n: Document(media=Media(id="1"), caption=words_of(n)), 1024),
        (lambda n: with_buttons(body=words_of(n)), 1024),
        (lambda n: with_buttons(header=words_of(n)), 60),
        (lambda n: with_buttons(footer=words_of(n)), 60),
        (lambda n: with_buttons(buttons=(Button(id="1", title=words_of(n)),)), 20),
        (lambda n: with_buttons(buttons=(Button(id=words_of(n), title="Yes"),)), 256),
        (lambda n: with_buttons(buttons=tuple(Button(id=f"{i}", title=f"{i}") for i in range(n))), 3),
        (lambda n: ChoiceList(body=words_of(n), button="Open", sections=with_rows().sections), 4096),
        (lambda n: with_rows(button=words_of(n)), 20),
        (lambda n: with_rows(section=words_of(n)), 24),
        (lambda n: with_rows(id=words_of(n)), 200),
        (lambda n: with_rows(title=words_of(n), description="d"), 24),
        (lambda n: with_rows(description=words_of(n)), 72),
        (many_rows, 10),
        (lambda n: LinkButton(body=words_of(n), display_text="Open", url=LINK), 1024),
        (lambda n: LinkButton(body="?", display_text=words_of(n), url=LINK), 20),
        (lambda n: LocationRequest(body=words_of(n)), 1024),
        (lambda n: Contacts(cards=({"name": {"formatted_name": "A", "first_name": "A"}},) * n), 257),
    ],
)
def test_what_is_as_long_as_allowed_is_sent_as_it_is_and_what_is_longer_otherwise(make: Any, limit: int) -> None:
    reply = make(limit)
    (message,) = built(reply)
    assert read_reply(message) == reply  # nothing was changed
    longer = built(make(limit + 1))  # and Meta takes that as well
    assert len(longer) > 1 or read_reply(longer[0]) != make(limit + 1)


# The usual forms


def test_up_to_three_buttons_are_buttons() -> None:
    (message,) = built(
        Buttons(body="Sure?", buttons=(Button(id="y", title="Yes"), Button(id="n", title="No")), header="Order")
    )
    assert message["interactive"] == {
        "type": "button",
        "header": {"type": "text", "text": "Order"},
        "body": {"text": "Sure?"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": "y", "title": "Yes"}},
                {"type": "reply", "reply": {"id": "n", "title": "No"}},
            ]
        },
    }


def test_more_buttons_become_a_list_and_more_than_a_list_holds_numbered_lines() -> None:
    def some(count: int, id_length: int = 1) -> Buttons:
        buttons = tuple(Button(id=str(n) * id_length, title=f"Table {n}") for n in range(count))
        return Buttons(body="Which one?", buttons=buttons, footer="Thanks")

    (message,) = built(some(10))
    action = message["interactive"]["action"]
    assert (message["interactive"]["type"], action["button"]) == ("list", "Menu")
    assert action["sections"] == [{"rows": [{"id": str(n), "title": f"Table {n}"} for n in range(10)]}]
    (message,) = built(some(11))
    lines = "\n".join(f"{n + 1}. Table {n}" for n in range(11))
    assert message == {"type": "text", "text": {"body": f"Which one?\n\n{lines}\n\nThanks"}}
    assert built(some(4, id_length=201))[0]["type"] == "text"  # a row's id is shorter than a button's
    assert built(some(3, id_length=256))[0]["interactive"]["type"] == "button"


def test_id_is_never_cut() -> None:
    (message,) = built(Buttons(body="?", buttons=(Button(id="y" * 257, title="Yes"),)))
    assert message["text"]["body"] == "?\n\n1. Yes"


def test_label_that_is_cut_stands_in_full_in_the_body() -> None:
    (message,) = built(Buttons(body="?", buttons=(Button(id="y", title="Yes, deliver it tomorrow morning"),)))
    assert message["interactive"]["body"]["text"] == "?\n\n- Yes, deliver it tomorrow morning"
    assert message["interactive"]["action"]["buttons"][0]["reply"]["title"] == "Yes, deliver it…"


def test_long_title_of_a_row_goes_on_in_its_description() -> None:
    title = "A room with a view of the sea"
    (message,) = built(
        ChoiceList(body="?", button="Open", sections=(ListSection(rows=(ListRow(id="1", title=title),)),))
    )
    (row,) = message["interactive"]["action"]["sections"][0]["rows"]
    assert row == {"id": "1", "title": "A room with a view of…", "description": title}
    assert message["interactive"]["body"]["text"] == "?"


def test_sections_of_a_long_list_become_lines_under_their_titles() -> None:
    sections = tuple(
        ListSection(
            title=f"Day {d}", rows=tuple(ListRow(id=f"{d}{n}", title=f"{n} h", description="free") for n in range(6))
        )
        for d in range(2)
    )
    (message,) = built(ChoiceList(body="When?", button="Open", sections=sections))
    lines = message["text"]["body"].splitlines()
    assert lines[:4] == ["When?", "", "Day 0", "1. 0 h: free"]
    assert lines[9:11] == ["Day 1", "7. 0 h: free"]


def test_body_that_is_too_long_goes_first_as_text() -> None:
    body = " ".join(f"word{n}" for n in range(900))
    *before, last = built(LinkButton(header="Read this", body=body, display_text="More", url=LINK))
    assert [message["type"] for message in before] == ["text", "text"]
    assert before[0]["text"]["body"].startswith("Read this\n\nword0")
    assert "header" not in last["interactive"]
    assert last["interactive"]["action"]["parameters"] == {"display_text": "More", "url": LINK}


def test_link_button_without_https_becomes_a_text_with_the_link() -> None:
    (message,) = built(LinkButton(body="Look", display_text="Shop", url="http://example.com"))
    assert message["text"]["body"] == "Look\n\nShop: http://example.com"


def test_caption_that_is_too_long_follows_its_picture() -> None:
    first, second = built(Image(media=Media(link=LINK), caption="x" * 1025, reply_to="wamid.1"))
    assert first == {"type": "image", "image": {"link": LINK}, "context": {"message_id": "wamid.1"}}
    assert second == {"type": "text", "text": {"body": "x" * 1025}}


def test_many_contacts_are_several_messages_and_a_bare_name_is_also_a_first_name() -> None:
    cards = tuple({"name": {"formatted_name": f"Name {n}"}, "phones": [{"phone": "+49"}]} for n in range(258))
    first, second = built(Contacts(cards=cards))
    assert (len(first["contacts"]), len(second["contacts"])) == (257, 1)
    assert second["contacts"][0] == {
        "name": {"formatted_name": "Name 257", "first_name": "Name 257"},
        "phones": [{"phone": "+49"}],
    }


def test_voice_that_cannot_be_one_is_a_sound() -> None:
    def form(mime_type: str | None) -> object:
        return built(Audio(media=Media(id="1", mime_type=mime_type), voice=True))[0]["audio"]

    assert form(None) == form("audio/ogg") == form("audio/ogg; codecs=opus") == {"id": "1", "voice": True}
    assert form("audio/mpeg") == {"id": "1"}


@pytest.mark.parametrize("emoji", ["👍", "👍🏽", "❤️", "👩‍👩‍👧", "🇩🇪", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", ""])
def test_emoji_is_a_reaction(emoji: str) -> None:
    assert built(Reaction(message_id="wamid.1", emoji=emoji)) == [
        {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": emoji}}
    ]


@pytest.mark.parametrize("words", ["Thanks!", "👍👍", "7"])
def test_reaction_that_is_no_emoji_is_said_below_the_message(words: str) -> None:
    assert built(Reaction(message_id="wamid.1", emoji=words)) == [
        {"type": "text", "text": {"body": words}, "context": {"message_id": "wamid.1"}}
    ]


def test_address_without_a_name_is_shown_as_the_name_and_no_place_is_told_in_words() -> None:
    (message,) = built(Location(latitude=1, longitude=2, address="Main Street 1"))
    assert message["location"]["name"] == "Main Street 1"
    (message,) = built(Location(latitude=91, longitude=2, name="Shop", address="Main Street 1"))
    assert message["text"]["body"] == "Shop\nMain Street 1"


def test_preview_is_shown_with_the_first_link() -> None:
    body = f"{'x ' * 3000}https://example.com"
    first, second = built(Text(body=body, preview_url=True))
    assert ("preview_url" in first["text"], second["text"]["preview_url"]) == (False, True)


def test_half_a_surrogate_is_replaced_in_every_kind() -> None:
    (message,) = built(Buttons(body="\ud800", buttons=(Button(id="1", title="\ud83d\ude00"),)))
    assert message["interactive"]["body"]["text"] == "\ufffd"
    assert message["interactive"]["action"]["buttons"][0]["reply"]["title"] == "😀"


@pytest.mark.parametrize(
    "reply",
    [
        Image(media=Media(link="ftp://example.com/a.jpg")),
        Image(media=Media(link=LINK, id="1")),
        Image(media=Media()),
        Image(media=Media(data=b"secret words")),
        Sticker(media=Media(id="")),
        Location(latitude=91, longitude=0),
        Location(latitude=float("nan"), longitude=0),
        Contacts(cards=({"phones": []},)),
        Contacts(cards=({"name": {"formatted_name": "secret words"}, "x": object()},)),
        Contacts(cards=({"name": {"formatted_name": "secret words"}, "x": 2**70},)),
        Contacts(cards=({"name": {"formatted_name": "secret words"}, "x": float("inf")},)),
        Reaction(message_id="", emoji="👍"),
        LocationRequest(body=" "),
        Template(name="", language="en_US"),
        Template(name="secret words", language=""),
    ],
)
def test_what_cannot_be_mended_is_refused_in_words_that_quote_nobody(reply: Reply) -> None:
    with pytest.raises(ReplyInvalid) as caught:
        build_parts(reply)
    assert "secret" not in str(caught.value)


def test_every_kind_is_built() -> None:
    """A new kind of reply has to come into the strategy of this file, too."""
    kinds = {kind.__name__ for kind in replies.Reply.__args__}
    assert kinds == {
        "Text", "Image", "Video", "Audio", "Document", "Sticker", "Location", "Contacts", "Reaction", "Buttons",
        "ChoiceList", "LinkButton", "Template", "LocationRequest",
    }  # fmt: skip


def test_caption_is_what_is_left_without_the_media() -> None:
    (part,) = build_parts(Image(media=Media(id="1"), caption="Look", reply_to="wamid.1"))
    assert orjson.loads(without_media(part) or b"") == {
        "type": "text",
        "text": {"body": "Look"},
        "context": {"message_id": "wamid.1"},
    }
    for reply in (Sticker(media=Media(id="1")), Contacts(cards=({"name": {"formatted_name": "A"}},))):
        assert without_media(build_parts(reply)[0]) is None


# Meta's form


def test_example_of_the_manual_is_read() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "message-kinds.md").read_text()
    example = manual.partition("### Meta's form")[2].partition("```json\n")[2].partition("```")[0]
    reply = read_reply(orjson.loads(example))
    assert isinstance(reply, Buttons)
    assert [button.title for button in reply.buttons] == ["Yes"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no object"),
        ([], "no object"),
        ({}, "type is none of text"),
        ({"type": "hologram"}, "type is none of text"),
        ({"type": ["text"]}, "type is none of text"),
        ({"type": "text", "text": {"body": "x"}, "to": "4917"}, "not chosen here"),
        ({"type": "text", "text": {"body": "x"}, "recipient": "US.1"}, "not chosen here"),
        ({"type": "text", "text": {"body": "x"}, "recipient_type": "group"}, "not individual"),
        ({"type": "text", "text": {"body": "x"}, "secret": 1}, "a key that is not known"),
        ({"type": "text", "text": {"body": "x", "secret": 1}}, "a key that is not known"),
        ({"type": "text", "text": "secret"}, "text is no object"),
        ({"type": "text", "text": {"body": 7}}, "no text as its body"),
        ({"type": "text", "text": {"body": "x", "preview_url": "secret"}}, "neither true nor false"),
        ({"type": "text", "text": {"body": "x"}, "context": "secret"}, "context is no object"),
        ({"type": "image", "image": {"caption": "secret"}}, "exactly one of link and id"),
        ({"type": "image", "image": {"id": "1", "link": LINK}}, "exactly one of link and id"),
        ({"type": "audio", "audio": {"id": "1", "caption": "secret"}}, "a key that is not known"),
        ({"type": "location", "location": {"latitude": "secret", "longitude": 1}}, "no number as its latitude"),
        ({"type": "location", "location": {"latitude": True, "longitude": 1}}, "no number as its latitude"),
        ({"type": "contacts", "contacts": {}}, "no list of objects"),
        ({"type": "reaction", "reaction": {"emoji": "x"}}, "no text as its message_id"),
        ({"type": "interactive", "interactive": {"type": "flow"}}, "interactive.type is none of"),
        ({"type": "interactive", "interactive": {"type": "list", "body": {"text": "x"}}}, "action is no object"),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "cta_url",
                    "body": {"text": "x"},
                    "action": {"name": "secret", "parameters": {}},
                },
            },
            "action.name is not cta_url",
        ),
        (
            {
                "type": "interactive",
                "interactive": {"type": "button", "header": {"type": "image"}, "body": {"text": "x"}, "action": {}},
            },
            "header is of another type than text",
        ),
        ({"type": "template", "template": {"name": "x"}}, "language is no object"),
        (
            {"type": "template", "template": {"name": "x", "language": {"code": "en"}, "components": [1]}},
            "list of objects",
        ),
    ],
)
def test_what_is_no_reply_is_refused_in_words_that_quote_nobody(value: object, words: str) -> None:
    with pytest.raises(ReplyInvalid, match=words) as caught:
        read_reply(value)
    assert "secret" not in str(caught.value)


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "interactive", "image", "contacts"])},
            optional={"text": JSON, "interactive": JSON, "image": JSON, "contacts": JSON},
        ),
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    with suppress(ReplyInvalid):
        read_reply(value)
