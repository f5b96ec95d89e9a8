"""How the text of one variable becomes a value: the types that the fields of ``Settings`` are made of.

A ``ValueError`` from here is shown to the operator behind the variable's name, so it may quote what was written,
unless that is a secret.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final
from urllib.parse import urlsplit

import limits
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

Network = IPv4Network | IPv6Network

ASSISTANT_KINDS: Final = ("echo", "openai", "http", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many in so long."""

    count: int
    period_s: int


def parse_rate(text: str) -> Rate:
    """Read a rate such as ``100/minute``, ``80/second`` or ``5/10 minutes``. Raises ``ValueError``."""
    try:
        (item,) = limits.parse_many(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a rate; write one like 100/minute") from None
    if item.amount < 1:
        raise ValueError(f"{text!r} would let nothing through; write at least 1/minute")
    return Rate(count=item.amount, period_s=item.get_expiry())


def split_list(text: object) -> object:
    """Cut a comma list into its entries; leave what is no text alone."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip()) if isinstance(text, str) else text


def _read_networks(value: object) -> object:
    entries = split_list(value)
    if not isinstance(entries, tuple | list):
        return entries
    return tuple(_read_network(entry) if isinstance(entry, str) else entry for entry in entries)


def _read_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write one like 10.0.0.0/8 or 192.0.2.7") from None
    raise ValueError(f"{text!r} is an address with a mask; write {meant} for the whole network")


def _read_pairs(value: object) -> object:
    entries = split_list(value)
    if not isinstance(entries, tuple):
        return value
    pairs: dict[str, str] = {}
    for entry in entries:
        name, equals, meaning = (piece.strip() for piece in entry.partition("="))
        if not (name and equals and meaning):
            raise ValueError(f"{entry!r} is not of the form name=value")
        if name in pairs:
            raise ValueError(f"{name!r} is there twice")
        pairs[name] = meaning
    return pairs


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


def _check_optional_rate(text: str) -> str:
    return _check_rate(text) if text else text


def _check_url(schemes: tuple[str, ...], example: str) -> Callable[[str | SecretStr], str | SecretStr]:
    """Make a check that never quotes the URL: it may carry a password."""

    def check(value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            parts = urlsplit(text)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or re.search(r"\s", text):
            raise ValueError(f"not a URL that can be used here; write one like {example}")
        return value if isinstance(value, SecretStr) else value.rstrip("/")

    return check


def _check_mongodb_uri(value: SecretStr) -> SecretStr:
    uri = value.get_secret_value()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the driver passes over options that it does not know, so do we
            if uri.startswith("mongodb+srv://"):
                # The driver would ask the DNS here, which may be down when a process starts.
                usable = bool(urlsplit(uri).hostname)
            else:
                usable = bool(parse_uri(uri, warn=True))
    except (PyMongoError, ValueError, OSError):
        usable = False
    if not usable:
        raise ValueError(
            "not a URI that the driver understands; write one like mongodb://user:password@host:27017/?replicaSet=rs0,"
            " special characters of the password percent-encoded, files named in it readable"
        )
    return value


def _check_database_name(text: str) -> str:
    if len(text.encode()) > 63 or re.search(r'[\s./\\"$\0]', text):  # MongoDB's rule
        raise ValueError(f'{text!r} cannot name a database: at most 63 bytes, without spaces and ./\\"$')
    return text


def _check_admin_token(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 24:
        raise ValueError("under 24 characters; make one with: openssl rand -hex 24")
    return value


def _read_level(value: object) -> object:
    if not isinstance(value, str):
        return value
    level = value.strip().upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{value!r} is not a level; write DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return level


def _check_levels(pairs: dict[str, str]) -> dict[str, str]:
    return {name: str(_read_level(level)) for name, level in pairs.items()}


def _check_factories(pairs: dict[str, str]) -> dict[str, str]:
    for name, target in pairs.items():
        if name in ASSISTANT_KINDS:
            raise ValueError(f"{name!r} is one of the hub's own assistants; choose another name")
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", target):
            raise ValueError(f"{target!r} is not of the form package.module:factory")
    return pairs


def _check_graph_version(text: str) -> str:
    if not re.fullmatch(r"v\d{1,3}\.\d{1,2}", text):
        raise ValueError(f"{text!r} is not a version of the Graph API; write one like v26.0")
    return text


SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(split_list)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_read_networks)]
RateText = Annotated[str, AfterValidator(_check_rate)]
OptionalRateText = Annotated[str, AfterValidator(_check_optional_rate)]
HttpUrl = Annotated[str, AfterValidator(_check_url(("http", "https"), "https://host.example/path"))]
SecretHttpUrl = Annotated[SecretStr, AfterValidator(_check_url(("http", "https"), "https://host.example/path"))]
SecretRedisUrl = Annotated[SecretStr, AfterValidator(_check_url(("redis", "rediss"), "redis://host:6379/0"))]
MongoUri = Annotated[SecretStr, AfterValidator(_check_mongodb_uri)]
DatabaseName = Annotated[str, AfterValidator(_check_database_name)]
AdminToken = Annotated[SecretStr, AfterValidator(_check_admin_token)]
Level = Annotated[str, BeforeValidator(_read_level)]
Levels = Annotated[dict[str, str], BeforeValidator(_read_pairs), AfterValidator(_check_levels)]
Factories = Annotated[dict[str, str], BeforeValidator(_read_pairs), AfterValidator(_check_factories)]
GraphVersion = Annotated[str, AfterValidator(_check_graph_version)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
