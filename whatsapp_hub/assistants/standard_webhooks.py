"""Signing requests as Standard Webhooks does (pure); receivers find ready libraries for it in every language.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - no secret, but how one begins
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9:_=+/-]")


def read_key(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 after ``whsec_``, and any other text as it is.

    Raises:
        ValueError: it is no key, in words that follow the secret's name.

    """
    key = secret.encode(errors="replace")
    if secret.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("begins with whsec_, but what follows is not base64") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"has to have {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, and has {len(key)}")
    return key


def read_id(name: str) -> str:
    """Return a name as it may stand in ``webhook-id``: the dot is what separates the signed fields."""
    return _UNSAFE.sub("_", name)


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that go with a body."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
