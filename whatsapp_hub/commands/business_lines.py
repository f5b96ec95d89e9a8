"""Businesses as JSON lines: how a document is written as one, and what one would change (no database in here)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import bson
import orjson
from bson.errors import BSONError

from whatsapp_hub.commands.business_fields import (
    parse_account_id,
    parse_expiry,
    parse_name,
    parse_phone_number_ids,
    parse_sub_domain,
)
from whatsapp_hub.commands.tenants import SECRETS, find_value
from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.documents import read_business, read_row
from whatsapp_hub.tenants.managed import Document
from whatsapp_hub.tenants.vault import Vault

MAX_LINE_BYTES: Final = 1024 * 1024
#: What a line holds beside the secrets, in the words of the documents.
FIELDS: Final = (
    "subDomain",
    "name",
    "wabaId",
    "whatsappPhoneNumberIds",
    "whatsappEnabled",
    "isActive",
    "whatsappTokenExpiresAt",
    "messagesPerSecond",
    "assistant",
)
#: How a secret that is not encrypted is written.
CLEAR: Final = "clear"
_NEEDED: Final = ("name", "wabaId", "whatsappPhoneNumberIds")
_SWITCHES: Final = ("whatsappEnabled", "isActive")
_OF_ASSISTANT: Final = tuple(path.partition(".")[2] for path in SECRETS if path.startswith("assistant."))
_KEY: Final = re.compile(r"[^$.\x00][^.\x00]*")


class LineInvalid(ValueError):
    """A line cannot be used; says why in words for the operator, without anything secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one line asks for."""

    sub_domain: str
    before: Document | None  #: None: it is new
    after: Document
    values: Mapping[str, Any]  #: what is set, by path
    unset: Sequence[str]

    @property
    def paths(self) -> list[str]:
        """Where something changes; empty where all is so already."""
        return [*self.values, *self.unset]

    @property
    def claims_numbers(self) -> bool:
        """Whether the business is served with other numbers afterwards, or for the first time."""
        touched = self.before is None or not {"whatsappPhoneNumberIds", *_SWITCHES}.isdisjoint(self.paths)
        return touched and _is_served(self.after)


def write_line(document: Document, secrets: Mapping[str, object]) -> bytes:
    """Write a document as a line, with these secrets by path. What JSON has no form for is left out."""
    line = {field: _as_json(document.get(field)) for field in FIELDS if document.get(field) is not None}
    if isinstance(document.get("assistant"), Mapping):
        rest = {key: _as_json(value) for key, value in document["assistant"].items() if key not in _OF_ASSISTANT}
        line["assistant"] = {key: value for key, value in rest.items() if value is not None}
    for path, secret in secrets.items():
        holder, _, name = path.rpartition(".")
        (line[holder] if holder else line)[name] = secret
    return orjson.dumps(
        {key: value for key, value in line.items() if value is not None}, option=orjson.OPT_APPEND_NEWLINE
    )


class Planner:
    """Reads lines one after the other, against what is stored and against each other."""

    def __init__(self, documents: Sequence[Document], vault: Vault, now: datetime) -> None:
        """Start with these documents."""
        self._vault = vault
        self._now = now
        self._stored: dict[str, list[Document]] = {}
        self._owners: dict[str, str] = {}  # of the numbers that are served
        self._claims: dict[str, Sequence[str]] = {}
        self._seen: set[str] = set()
        for document in documents:
            name = str(document.get("subDomain") or document["_id"])
            self._stored.setdefault(name, []).append(document)
            self._claim(name, document)

    def plan(self, line: bytes) -> Change:
        """Read one line. Raises ``LineInvalid``."""
        fields = _read_object(line)
        sub_domain = fields.pop("subDomain", "")
        if not isinstance(sub_domain, str) or sub_domain not in self._stored:  # the other program may name as it likes
            sub_domain = _parse("subDomain", parse_sub_domain, sub_domain)
        stored = self._stored.get(sub_domain, [])
        if len(stored) > 1:
            raise LineInvalid(f"several businesses have the subdomain {sub_domain!r}: mend that in the database first")
        if sub_domain in self._seen:
            raise LineInvalid(f"subDomain: {sub_domain!r} stood in a line before this one")
        before = stored[0] if stored else None
        wanted = dict(self._read_fields(_leave_out_same(fields, before or {})))
        if before is None:
            if missing := [name for name in _NEEDED if wanted.get(name) is None]:
                raise LineInvalid(f"{', '.join(missing)}: missing, which a new business needs")
            wanted = {"subDomain": sub_domain, "createdAt": self._now} | dict.fromkeys(_SWITCHES, True) | wanted
        change = self._compare(sub_domain, before, wanted)
        if change.paths:
            self._check(change)
            self._claim(sub_domain, change.after)
        self._seen.add(sub_domain)
        return change

    def _read_fields(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield what a line asks for by path; None: nothing shall stand there."""
        for name, value in fields.items():
            if name in SECRETS:
                yield name, self._read_secret(name, value)
            elif name == "assistant" and value is not None:
                yield from self._read_assistant(value)
            elif name in FIELDS:
                yield name, _READERS[name](name, value) if value is not None else None
            else:
                raise LineInvalid(f"{name}: there is no such field; known are {', '.join((*FIELDS, *SECRETS))}")

    def _read_assistant(self, value: object) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict):
            raise LineInvalid("assistant: not an object; write {} with kind and the rest, or leave it out")
        for key, one in value.items():
            if not _KEY.fullmatch(key):
                raise LineInvalid(f"assistant: {key!r} is no name of a field; write one without dots and dollars")
            yield f"assistant.{key}", self._read_secret(f"assistant.{key}", one) if key in _OF_ASSISTANT else one

    def _read_secret(self, path: str, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, dict) and value.keys() == {CLEAR} and isinstance(value[CLEAR], str) and value[CLEAR]:
            return self._vault.encrypt(value[CLEAR])
        if not isinstance(value, str):
            raise LineInvalid(
                f'{path}: write what `business export --secrets encrypted` wrote, or {{"{CLEAR}": "..."}}'
            )
        if _open(self._vault, value) is None:
            raise LineInvalid(
                f"{path}: it does not decrypt; put the secret that encrypted it into ENCRYPTION_SECRETS_OLD, or write"
                f' {{"{CLEAR}": "..."}}'
            )
        return value

    def _compare(self, sub_domain: str, before: Document | None, wanted: Mapping[str, Any]) -> Change:
        stored = before or {}
        differing = {path: value for path, value in wanted.items() if not self._is_so(stored, path, value)}
        values = {path: value for path, value in differing.items() if value is not None}
        unset = [path for path, value in differing.items() if value is None]
        if any(path.startswith("assistant.") for path in values) and not isinstance(stored.get("assistant"), Mapping):
            # There is nothing yet into which a single field could be set.
            of_assistant = {path.partition(".")[2]: values.pop(path) for path in list(values) if "." in path}
            values["assistant"] = of_assistant
        after = _apply(stored, values, unset)
        return Change(sub_domain=sub_domain, before=before, after=after, values=values, unset=unset)

    def _is_so(self, stored: Document, path: str, value: object) -> bool:
        found = find_value(stored, path)
        if path in SECRETS and isinstance(value, str) and isinstance(found, str):
            plain = _open(self._vault, found)
            return plain is not None and plain == _open(self._vault, value)
        return _is_same(found, value)

    def _check(self, change: Change) -> None:
        try:
            bson.encode(change.after)
        except (BSONError, OverflowError, UnicodeEncodeError):
            raise LineInvalid("it holds a number or a text that MongoDB cannot store: correct it") from None
        known = set(self._faults(change.before)) if change.before else set()
        new = [fault for fault in self._faults(change.after) if fault not in known]
        if new := [fault for fault in new if "whatsappAccessToken is missing" not in fault]:
            raise LineInvalid("; ".join(new))
        if change.claims_numbers:
            for number in _numbers(change.after):
                owner = self._owners.get(number, change.sub_domain)
                if owner != change.sub_domain:
                    raise LineInvalid(
                        f"whatsappPhoneNumberIds: {number} belongs to {owner!r}, which is switched on; take it away"
                        " from one of the two, or switch one off"
                    )

    def _faults(self, document: Document) -> list[str]:
        read = read_business(document, self._vault.decrypt)
        return [*(read.fault.split("; ") if read.fault else ()), *read_row(document, self._vault.decrypt).faults]

    def _claim(self, name: str, document: Document) -> None:
        for number in self._claims.pop(name, ()):
            if self._owners.get(number) == name:
                del self._owners[number]
        if _is_served(document):
            self._claims[name] = _numbers(document)
            for number in self._claims[name]:
                self._owners.setdefault(number, name)


