"""How the console names a conversation in its links: by words that tell the customer's number to nobody but the hub.

A conversation's own name holds that number, and addresses end up in histories and in logs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import SecretStr

_PURPOSE: Final = b"whatsapp-hub console reference"


class References:
    """Makes and reads references; the same for the same conversation until the admin token changes."""

    def __init__(self, token: SecretStr) -> None:
        """Derive the key from the admin token: who knows that may see the number anyway."""
        self._cipher = AESSIV(hmac.digest(token.get_secret_value().encode(), _PURPOSE, "sha512"))

    def make(self, conversation: str) -> str:
        """Return the reference of a conversation."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(conversation.encode(), None)).decode().rstrip("=")

    def read(self, reference: str) -> str | None:
        """Return the conversation that a reference names; None for anything else."""
        try:
            hidden = base64.b64decode(reference + "=" * (-len(reference) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(hidden, None).decode()
        except (binascii.Error, InvalidTag, ValueError):
            return None
