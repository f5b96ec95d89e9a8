from __future__ import annotations

import pytest

from whatsapp_hub.telemetry.redaction import Redactor, masked, outlined

redactor = Redactor(["an-app-secret-of-ours", "short"])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Authorization: Bearer abc.def-x", "Authorization: Bearer ***"),
        ("{'Authorization': 'Bearer abcdef', 'Accept': '*'}", "{'Authorization': 'Bearer ***', 'Accept': '*'}"),
        ("BEARER abcdef refused", "BEARER *** refused"),
        ("GET /me?access_token=EAAGx1&fields=id", "GET /me?access_token=***&fields=id"),
        ("?hub.mode=subscribe&hub.verify_token=hush&hub.challenge=1", None),
        ("token EAAGm0PX4ZCpsBAKZC refused", "token *** refused"),
        ("key sk-proj-abcdefghijklmnop_qrs", "key ***"),
        ("stored gAAAAABmabcdefghijklmnopqrstuv==", "stored ***"),
        ("stored " + b"gAAAAABmabcdefghijklmnopqrst".hex(), "stored ***"),
        ("{'whatsappAppSecret': 'abcd', 'name': 'x'}", "{'whatsappAppSecret': '***', 'name': 'x'}"),
        ('{"apiKey":"abcd"}', '{"apiKey":"***"}'),
        ("api_key = abcd", "api_key = ***"),
        ("mongodb://user:p%40ss@db:27017/?x=y", "mongodb://user:***@db:27017/?x=y"),
        ("mongodb+srv://user:p@ss@db", "mongodb+srv://user:***@db"),
        ("redis://:pw@cache", "redis://:***@cache"),
        ("an-app-secret-of-ours leaked", "*** leaked"),
        (f"key whk_0a1b2c3d4e5f_{'aB3-_' * 8}xyz was used", "key *** was used"),
    ],
)
def test_secrets_are_taken_out(text: str, cleaned: str | None) -> None:
    expected = "?hub.mode=subscribe&hub.verify_token=***&hub.challenge=1" if cleaned is None else cleaned
    assert redactor.clean(text) == expected


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("from 4915112345678's phone", "from [number]'s phone"),
        ("to=+4915112345678,", "to=[number],"),
        ("106540352242922:4915112345678", "[number]:[number]"),
        ("customer_4915112345678", "customer_[number]"),
        ("call +49 151 1234-5678 now", "call [number] now"),
        ("recipient US.13491208655302741918 gone", "recipient [number] gone"),
        ("recipient US.ENT.11815799212886844830", "recipient [number]"),
    ],
)
def test_numbers_of_people_are_taken_out(text: str, cleaned: str) -> None:
    assert redactor.clean(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "turn replied",
        "took 0.12345678901 s, 250 rows, code 131047",
        "business 64a12345678901234567890a at 0x7f3a12345678",
        "encryption_secret: missing",
        "access token refused",
        "https://graph.facebook.com/v26.0/me?fields=id",
        "http://127.0.0.1:8000/health",
        "no short words are secrets",
        'File "/srv/hub/app.py", line 63, in serve',
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redactor.clean(text) == text


def test_ids_keep_their_digits_but_not_their_secrets() -> None:
    assert redactor.hide_secrets("106540352242922 EAAGm0PX4ZCpsBAKZC") == "106540352242922 ***"


@pytest.mark.parametrize(
    ("customer", "name"),
    [("4915112345678", "***5678"), ("US.13491208655302741918", "***1918"), ("12345678", "***78"), ("7", "***7")],
)
def test_a_customer_is_named_by_the_last_characters(customer: str, name: str) -> None:
    assert masked(customer) == name


@pytest.mark.parametrize(
    ("customer", "shown"),
    [
        ("491511234678", "+49 151 \u2022\u2022\u2022\u2022\u2022 678"),
        ("4412345678", "+44 \u2022\u2022\u2022\u2022\u2022 678"),
        ("12345", "\u2022\u2022\u2022\u2022\u2022 5"),
        ("DE.13491208655302741918", "\u2022\u2022\u2022\u2022\u2022 918"),
        ("", "\u2022\u2022\u2022\u2022\u2022 "),
    ],
)
def test_customer_is_outlined_for_people(customer: str, shown: str) -> None:
    assert outlined(customer) == shown
