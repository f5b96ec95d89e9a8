from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.business import Business
from whatsapp_hub.tenants.documents import BUSINESS_FIELDS, ROW_FIELDS, read_business, read_row
from whatsapp_hub.tenants.table import Row

EXPIRES_AT = datetime(2027, 1, 2, tzinfo=UTC)


def decrypt(stored: str) -> str:
    """Stand in for the vault: what begins with ``sealed:`` decrypts."""
    if not stored.startswith("sealed:"):
        raise VaultError
    return stored.removeprefix("sealed:")


def document(**changes: object) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "_id": ObjectId("65f000000000000000000001"),
        "name": "Luigi's",
        "subDomain": "luigi",
        "wabaId": "777",
        "whatsappPhoneNumberIds": ["111", "222"],
        "whatsappAccessToken": "sealed:EAAG-token",
        "whatsappTokenExpiresAt": EXPIRES_AT,
        "whatsappEnabled": True,
        "isActive": True,
    }
    return {field: value for field, value in (whole | changes).items() if value is not ...}


def read(**changes: object) -> Business:
    return read_business(document(**changes), decrypt)


def row(**changes: object) -> Row:
    return read_row(document(**changes), decrypt)


def test_whole_document_becomes_a_business() -> None:
    assert read() == Business(
        id="65f000000000000000000001",
        name="Luigi's",
        sub_domain="luigi",
        account_id="777",
        phone_number_ids=("111", "222"),
        enabled=True,
        access_token="EAAG-token",
        token_expires_at=EXPIRES_AT,
    )


@pytest.mark.parametrize("field", ["whatsappEnabled", "isActive"])
@pytest.mark.parametrize("value", [False, None, ..., 1, "true", [True], {}])
def test_only_true_switches_on(field: str, value: object) -> None:
    assert not read(**{field: value}).enabled
    assert not row(**{field: value}).enabled


@pytest.mark.parametrize("value", [..., None, ""])
def test_missing_token_is_a_fault(value: object) -> None:
    business = read(whatsappAccessToken=value)

    assert business.access_token is None
    assert business.fault == "whatsappAccessToken is missing: `whatsapp-hub business set-token` stores one"


@pytest.mark.parametrize(
    "value", ["EAAG-plain", 17, 1.5, True, ["sealed:x"], {"a": "sealed:x"}, b"sealed:x", "sealed:"]
)
def test_unreadable_token_is_a_fault_and_never_used(value: object) -> None:
    business = read(whatsappAccessToken=value)

    assert business.access_token is None
    assert business.fault == "whatsappAccessToken does not decrypt: check ENCRYPTION_SECRET, or store it anew"


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Header: 1", "a\n", "tök", "\x00"])
def test_token_that_would_change_the_request_is_a_fault(token: str) -> None:
    business = read(whatsappAccessToken=f"sealed:{token}")

    assert business.access_token is None
    assert business.fault == "whatsappAccessToken holds characters that none has: store it anew"


def test_long_token_is_taken_whole() -> None:
    assert read(whatsappAccessToken="sealed:" + "x" * 5000).access_token == "x" * 5000


def test_bare_string_means_one_number_as_it_does_in_a_query() -> None:
    assert read(whatsappPhoneNumberIds="111").phone_number_ids == ("111",)


@pytest.mark.parametrize("value", [..., None, 111, {}, [None, 111, ["111"], {}, ""]])
def test_what_is_no_number_id_is_left_out(value: object) -> None:
    assert read(whatsappPhoneNumberIds=value).phone_number_ids == ()


def test_number_that_is_there_twice_counts_once() -> None:
    assert read(whatsappPhoneNumberIds=["1", "2", "1"]).phone_number_ids == ("1", "2")


@pytest.mark.parametrize("value", ["2027-01-02", 17, None, ..., DatetimeMS(8_640_000_000_000_000)])
def test_expiry_that_is_no_date_of_ours_is_unknown_and_no_fault(value: object) -> None:
    business = read(whatsappTokenExpiresAt=value)

    assert business.token_expires_at is None
    assert business.fault is None


def test_names_fall_back_to_what_is_there() -> None:
    business = read(name=7, subDomain=...)

    assert business.sub_domain == business.id
    assert business.name == business.id
    assert row(subDomain=...).sub_domain is None


def test_assistant_is_read_with_its_own_key() -> None:
    choice = read(
        assistant={
            "kind": "openai",
            "model": "small",
            "instructions": "Be brief.",
            "baseUrl": "https://llm.example",
            "apiKey": "sealed:sk-1",
            "fallbackText": "Later.",
            "temperature": 1,
            "endpointUrl": "https://own.example",
            "secret": "sealed:hush",
            "timeoutS": 20,
            "pauseMinutes": 0,
            "topP": 0.5,
        }
    ).assistant

    assert choice is not None
    assert (choice.kind, choice.model, choice.instructions) == ("openai", "small", "Be brief.")
    assert (choice.base_url, choice.api_key, choice.fallback_text) == ("https://llm.example", "sk-1", "Later.")
    assert choice.temperature == 1.0
    assert (choice.endpoint_url, choice.secret) == ("https://own.example", "hush")
    assert (choice.timeout_s, choice.pause_minutes) == (20.0, 0.0)
    assert choice.options == {"topP": 0.5}


def test_empty_assistant_leaves_the_choice_to_the_environment() -> None:
    choice = read(assistant={"kind": "", "apiKey": "", "temperature": None}).assistant

    assert choice is not None
    assert choice.kind is None
    assert choice.api_key is None
    assert choice.temperature is None


