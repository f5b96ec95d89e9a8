"""What Graph tells about tokens, numbers, accounts and apps (pure).

https://developers.facebook.com/documentation/business-messaging/whatsapp/solution-providers/manage-webhooks has the
subscriptions of accounts, ``.../manage-accounts`` the facts of a token, and
https://developers.facebook.com/docs/graph-api/reference/app/subscriptions the webhook fields of an app.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import orjson

from whatsapp_hub.cloud_api.errors import SendResult, Verdict

T = TypeVar("T")

#: What a token needs: to send and to get messages, and to read and subscribe the account.
MESSAGING: Final = "whatsapp_business_messaging"
MANAGEMENT: Final = "whatsapp_business_management"
#: The object of an app's webhooks that is about WhatsApp, and its one field that the hub cannot do without.
OBJECT: Final = "whatsapp_business_account"
MESSAGES: Final = "messages"
CALLBACK_PATH: Final = "/whatsapp_response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """Graph's answer to one question."""

    result: SendResult  #: ``SENT`` where it was answered, else what stands against it
    facts: T | None = None

    @property
    def taken(self) -> bool:
        """Whether Graph answered with what was asked for."""
        return self.result.verdict is Verdict.SENT

    @property
    def open(self) -> bool:
        """Whether the same question may be answered later: Graph was not reached, or is busy."""
        return self.result.verdict in {Verdict.RETRY, Verdict.UNKNOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What Meta says of an access token."""

    app_id: str | None
    app_name: str
    expires_at: datetime | None  #: None: never, or not said
    scopes: frozenset[str]

    @property
    def app(self) -> str:
        """How to call its app."""
        return f"{self.app_name} ({self.app_id})" if self.app_name else str(self.app_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFacts:
    """What Meta says of a phone number."""

    name: str  #: as customers see it
    number: str = field(repr=False)
    quality: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The phone number ids of an account."""

    ids: tuple[str, ...]
    complete: bool  #: no further page


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Where an app's webhooks about WhatsApp go, and which they are."""

    callback_url: str
    active: bool
    fields: frozenset[str]


def read_token(body: bytes) -> TokenFacts | None:
    """Read the answer of ``debug_token``; None where it is none."""
    data = _object(_load(body).get("data"))
    if not data:
        return None
    expires_at = data.get("expires_at")
    scopes = data.get("scopes")
    return TokenFacts(
        app_id=_text(data.get("app_id")) or None,
        app_name=_text(data.get("application")),
        expires_at=_from_seconds(expires_at),
        scopes=frozenset(map(str, scopes)) if isinstance(scopes, list) else frozenset(),
    )


def read_number(body: bytes) -> NumberFacts | None:
    """Read the answer about one phone number."""
    found = _load(body)
    if not found:
        return None
    name, number = _text(found.get("verified_name")), _text(found.get("display_phone_number"))
    return NumberFacts(name=name, number=number, quality=_text(found.get("quality_rating")))


def read_numbers(body: bytes) -> Numbers:
    """Read the phone numbers of an account."""
    found = _load(body)
    ids = tuple(_text(entry.get("id")) for entry in _entries(found))
    return Numbers(ids=ids, complete="next" not in _object(found.get("paging")))


def read_subscribed_apps(body: bytes) -> Mapping[str, str]:
    """Read which apps get an account's webhooks: the callback URL of its own that each has there, or ""."""
    return {
        _text(_object(entry.get("whatsapp_business_api_data")).get("id")): _text(entry.get("override_callback_uri"))
        for entry in _entries(_load(body))
    }


def read_subscription(body: bytes) -> Subscription | None:
    """Read an app's webhooks about WhatsApp; None where it has none."""
    for entry in _entries(_load(body)):
        if entry.get("object") == OBJECT:
            fields = entry.get("fields")
            names = (one.get("name") if isinstance(one, dict) else one for one in fields or ())
            return Subscription(
                callback_url=_text(entry.get("callback_url")),
                active=entry.get("active") is not False,
                fields=frozenset(map(str, names)) if isinstance(fields, list) else frozenset(),
            )
    return None


def leads_to_hub(url: str) -> bool:
    """Whether a callback URL has a path of ours; which host is ours nobody here knows."""
    return CALLBACK_PATH in urlsplit(url).path


def _load(body: bytes) -> Mapping[str, Any]:
    try:
        return _object(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    data = found.get("data")
    return (entry for entry in data if isinstance(entry, dict)) if isinstance(data, list) else iter(())


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _from_seconds(value: object) -> datetime | None:
    if not isinstance(value, int) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None
