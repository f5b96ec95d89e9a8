"""What must never stand in a log is taken out here (pure).

The hub does not log secrets, texts or phone numbers in the first place. This is the net below: libraries' messages and
tracebacks say what they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

HIDDEN: Final = "***"
NUMBER: Final = "[number]"
_LEAST_LENGTH: Final = 8  #: a shorter secret would be found in ordinary words

#: What introduces a secret (``access_token=``, ``'apiKey': '``, ``Authorization: Bearer``) stays, the secret goes.
_NAMED: Final = re.compile(
    r"""
    ( (?: token | secret\w* | api_?key | appsecret_proof | passw(?:or)?d | authorization )
      (?: \s*=\s* | ["']\s*:\s* | (?<=authorization)\s*:\s* )
      (?: b?["'] )? (?:bearer\s+|basic\s+)?
    | bearer\s+
    )
    [^\s"'&,;<>{}()\[\]]+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_URL_PASSWORD: Final = re.compile(r"""(://[^\s/:@"']*:)[^\s/"']+(?=@)""")
#: Secrets that give themselves away: Meta's tokens, OpenAI's keys, the businesses' API keys, Fernet's tokens (plain and
#: as hex), JSON web tokens.
_TOKEN: Final = re.compile(
    r"\bEAA[\w-]{6,}|\bsk-[\w-]{16,}|\bwhk_[0-9a-f]{12}_[\w-]{8,}"
    r"|\bgAAAA[\w=-]{20,}|\b67414141[0-9a-f]{40,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
)
#: Phone numbers (E.164 has up to 15 digits), bare or written with separators, and Meta's business-scoped user ids.
_PERSON: Final = re.compile(
    r"""
      (?<![0-9A-Za-z])(?<!\d\.)\+?\d{8,15}(?![0-9A-Za-z])
    | \+\d[\d\ ().-]{6,20}\d
    | \b[A-Z]{2}\.(?:ENT\.)?(?=[A-Za-z]*\d)[0-9A-Za-z]{8,128}\b
    """,
    re.VERBOSE,
)


class Redactor:
    """Takes out what looks like a secret or a person's number, and these secrets wherever they stand."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= _LEAST_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def hide_secrets(self, text: str) -> str:
        """Return the text without secrets; for ids, which may well be long numbers."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1{HIDDEN}", text)
        return _TOKEN.sub(HIDDEN, _NAMED.sub(rf"\1{HIDDEN}", text))

    def clean(self, text: str) -> str:
        """Return the text without secrets and without anybody's number."""
        return _PERSON.sub(NUMBER, self.hide_secrets(text))


_DOTS: Final = "\u2022" * 5
_SHORT: Final = 6  # digits; of these one is shown
_LONG: Final = 11  # digits; with the country's and the network's more stay hidden than are shown


def masked(customer: str) -> str:
    """Name a customer for a log: the last four characters, or two of a short name."""
    return f"***{customer[-4:] if len(customer) > 8 else customer[-2:]}"


def outlined(customer: str) -> str:
    """Return a customer's number or id for people to recognise, not to use: +49 151 ••••• 678."""
    tail = customer[-3:] if len(customer) > _SHORT else customer[-1:]
    if not customer.isdecimal() or len(customer) <= _SHORT:
        return f"{_DOTS} {tail}"
    head = f"+{customer[:2]} {customer[2:5]}" if len(customer) >= _LONG else f"+{customer[:2]}"
    return f"{head} {_DOTS} {tail}"
