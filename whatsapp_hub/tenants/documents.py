"""What a document of ``businesses`` means (pure). Another program writes it, so nothing in it is sure to have its type.

What cannot be read never raises: it becomes a fault, in words for the operator and without the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from whatsapp_hub.cloud_api.replies import Template
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.api_keys import ApiKey, read_api_key
from whatsapp_hub.tenants.business import AssistantChoice, Business
from whatsapp_hub.tenants.late_template import read_late_template
from whatsapp_hub.tenants.table import Row

Decrypt = Callable[[str], str]

#: What ``read_row`` looks at.
ROW_FIELDS: Final = (
    "subDomain",
    "wabaId",
    "whatsappPhoneNumberIds",
    "whatsappEnabled",
    "isActive",
    "whatsappAppSecret",
    "whatsappVerifyToken",
    "whatsappTokenExpiresAt",
    "assistant.maxPending",
    "apiKeys",
)
#: What ``read_business`` looks at.
BUSINESS_FIELDS: Final = (
    "name",
    "subDomain",
    "wabaId",
    "whatsappPhoneNumberIds",
    "whatsappEnabled",
    "isActive",
    "whatsappAccessToken",
    "whatsappTokenExpiresAt",
    "assistant",
    "messagesPerSecond",
)
_ASSISTANT_FIELDS: Final = (
    "kind",
    "model",
    "instructions",
    "baseUrl",
    "apiKey",
    "fallbackText",
    "temperature",
    "maxTurnsPerDay",
    "limitText",
    "maxPending",
    "endpointUrl",
    "secret",
    "timeoutS",
    "pauseMinutes",
    "unsupportedText",
    "language",
    "vision",
    "transcriptionModel",
    "voiceReplies",
    "voice",
    "speechModel",
    "lateTemplate",
)
MAX_ASSISTANT_TIMEOUT_S: Final = 120.0  #: for its own endpoint: a turn must not be held for longer
MAX_PAUSE_MINUTES: Final = 43_200.0  #: thirty days


def read_business(document: Mapping[str, object], decrypt: Decrypt) -> Business:
    """Read the whole of a business, its secrets decrypted."""
    reader = _Reader(document, decrypt)
    identity = str(document.get("_id"))
    sub_domain = reader.text("subDomain") or identity
    return Business(
        id=identity,
        name=reader.text("name") or sub_domain,
        sub_domain=sub_domain,
        account_id=reader.text("wabaId"),
        phone_number_ids=reader.texts("whatsappPhoneNumberIds"),
        enabled=_is_enabled(document),
        access_token=reader.access_token(),
        token_expires_at=reader.date("whatsappTokenExpiresAt"),
        assistant=reader.assistant(),
        messages_per_second=reader.optional_count("messagesPerSecond"),
        fault="; ".join(reader.faults) or None,
    )


def read_row(document: Mapping[str, object], decrypt: Decrypt) -> Row:
    """Read what webhooks are checked against."""
    reader = _Reader(document, decrypt)
    app_secrets = reader.secret("whatsappAppSecret")
    api_keys = reader.api_keys()
    return Row(
        id=str(document.get("_id")),
        sub_domain=reader.text("subDomain"),
        account_id=reader.text("wabaId"),
        phone_number_ids=reader.texts("whatsappPhoneNumberIds"),
        enabled=_is_enabled(document),
        app_secrets=None if app_secrets is None else tuple(secret.encode() for secret in app_secrets),
        verify_tokens=reader.secret("whatsappVerifyToken"),
        token_expires_at=reader.date("whatsappTokenExpiresAt"),
        faults=tuple(reader.faults),
        max_pending=_max_pending(document),
        api_keys=api_keys,
    )


def _max_pending(document: Mapping[str, object]) -> int | None:
    assistant = document.get("assistant")
    return _Reader(assistant, str).optional_count("maxPending") if isinstance(assistant, Mapping) else None


def _is_enabled(document: Mapping[str, object]) -> bool:
    # Nothing but a real `true` counts, as in the query of the program that wrote these fields first.
    return document.get("whatsappEnabled") is True and document.get("isActive") is True


class _Reader:
    """Reads the fields of one document and notes what is wrong with them."""

    def __init__(self, document: Mapping[str, object], decrypt: Decrypt) -> None:
        self._document = document
        self._decrypt = decrypt
        self.faults: list[str] = []

    def text(self, field: str) -> str | None:
        value = self._document.get(field)
        return value if isinstance(value, str) and value else None

    def texts(self, field: str) -> tuple[str, ...]:
        value = self._document.get(field)
        # A query for one of the array's values finds a bare string too, so it has to mean the same here.
        values = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(entry for entry in values if isinstance(entry, str) and entry))

    def date(self, field: str) -> datetime | None:
        # A date beyond Python's means "never"; what is no date says nothing, and is no reason not to send.
        value = self._document.get(field)
        return value if isinstance(value, datetime) else None

    def secret(self, field: str) -> tuple[str, ...] | None:
        """Return a stored secret: None where none is stored, nothing in it where it cannot be read."""
        stored = self._document.get(field)
        if stored is None or stored == "":
            return None
        plain = _decrypt(stored, self._decrypt)
        if plain is None:
            self.faults.append(f"{field} does not decrypt: check ENCRYPTION_SECRET, or store it anew")
            return ()
        return (plain,)

    def api_keys(self) -> tuple[ApiKey, ...]:
        value = self._document.get("apiKeys")
        entries = value if isinstance(value, list) else [] if value is None else [value]
        keys = tuple(key for key in map(read_api_key, entries) if key is not None)
        if len(keys) < len(entries):
            self.faults.append("apiKeys holds what is no key: `whatsapp-hub business key add` makes one")
        return keys

    def access_token(self) -> str | None:
        found = self.secret("whatsappAccessToken")
        if found is None:
            self.faults.append("whatsappAccessToken is missing: `whatsapp-hub business set-token` stores one")
        return self._header_value("whatsappAccessToken", found)

    def assistant(self) -> AssistantChoice | None:
        value = self._document.get("assistant")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.faults.append("assistant is not an object: write {kind: ...} or remove it")
            return None
        reader = _Reader(value, self._decrypt)
        choice = reader.choice()
        reader.optional_count("maxPending")  # of the table; wrong, it is told with the rest
        self.faults += [f"assistant.{fault}" for fault in reader.faults]
        return choice

    def choice(self) -> AssistantChoice:
        return AssistantChoice(
            kind=self._optional_text("kind"),
            model=self._optional_text("model"),
            instructions=self._optional_text("instructions"),
            base_url=self._optional_text("baseUrl"),
            api_key=self._header_value("apiKey", self.secret("apiKey")),
            fallback_text=self._optional_text("fallbackText"),
            temperature=self._optional_number("temperature"),
            options=self._options(),
            max_turns_per_day=self.optional_count("maxTurnsPerDay"),
            limit_text=self._optional_text("limitText"),
            endpoint_url=self._optional_text("endpointUrl"),
            secret=next(iter(self.secret("secret") or ()), None),
            timeout_s=self._optional_number("timeoutS", least=0.1, most=MAX_ASSISTANT_TIMEOUT_S),
            pause_minutes=self._optional_number("pauseMinutes", least=0, most=MAX_PAUSE_MINUTES),
            unsupported_text=self._optional_text("unsupportedText", may_be_empty=True),
            language=self._optional_text("language"),
            vision=self._optional_flag("vision", default=True),
            transcription_model=self._optional_text("transcriptionModel", may_be_empty=True),
            voice_replies=self._optional_flag("voiceReplies", default=False),
            voice=self._optional_text("voice"),
            speech_model=self._optional_text("speechModel"),
            late_template=self._late_template(),
        )

    def _late_template(self) -> Template | None:
        template, fault = read_late_template(self._document.get("lateTemplate"))
        self.faults += [f"lateTemplate {fault}"] if fault else []
        return template

    def _options(self) -> Mapping[str, object]:
        rest = {str(name): value for name, value in self._document.items() if name not in _ASSISTANT_FIELDS}
        return MappingProxyType(rest)

    def _optional_text(self, field: str, *, may_be_empty: bool = False) -> str | None:
        value = self._document.get(field)
        if value is not None and not isinstance(value, str):
            self.faults.append(f"{field} is not a text")
        return "" if may_be_empty and value == "" else self.text(field)

    def _optional_flag(self, field: str, *, default: bool) -> bool:
        value = self._document.get(field)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.faults.append(f"{field} is neither true nor false")
        return default

    def optional_count(self, field: str) -> int | None:
        value = self._document.get(field)
        if value is None:
            return None
        # The dashboard's numbers may be stored as floats.
        count = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            self.faults.append(f"{field} is not a whole number above 0")
            return None
        return count

    def _optional_number(self, field: str, *, least: float = -math.inf, most: float = math.inf) -> float | None:
        value = self._document.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.faults.append(f"{field} is not a number")
            return None
        if not least <= value <= most:
            self.faults.append(f"{field} has to lie between {least:g} and {most:g}")
            return None
        return float(value)

    def _header_value(self, field: str, found: tuple[str, ...] | None) -> str | None:
        """Return a secret that goes into an HTTP header, where a space or a line break would change the request."""
        for value in found or ():
            if value.isascii() and value.isprintable() and " " not in value:
                return value
            self.faults.append(f"{field} holds characters that none has: store it anew")
        return None


def _decrypt(stored: object, decrypt: Decrypt) -> str | None:
    try:
        return (decrypt(stored) or None) if isinstance(stored, str) else None
    except VaultError:
        return None
