"""Decryption and encryption of stored secrets, in the format of the program that writes ``businesses``."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from whatsapp_hub.errors import VaultError

CACHE_SIZE: Final = 10_000  # the guide's


class Vault:
    """Reads and writes stored secrets: the hex digits of an ASCII Fernet token.

    Plain values that were read before are kept in this object and nowhere else.
    """

    def __init__(self, secret: str, old: Sequence[str] = ()) -> None:
        """Use ``secret`` for both directions; accept the ``old`` ones for decryption too."""
        self._newest = _fernet(secret)
        self._fernet = MultiFernet([self._newest, *map(_fernet, old)])
        self._remembered = lru_cache(maxsize=CACHE_SIZE)(self._read)

    def decrypt(self, stored: str) -> str:
        """Return the plain value. Failures are not remembered, and there is no plain-text fallback.

        Raises:
            VaultError: none of the known secrets decrypts it.

        """
        return self._remembered(stored)

    def encrypt(self, plain: str) -> str:
        """Return what to store for a plain value."""
        return self._fernet.encrypt(plain.encode()).hex()

    def renew(self, stored: str) -> str | None:
        """Return what to store instead of a value that an old secret wrote; None where the present one wrote it.

        Raises:
            VaultError: none of the known secrets decrypts it.

        """
        plain = self._read(stored)
        try:
            self._newest.decrypt(bytes.fromhex(stored))
        except InvalidToken:
            return self.encrypt(plain)
        return None

    def _read(self, stored: str) -> str:
        try:
            return self._fernet.decrypt(bytes.fromhex(stored)).decode()
        except (InvalidToken, ValueError):
            pass
        # Raised out here because a decoding error, which would hang on as its context, carries the plain bytes.
        raise VaultError


def _fernet(secret: str) -> Fernet:
    return Fernet(urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()))