def _leave_out_same(fields: Mapping[str, Any], stored: Document) -> dict[str, Any]:
    """Leave out what stands there already: nobody has to like how another program wrote it."""
    plain = set(FIELDS) - {"assistant"}
    return {
        name: value
        for name, value in fields.items()
        if name not in plain or value is None or not _is_same(stored.get(name), value)
    }


def _is_same(found: object, value: object) -> bool:
    return bool(_as_json(found) == _as_json(value)) and isinstance(found, bool) is isinstance(value, bool)


def _read_object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise LineInvalid(f"it is longer than {MAX_LINE_BYTES} bytes: no business is")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise LineInvalid("not a JSON object: write one business a line, as `business export` does")
    return fields


def _parse(field: str, parse: Callable[[str], Any], value: object) -> Any:
    if not isinstance(value, str):
        raise LineInvalid(f"{field}: not a text")
    try:
        return parse(value)
    except ValueError as exc:  # which names the option of `business add`
        raise LineInvalid(f"{field}: {str(exc).partition(': ')[2]}") from None


def _read_numbers(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(number, str) and "," not in number for number in value):
        raise LineInvalid(f'{field}: not a list of texts; write one like ["106540352242922"]')
    numbers: list[str] = _parse(field, parse_phone_number_ids, ",".join(value))
    return numbers


