"""What may be written into a business's document, read from the command line's texts.

Each raises ``ValueError`` in words for the operator.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from whatsapp_hub.assistants.guard import find_url_fault
from whatsapp_hub.assistants.standard_webhooks import read_key
from whatsapp_hub.settings import Settings
from whatsapp_hub.settings_fields import ASSISTANT_KINDS

NEVER: Final = "never"
_SUB_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def parse_name(text: str) -> str:
    """Read a business's name."""
    name = text.strip()
    if not name or not name.isprintable() or len(name) > 200:
        raise ValueError("--name: a business's name has 1 to 200 printable characters")
    return name


def parse_sub_domain(text: str) -> str:
    """Read a subdomain: it stands in URLs."""
    if not _SUB_DOMAIN.fullmatch(text.strip()):
        raise ValueError(
            "--sub-domain: lower-case letters, digits and hyphens only, at most 63, as in bakery or bakery-2"
        )
    return text.strip()


def parse_account_id(text: str) -> str:
    """Read the id of a WhatsApp Business Account."""
    if not _ID.fullmatch(text.strip()):
        raise ValueError("--waba-id: not an id; Meta's dashboard shows it as WhatsApp Business Account ID, digits only")
    return text.strip()


def parse_phone_number_ids(text: str) -> list[str]:
    """Read a comma list of phone number ids."""
    numbers = list(dict.fromkeys(entry.strip() for entry in text.split(",") if entry.strip()))
    wrong = [number for number in numbers if not _ID.fullmatch(number)]
    if wrong or not numbers:
        raise ValueError(
            "--phone-number-id: not an id; Meta's dashboard shows it as Phone number ID, digits only"
            " (it is not the phone number)"
        )
    return numbers


def parse_expiry(text: str | None) -> datetime | None:
    """Read when a token expires; None for "never" and where nothing is said."""
    if text is None or text == NEVER:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("--expires: not a date; write one like 2027-01-31 or 2027-01-31T18:00:00Z") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def parse_assistant_kind(kind: str | None, settings: Settings, model: str | None) -> str | None:
    """Read which assistant a business chooses."""
    if kind is None:
        return None
    choices = [*ASSISTANT_KINDS, *settings.assistants]
    if kind not in choices:
        raise ValueError(f"--assistant: {kind!r} is not known; choose one of {', '.join(choices)}")
    if kind == "openai" and not (model or settings.ai_model):
        raise ValueError("--model: needed with --assistant openai, as AI_MODEL is not set")
    return kind


def parse_base_url(text: str | None, settings: Settings) -> str | None:
    """Read the URL of a model's server."""
    fault = find_url_fault(text, settings.assistant_allow_nets) if text is not None else None
    if fault:
        raise ValueError(f"--base-url: it {fault}; write one like https://host.example/v1")
    return text


def parse_endpoint_url(text: str | None, settings: Settings, kind: str | None) -> str | None:
    """Read the URL of a business's own endpoint."""
    if text is None and (kind or settings.assistant) == "http":
        raise ValueError("--endpoint-url: needed with the assistant http; write one like https://host.example/turns")
    fault = find_url_fault(text, settings.assistant_allow_nets) if text is not None else None
    if fault:
        raise ValueError(f"--endpoint-url: it {fault}; write one like https://host.example/turns")
    return text


def check_endpoint_secret(secret: str | None, endpoint_url: str | None) -> None:
    """Check what requests to an endpoint are signed with."""
    if secret is None:
        if endpoint_url is not None:
            raise ValueError("--endpoint-secret-file: needed with --endpoint-url; requests are signed with it")
        return
    try:
        read_key(secret)
    except ValueError as error:
        raise ValueError(f"--endpoint-secret-file: the secret {error}") from None


def parse_temperature(text: str | None) -> float | None:
    """Read a model's temperature."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError("--temperature: write a number from 0 to 2")
    return value
