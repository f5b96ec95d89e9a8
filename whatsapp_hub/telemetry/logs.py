"""Logs: JSON lines (or plain text) on the console and, if asked for, in a file, without secrets or personal data."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote, urlsplit

import orjson
from pydantic import SecretStr

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.log_writer import LogWriter
from whatsapp_hub.telemetry.redaction import Redactor, masked
from whatsapp_hub.telemetry.tracebacks import describe

#: Libraries that talk much, or (PyMongo's commands, at DEBUG) would log what customers write. ``LOG_LEVELS`` wins.
_QUIET: Final = ("aiohttp", "asyncio", "pymongo", "motor")
#: Extras that hold an id, which may be as long as a phone number and must stay readable.
_IDS: Final = frozenset(
    {
        "message_id",
        "phone_number_id",
        "account_id",
        "business_id",
        "request_id",
        "turn_id",
        "node",
        "message_ids",
        "reference",
    }
)
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Fields(logging.Formatter):
    """Takes a record apart into what may be shown; the two formats below put it together."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def read(self, record: logging.LogRecord) -> dict[str, object]:
        """Return time, level, name and message, then the extras, then the traceback; redacted, in this order."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "name": record.name,
            "message": self._redactor.clean(record.getMessage()),
        }
        for key, value in vars(record).items():
            if key not in _RECORD_FIELDS and key not in fields:
                fields[key] = self._show(value, self._redactor.hide_secrets if key in _IDS else self._redactor.clean)
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = self._redactor.clean(describe(record.exc_info[1]))
        if record.stack_info:
            fields["stack"] = self._redactor.clean(record.stack_info)
        return fields

    def _show(self, value: object, hide: Callable[[str], str]) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple | set | frozenset):
            return [self._show(entry, hide) for entry in value]
        if isinstance(value, dict):
            return {str(key): self._show(entry, hide) for key, entry in value.items()}
        return hide(str(value))


class JsonFormatter(Fields):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        fields = self.read(record)
        try:
            return orjson.dumps(fields).decode()
        except TypeError:  # a lone surrogate or an integer beyond 64 bits
            return json.dumps(fields)


class TextFormatter(Fields):
    """One line for people; tracebacks below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as ``time LEVEL name: message key=value``."""
        fields = self.read(record)
        time, level, name, message = (str(fields.pop(key)) for key in ("time", "level", "name", "message"))
        below = [str(fields.pop(key)) for key in ("exception", "stack") if key in fields]
        extras = [f"{key}={_quote(value)}" for key, value in fields.items()]
        # One line stays one line, whatever was said: nobody forges a second one.
        line = " ".join([time, f"{level:<7}", f"{name}:", message.replace("\n", "\\n").replace("\r", "\\r"), *extras])
        return "\n".join([line, *below])


def _quote(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text, ensure_ascii=False)


def setup_logging(settings: Settings) -> LogWriter:
    """Send all loggers to the console and to ``LOG_FILE``; a second call replaces what the first set up.

    Raises:
        SettingsInvalid: the file cannot be opened.

    """
    try:
        writer = LogWriter(sys.stderr, settings.log_file)
    except OSError as exc:
        raise SettingsInvalid(
            [f"LOG_FILE: {settings.log_file} cannot be opened ({exc.strerror}); name another file, or make its folder"]
        ) from exc
    redactor = Redactor(find_secrets(settings))
    writer.setFormatter(JsonFormatter(redactor) if settings.log_format == "json" else TextFormatter(redactor))
    root = logging.getLogger()
    for old in _find_writers():
        root.removeHandler(old)
        old.close()
    root.addHandler(writer)
    set_levels(settings)
    logging.captureWarnings(True)
    return writer


def set_levels(settings: Settings, *, instead_of: Settings | None = None) -> None:
    """Set the levels of the loggers, and take back those that were set before."""
    before: dict[str, int | str] = dict.fromkeys(instead_of.log_levels if instead_of else (), logging.NOTSET)
    logging.getLogger().setLevel(settings.log_level)
    for name, level in {**before, **dict.fromkeys(_QUIET, "WARNING"), **settings.log_levels}.items():
        logging.getLogger(name).setLevel(level)


def reopen_logs() -> None:
    """Reopen the log file, as SIGHUP asks for after a rotation."""
    for writer in _find_writers():
        writer.reopen()


def _find_writers() -> list[LogWriter]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, LogWriter)]


def find_secrets(settings: Settings) -> Iterator[str]:
    """Find the settings' own secrets, and the passwords in their URLs."""
    for _, value in settings:
        for secret in value if isinstance(value, tuple) else (value,):
            if isinstance(secret, SecretStr):
                yield secret.get_secret_value()
                yield from _find_passwords(secret.get_secret_value())


def _find_passwords(text: str) -> Iterator[str]:
    try:
        password = urlsplit(text).password
    except ValueError:  # no URL at all
        return
    if password:
        yield from (password, unquote(password))


__all__ = [
    "JsonFormatter",
    "LogWriter",
    "TextFormatter",
    "find_secrets",
    "masked",
    "reopen_logs",
    "set_levels",
    "setup_logging",
]
