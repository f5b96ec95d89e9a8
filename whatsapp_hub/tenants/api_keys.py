"""The keys with which businesses send from outside (pure): how they look, what is stored of them, who holds one.

A key is 256 random bits, so a plain SHA-256 of it cannot be guessed back. Its id stands in it, to find it by and to
show; the rest is told once and stored nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

SECRET_BYTES: Final = 32
ID_BYTES: Final = 6

_KEY: Final = re.compile(r"whk_([0-9a-f]{12})_[0-9A-Za-z_-]{43}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{12}", re.ASCII)
_NOBODYS: Final = "0" * 64  # the hash of no key


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a business's document holds of a key."""

    id: str
    hash: str = field(repr=False)


def make_key(identity: bytes, secret: bytes) -> tuple[str, ApiKey]:
    """Make a key of random bytes: the key itself, and what is stored of it."""
    if (len(identity), len(secret)) != (ID_BYTES, SECRET_BYTES):
        raise ValueError("a key takes 6 bytes for its id and 32 for its secret")
    plain = f"whk_{identity.hex()}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"
    return plain, ApiKey(identity.hex(), _hash(plain))


def read_api_key(value: object) -> ApiKey | None:
    """Read one entry of ``apiKeys``; None for what is none."""
    match value:
        case {"id": str(identity), "hash": str(stored)} if _ID.fullmatch(identity) and _HASH.fullmatch(stored):
            return ApiKey(identity, stored)
    return None


class KeyTable:
    """Who holds which key."""

    def __init__(self) -> None:
        self._holders: defaultdict[str, dict[str, str]] = defaultdict(dict)  # by key id: business id to hash

    def add(self, business_id: str, keys: Iterable[ApiKey]) -> None:
        """Note the keys of a business."""
        for key in keys:
            self._holders[key.id][business_id] = key.hash

    def remove(self, business_id: str, keys: Iterable[ApiKey]) -> None:
        """Forget the keys of a business."""
        for key in keys:
            self._holders[key.id].pop(business_id, None)
            if not self._holders[key.id]:
                del self._holders[key.id]

    def find(self, given: str) -> tuple[str, str] | None:
        """Return whose key this is and its id; None for a wrong one, after the same work as for a right one.

        A key that stands in the documents of several businesses is nobody's: it could not tell them apart.
        """
        named = _KEY.fullmatch(given)
        holders = self._holders.get(named[1], {}) if named else {}
        business_id, stored = next(iter(holders.items()), ("", _NOBODYS))
        is_right = hmac.compare_digest(_hash(given), stored)
        return (business_id, named[1]) if named and is_right and len(holders) == 1 else None


def _hash(plain: str) -> str:
    return hashlib.sha256(plain.encode(errors="surrogateescape")).hexdigest()
