"""What drivers and ``mongod`` say to each other: messages of MongoDB's wire protocol, read as far as somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from struct import Struct
from typing import Any, Final, NamedTuple

import bson

_INT32: Final = Struct("<i")
_HEADER: Final = Struct("<iiii")
HEADER_BYTES: Final = _HEADER.size
_SECTIONS_AT: Final = HEADER_BYTES + 4  # behind the flags
_OP_MSG: Final = 2013
_CHECKSUM, _MORE_TO_COME = 1, 2
_BODY: Final = 0  # a section's kind; the other, 1, is a sequence of documents
_STRING: Final = 2  # the type of a value


class Header(NamedTuple):
    """What every message begins with."""

    length: int
    request_id: int
    response_to: int
    code: int


def read_header(message: bytes) -> Header:
    """Read the header at the beginning of a message."""
    return Header(*_HEADER.unpack_from(message))


def is_command(message: bytes) -> bool:
    """Tell whether a message can be read as a command: neither one of a handshake nor a compressed one."""
    return read_header(message).code == _OP_MSG


def awaits_reply(message: bytes) -> bool:
    """Tell whether a command gets a reply."""
    return not _read_int(message, HEADER_BYTES) & _MORE_TO_COME


class Command:
    """A command: its name is the first key of its body, its collection that key's value if this is a text."""

    def __init__(self, message: bytes) -> None:
        self._sections = list(_split(message))
        body = next(section for kind, section in self._sections if kind == _BODY)
        end = body.index(0, 5)
        self.name = body[5:end].decode()
        self.collection = _read_string(body, end + 1) if body[4] == _STRING else None

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The body, and the documents that came beside it as lists under their names, such as ``documents``."""
        document: dict[str, Any] = {}
        for kind, section in self._sections:
            if kind == _BODY:
                document |= bson.decode(section)
            else:
                end = section.index(0, 4)
                document[section[4:end].decode()] = bson.decode_all(section[end + 1 :])
        return document


def _split(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the sections of a command, each with its kind. Each begins with its size."""
    end = len(message) - (4 if _read_int(message, HEADER_BYTES) & _CHECKSUM else 0)
    at = _SECTIONS_AT
    while at < end:
        size = _read_int(message, at + 1)
        yield message[at], message[at + 1 : at + 1 + size]
        at += 1 + size


def _read_int(message: bytes, at: int) -> int:
    number: int = _INT32.unpack_from(message, at)[0]
    return number


def _read_string(document: bytes, at: int) -> str:
    return document[at + 4 : at + 3 + _read_int(document, at)].decode()  # it ends with a NUL, which its size counts
