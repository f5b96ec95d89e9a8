"""The signature of a webhook: HMAC-SHA256 of the raw body, keyed with the app secret (pure).

Meta signs an escaped form of the payload, and that form is what stands on the wire. So the bytes are hashed as they
came; whoever parses and dumps them again fails on the first accent or emoji.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "sha256="
# Meta writes lower-case hex. Anything else did not come from Meta, so it is not worth a second spelling.
_WELL_FORMED: Final = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)


def verify(body: bytes, header: bytes | str | None, secrets: Sequence[bytes]) -> bool:
    """Tell whether one of the secrets signed this body. Never raises; an empty secret never counts."""
    if header is None:
        return False
    if isinstance(header, bytes):
        header = header.decode("latin-1")
    match = _WELL_FORMED.fullmatch(header)
    if match is None:
        return False
    # Bytes, because comparing text raises on what is not ASCII.
    given = bytes.fromhex(match[1])
    for secret in secrets:  # noqa: SIM110 - nearly always one, and a generator costs as much as half a digest
        if secret and hmac.compare_digest(hmac.digest(secret, body, "sha256"), given):
            return True
    return False


def sign(body: bytes, secret: bytes) -> str:
    """Return the header that Meta would send with this body."""
    return PREFIX + hmac.digest(secret, body, "sha256").hex()