def _to_milliseconds(moment: datetime | None) -> datetime | None:
    """Cut off what MongoDB does not keep."""
    return moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _read_switch(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise LineInvalid(f"{field}: neither true nor false")
    return value


def _read_count(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LineInvalid(f"{field}: not a whole number above 0")
    return value


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "name": lambda field, value: _parse(field, parse_name, value),
    "wabaId": lambda field, value: _parse(field, parse_account_id, value),
    "whatsappPhoneNumberIds": _read_numbers,
    "whatsappEnabled": _read_switch,
    "isActive": _read_switch,
    "whatsappTokenExpiresAt": lambda field, value: _to_milliseconds(_parse(field, parse_expiry, value)),
    "messagesPerSecond": _read_count,
}


def _apply(stored: Document, values: Mapping[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """Return the document as it will be."""
    after = dict(stored)
    if isinstance(stored.get("assistant"), Mapping):
        after["assistant"] = dict(stored["assistant"])
    for path, value in values.items():
        holder, _, name = path.rpartition(".")
        (after[holder] if holder else after)[name] = value
    for path in unset:
        holder, _, name = path.rpartition(".")
        (after.get(holder, {}) if holder else after).pop(name, None)
    return after


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it; None where it has no form for it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return orjson.loads(orjson.dumps(value))
    except (orjson.JSONEncodeError, ValueError):
        return None


def _open(vault: Vault, stored: str) -> str | None:
    try:
        return vault.decrypt(stored)
    except VaultError:
        return None


def _is_served(document: Document) -> bool:
    return all(document.get(switch) is True for switch in _SWITCHES)


def _numbers(document: Document) -> Sequence[str]:
    numbers = document.get("whatsappPhoneNumberIds")
    return [number for number in (numbers if isinstance(numbers, list) else [numbers]) if isinstance(number, str)]
