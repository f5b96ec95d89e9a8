"""What went wrong, told to a person: plain words on stderr and an exit status, never a traceback."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final

import click
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from whatsapp_hub.errors import (
    BusinessRefused,
    DatabaseTaken,
    HubError,
    ReplyInvalid,
    SettingsInvalid,
    StoreUnavailable,
)

FAILED: Final = 1
WRONG_USAGE: Final = 2

_UNAUTHORIZED: Final = 13
_AUTHENTICATION_FAILED: Final = 18
_BIND_ERRORS: Final = {
    errno.EADDRINUSE: ("is in use", "stop what uses it, or choose another with --port"),
    errno.EADDRNOTAVAIL: ("is no address of this machine", "choose another with --host"),
    errno.EACCES: ("may not be used by this user", "choose another (ports below 1024 are for root)"),
    errno.ENOENT: ("cannot be made", "its folder is not there; make it, or choose another with --sock"),
    errno.ENOTDIR: ("cannot be made", "its folder is not there; make it, or choose another with --sock"),
}
#: What ``socket.create_server`` makes of the resolver's errors: an OSError with their numbers.
_UNKNOWN_NAME: Final = {socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_FAMILY}
_LOOK: Final = "see that the database is up and MONGODB_URI is right; `whatsapp-hub doctor` looks closer"


class Failure(click.ClickException):
    """A command that ends with what happened and what to do next."""

    exit_code = FAILED

    def __init__(self, words: str, remedy: str, faults: Sequence[str] = ()) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"{words}: {remedy}.{lines}")


class WrongSettings(Failure):
    """Settings with which a command cannot do its work."""

    exit_code = WRONG_USAGE


def as_failure(error: HubError) -> Failure:
    """Say what a command's error means and what to do about it."""
    match error:
        case SettingsInvalid(faults=faults):
            remedy = "correct them, .env.example says what each means"
            return WrongSettings("these settings cannot be used", remedy, faults)
        case StoreUnavailable():
            words = explain_database_error(error.__cause__) or str(error)
            return Failure(words.rstrip("."), _LOOK)
        case DatabaseTaken():
            return Failure(str(error), "rename the other program's collections; the hub's have fixed names")
        case BusinessRefused(words=words, remedy=remedy):
            return Failure(words, remedy)
        case ReplyInvalid():
            return Failure(str(error), "correct the text, the template or its language")
    return Failure(str(error).rstrip("."), "`whatsapp-hub doctor` looks closer")


def explain_database_error(error: BaseException | None) -> str:
    """Say what the driver's error means, without anything that it quotes; "" where it is none."""
    match error:
        case None:
            return ""
        case OperationFailure(code=18):
            return "The database does not accept the user or the password of MONGODB_URI."
        case OperationFailure(code=13):
            return "The database's user may not do this: grant it readWrite on the database of MONGODB_DB_NAME."
        case WTimeoutError():
            return "The database did not confirm a write on a majority of its members in time."
        case ServerSelectionTimeoutError():
            return "No database could be reached, or it has no primary."
        case NetworkTimeout() | ExecutionTimeout():
            return "The database did not answer in time."
        case ConfigurationError():
            return "MONGODB_URI cannot be used: its host names were not found, or its options contradict each other."
        case ConnectionFailure():
            return "The connection to the database failed."
        case OperationFailure(code=code):
            return f"The database refuses this (error {code})."
    return f"The database did not do this ({type(error).__name__})."


def explain_bind_error(error: OSError, place: str, *, example: str = "") -> Failure | None:
    """Say why a server cannot listen at ``place``; None where the error is about something else.

    ``example``: of another port, where this one is in use.
    """
    if isinstance(error, socket.gaierror) or error.errno in _UNKNOWN_NAME:
        return Failure(f"{place} is no address that is known here", "choose another with --host")
    found = _BIND_ERRORS.get(error.errno or 0)
    if found is None:
        return None
    words, remedy = found
    in_use = error.errno == errno.EADDRINUSE
    return Failure(f"{place} {words}", f"{remedy}, as in {example}" if in_use and example else remedy)
