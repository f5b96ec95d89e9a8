"""What is remembered of a message of ours. Every kind of it as sent: ``tests/contract/test_outgoing_kinds.py``."""

from __future__ import annotations

from whatsapp_hub.cloud_api.outgoing import text_part
from whatsapp_hub.cloud_api.part_words import words_of
from whatsapp_hub.cloud_api.parts import build_parts
from whatsapp_hub.cloud_api.replies import Contacts, Template


def test_text_is_remembered_as_it_is() -> None:
    assert words_of(text_part(" (image) [Yes]\n")) == " (image) [Yes]\n"


def test_odd_components_of_a_template_are_passed_over() -> None:
    components: tuple[dict[str, object], ...] = (
        {"type": "body", "parameters": [{"type": "image"}, 7, {"text": "17"}]},
        {"parameters": 7},
        {},
    )
    (part,) = build_parts(Template(name="ready", language="en", components=components))
    assert words_of(part) == "(template ready)\n17"


def test_cards_are_remembered_by_name_and_number() -> None:
    cards = ({"name": {"formatted_name": "Ada"}, "phones": [{"phone": "+49 1"}]}, {"name": {"formatted_name": "Bob"}})
    (part,) = build_parts(Contacts(cards=cards))
    assert words_of(part) == "(contacts) Ada, +49 1; Bob"