@pytest.mark.parametrize(
    ("assistant", "fault"),
    [
        ("echo", "assistant is not an object: write {kind: ...} or remove it"),
        ([], "assistant is not an object: write {kind: ...} or remove it"),
        ({"kind": 5}, "assistant.kind is not a text"),
        ({"instructions": ["a"]}, "assistant.instructions is not a text"),
        ({"temperature": "hot"}, "assistant.temperature is not a number"),
        ({"temperature": True}, "assistant.temperature is not a number"),
        ({"temperature": float("nan")}, "assistant.temperature is not a number"),
        ({"apiKey": "sk-plain"}, "assistant.apiKey does not decrypt: check ENCRYPTION_SECRET, or store it anew"),
        ({"apiKey": "sealed:a\nb"}, "assistant.apiKey holds characters that none has: store it anew"),
        ({"secret": 5}, "assistant.secret does not decrypt: check ENCRYPTION_SECRET, or store it anew"),
        ({"endpointUrl": 5}, "assistant.endpointUrl is not a text"),
        ({"timeoutS": "10"}, "assistant.timeoutS is not a number"),
        ({"timeoutS": 0}, "assistant.timeoutS has to lie between 0.1 and 120"),
        ({"timeoutS": 121}, "assistant.timeoutS has to lie between 0.1 and 120"),
        ({"pauseMinutes": -1}, "assistant.pauseMinutes has to lie between 0 and 43200"),
        ({"pauseMinutes": True}, "assistant.pauseMinutes is not a number"),
    ],
)
def test_broken_assistant_holds_the_business(assistant: object, fault: str) -> None:
    assert read(assistant=assistant).fault == fault


def test_unreadable_secret_of_an_assistant_is_not_handed_on() -> None:
    choice = read(assistant={"apiKey": "sk-plain", "secret": "plain"}).assistant

    assert choice is not None
    assert choice.api_key is None
    assert (choice.secret, choice.options) == (None, {})


def test_faults_are_told_together_and_without_values() -> None:
    fault = read(whatsappAccessToken="EAAG-plain", assistant={"apiKey": "sk-plain", "kind": 5}).fault

    assert fault is not None
    assert fault.count("; ") == 2
    assert "plain" not in fault.replace("plain-text", "")


@pytest.mark.parametrize(
    ("stored", "secrets"),
    [(..., None), (None, None), ("", None), ("sealed:hush", (b"hush",)), ("plain", ()), (5, ()), ("sealed:", ())],
)
def test_own_app_secret_is_none_readable_or_broken(stored: object, secrets: object) -> None:
    """An empty secret would let anybody sign, so one that decrypts to nothing is broken."""
    found = row(whatsappAppSecret=stored)

    assert found.app_secrets == secrets
    assert bool(found.faults) is (secrets == ())


def test_own_verify_token_is_read_likewise() -> None:
    assert row(whatsappVerifyToken="sealed:hello").verify_tokens == ("hello",)
    assert row(whatsappVerifyToken="hello").verify_tokens == ()
    assert row().verify_tokens is None


def test_reprs_show_no_secret() -> None:
    business = read(assistant={"apiKey": "sealed:sk-1", "secret": "sealed:hush"})
    shown = repr(business) + repr(row(whatsappAppSecret="sealed:hush", whatsappVerifyToken="sealed:hush"))

    assert "EAAG-token" not in shown
    assert "sk-1" not in shown
    assert "hush" not in shown


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats()
    | st.text()
    | st.text().map("sealed:".__add__)
    | st.binary()
    | st.datetimes()
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)
_ASSISTANTS = _VALUES | st.dictionaries(
    st.sampled_from(["kind", "model", "baseUrl", "apiKey", "secret", "temperature", "other"]), _VALUES
)
_DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"_id": _VALUES, **dict.fromkeys((*BUSINESS_FIELDS, *ROW_FIELDS), _VALUES), "assistant": _ASSISTANTS}
)


@settings(max_examples=300, deadline=None)
@given(_DOCUMENTS)
def test_no_document_raises_and_nothing_is_sent_with_a_broken_token(hostile: dict[str, Any]) -> None:
    business = read_business(hostile, decrypt)
    found = read_row(hostile, decrypt)

    assert (business.access_token is None) <= (business.fault is not None)
    if business.access_token is not None:
        assert hostile["whatsappAccessToken"] == "sealed:" + business.access_token
    assert all(isinstance(number, str) for number in (*business.phone_number_ids, *found.phone_number_ids))
    assert b"" not in (found.app_secrets or ())


def test_an_assistant_may_have_a_language_a_voice_and_words_for_what_it_cannot_read() -> None:
    choice = read(
        assistant={
            "language": "de",
            "unsupportedText": "",
            "vision": False,
            "transcriptionModel": "",
            "voiceReplies": True,
            "voice": "nova",
            "speechModel": "tts-9",
        }
    ).assistant

    assert choice is not None
    assert (choice.language, choice.unsupported_text, choice.vision) == ("de", "", False)
    assert (choice.transcription_model, choice.voice_replies) == ("", True)
    assert (choice.voice, choice.speech_model, dict(choice.options)) == ("nova", "tts-9", {})


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("language", 5, "is not a text"),
        ("unsupportedText", ["x"], "is not a text"),
        ("transcriptionModel", False, "is not a text"),
        ("vision", "yes", "is neither true nor false"),
        ("voiceReplies", 1, "is neither true nor false"),
    ],
)
def test_options_of_an_assistant_with_a_wrong_type_are_faults(field: str, value: object, fault: str) -> None:
    assert read(assistant={field: value}).fault == f"assistant.{field} {fault}"
