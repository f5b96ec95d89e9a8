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
)
_ASSISTANT_FIELDS: Final = (
    "kind",
    "model",
    "instructions",
    "baseUrl",
    "apiKey",
    "fallbackText",
    "temperature",
    "lateTemplate",
)


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
        fault="; ".join(reader.faults) or None,
    )


def read_row(document: Mapping[str, object], decrypt: Decrypt) -> Row:
    """Read what webhooks are checked against."""
    reader = _Reader(document, decrypt)
    app_secrets = reader.secret("whatsappAppSecret")
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
    )


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
            late_template=self._late_template(),
        )

    def _late_template(self) -> Template | None:
        template, fault = read_late_template(self._document.get("lateTemplate"))
        self.faults += [f"lateTemplate {fault}"] if fault else []
        return template

    def _options(self) -> Mapping[str, object]:
        rest = {str(name): value for name, value in self._document.items() if name not in _ASSISTANT_FIELDS}
        found = self.secret("secret")
        rest.pop("secret", None)
        return MappingProxyType(rest | ({"secret": found[0]} if found else {}))

    def _optional_text(self, field: str) -> str | None:
        value = self._document.get(field)
        if value is not None and not isinstance(value, str):
            self.faults.append(f"{field} is not a text")
        return self.text(field)

    def _optional_number(self, field: str) -> float | None:
        value = self._document.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.faults.append(f"{field} is not a number")
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
