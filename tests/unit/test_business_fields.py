"""What may be written into a business's document."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from whatsapp_hub.commands.business_fields import (
    check_endpoint_secret,
    parse_account_id,
    parse_assistant_kind,
    parse_base_url,
    parse_endpoint_url,
    parse_expiry,
    parse_name,
    parse_phone_number_ids,
    parse_sub_domain,
    parse_temperature,
)
from whatsapp_hub.settings import Settings

SETTINGS = Settings.isolated()


def test_fields_are_taken_without_the_spaces_around_them() -> None:
    assert parse_name("  Bäckerei Öztürk ") == "Bäckerei Öztürk"
    assert parse_sub_domain(" bakery-2 ") == "bakery-2"
    assert parse_account_id(" 102290129340398 ") == "102290129340398"


@pytest.mark.parametrize("text", ["", "Bakery", "-bakery", "bakery-", "a b", "bäckerei", "a/b", "a.b", "a" * 64])
def test_subdomain_fits_into_a_url(text: str) -> None:
    with pytest.raises(ValueError, match="--sub-domain"):
        parse_sub_domain(text)


def test_phone_number_ids_are_a_list_each_once() -> None:
    assert parse_phone_number_ids("106, 107,106,") == ["106", "107"]


@pytest.mark.parametrize("text", ["", ",", "+49151", "106:107", "106 107"])
def test_phone_number_is_no_phone_number_id(text: str) -> None:
    with pytest.raises(ValueError, match="not the phone number"):
        parse_phone_number_ids(text)


@pytest.mark.parametrize("text", ["", " ", "a\nb", "\x1b[2J", "x" * 201])
def test_name_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="--name"):
        parse_name(text)


def test_expiry_without_a_zone_is_utc() -> None:
    assert parse_expiry("2027-01-31") == datetime(2027, 1, 31, tzinfo=UTC)
    assert parse_expiry("2027-01-31T18:00:00+02:00") == datetime(2027, 1, 31, 16, tzinfo=UTC)
    assert parse_expiry("never") is None
    assert parse_expiry(None) is None
    with pytest.raises(ValueError, match="--expires"):
        parse_expiry("tomorrow")


def test_assistant_is_one_that_serve_would_know() -> None:
    own = Settings.isolated(assistants="mine=package.module:factory")
    assert parse_assistant_kind(None, own, None) is None
    assert parse_assistant_kind("mine", own, None) == "mine"
    with pytest.raises(ValueError, match="choose one of echo, openai, http, none, mine"):
        parse_assistant_kind("yours", own, None)


def test_http_needs_an_endpoint_and_a_secret() -> None:
    url = "https://host.example/turns"
    assert parse_endpoint_url(None, SETTINGS, None) is None
    assert parse_endpoint_url(url, SETTINGS, "http") == url
    with pytest.raises(ValueError, match="--endpoint-url: needed"):
        parse_endpoint_url(None, SETTINGS, "http")
    with pytest.raises(ValueError, match="--endpoint-url: it has to begin with https"):
        parse_endpoint_url("http://host.example", SETTINGS, "http")
    check_endpoint_secret("a secret of twenty-four bytes", url)
    check_endpoint_secret(None, None)
    with pytest.raises(ValueError, match="--endpoint-secret-file: needed"):
        check_endpoint_secret(None, url)
    with pytest.raises(ValueError, match="has to have 24 to 64 bytes, and has 5"):
        check_endpoint_secret("short", url)


def test_openai_needs_a_model_from_somewhere() -> None:
    with pytest.raises(ValueError, match="--model"):
        parse_assistant_kind("openai", SETTINGS, None)
    assert parse_assistant_kind("openai", SETTINGS, "gpt") == "openai"
    assert parse_assistant_kind("openai", Settings.isolated(ai_model="gpt"), None) == "openai"


def test_base_url_leads_to_the_public_net() -> None:
    assert parse_base_url("https://models.example/v1", SETTINGS) == "https://models.example/v1"
    assert parse_base_url(None, SETTINGS) is None
    for url in ("http://models.example/v1", "https://10.0.0.1/v1", "https://user:pw@models.example/"):
        with pytest.raises(ValueError, match="--base-url"):
            parse_base_url(url, SETTINGS)
    inside = Settings.isolated(assistant_allow_nets="10.0.0.0/8")
    assert parse_base_url("https://10.0.0.1/v1", inside) == "https://10.0.0.1/v1"


def test_temperature_is_a_number_in_range() -> None:
    assert parse_temperature("0.5") == 0.5
    assert parse_temperature(None) is None
    for text in ("hot", "nan", "-1", "2.1", "inf"):
        with pytest.raises(ValueError, match="--temperature"):
            parse_temperature(text)
