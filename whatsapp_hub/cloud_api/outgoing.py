"""What we say to Meta, as bytes (pure): texts in parts, the body of a send, and what its statuses bring back."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from whatsapp_hub.cloud_api.json_text import is_clean

#: Meta's limit is in characters, which its pages do not define. Code points are what the clients in the field count:
#: an emoji outside the basic plane is one, not the two of its surrogate pair.
TEXT_LIMIT: Final = 4096
CALLBACK_DATA_LIMIT: Final = 512  # Meta's, for biz_opaque_callback_data

_CALLBACK_DATA: Final = re.compile(r"hub1\|([0-9]{1,9})\|([0-9]{1,9})\|([^|]*)\|(.*)", re.ASCII | re.DOTALL)
_PHONE_NUMBER: Final = re.compile(r"\+?[0-9]+")
_BSUID: Final = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]+")
_VISIBLE: Final = re.compile(r"\S")
_SENTENCE_END: Final = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]")
_MAX_CLUSTER: Final = 32  # code points that are kept together where a word has to be cut
_JOINER: Final = "\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackData:
    """What a status brings back of the send that it is about."""

    customer: str = field(repr=False)
    message_id: str
    part: int
    attempt: int


def is_bsuid(customer: str) -> bool:
    """Tell a business-scoped user id (``US.1349…``, or a parent's, ``US.ENT.1181…``) from a phone number."""
    return _BSUID.fullmatch(customer) is not None


def split_text(text: str, limit: int = TEXT_LIMIT) -> list[str]:
    """Cut a text into parts of at most ``limit`` code points; a blank text has none.

    Cuts fall between paragraphs, lines, sentences or words, in that order of preference, and only white space at a cut
    is lost. A word longer than a part is cut, but not within what looks like one character.
    """
    if limit < 1:
        raise ValueError("a part needs room for at least one character")
    parts: list[str] = []
    start = 0
    while len(text) - start > limit:
        cut = _find_cut(text, start, limit)
        if part := text[start:cut].rstrip():
            parts.append(part)
        start = _skip_space(text, cut)
    if _skip_space(text, start) < len(text):
        parts.append(text[start:])
    return parts


def text_part(body: str) -> bytes:
    """Return a text message without its recipient, ready for ``build_send``.

    A surrogate without its other half cannot be sent as UTF-8: it becomes the replacement character.
    """
    try:
        return orjson.dumps({"type": "text", "text": {"body": body}})
    except orjson.JSONEncodeError:
        return orjson.dumps({"type": "text", "text": {"body": mend_text(body)}})


def mend_text(text: str) -> str:
    """Replace what UTF-8 cannot hold."""
    return text if is_clean(text) else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def build_send(part: bytes, *, customer: str, callback_data: str, reply_to: str | None = None) -> bytes:
    """Return the body of a send: ``part`` with its recipient, and what its statuses shall bring back ("" for nothing).

    A phone number goes in ``to`` and everything else in ``recipient``: Meta answers a BSUID in ``to`` with 200, drops
    it and says nothing, while anything wrong in ``recipient`` gets an honest error.
    """
    head: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to" if _PHONE_NUMBER.fullmatch(customer) else "recipient": customer,
    }
    if reply_to:
        head["context"] = {"message_id": reply_to}
    if callback_data:
        head["biz_opaque_callback_data"] = callback_data
    return orjson.dumps(head)[:-1] + b"," + part[1:]


def build_typing(message_id: str) -> bytes:
    """Return the body that marks a message as read and shows "typing" for 25 s or until something is sent."""
    return orjson.dumps(
        {
            "messaging_product": "whatsapp",
            "status": "read",
            "message_id": message_id,
            "typing_indicator": {"type": "text"},
        }
    )


def callback_data(customer: str, message_id: str, part: int, attempt: int) -> str:
    """Name one attempt at one part, for its statuses to bring back; "" where the names do not fit Meta's limit."""
    data = f"hub1|{part}|{attempt}|{customer}|{message_id}"
    fits = len(data) <= CALLBACK_DATA_LIMIT and data.isascii() and "|" not in customer
    return data if fits else ""


def read_callback_data(data: str) -> CallbackData | None:
    """Read what ``callback_data`` wrote; None for anything else. A hint only: whoever may send can write the same."""
    found = _CALLBACK_DATA.fullmatch(data) if len(data) <= CALLBACK_DATA_LIMIT else None
    if found is None:
        return None
    part, attempt, customer, message_id = found.groups()
    return CallbackData(customer=customer, message_id=message_id, part=int(part), attempt=int(attempt))


def belong_together(left: str, right: str) -> bool:
    """Say whether two code points are likely to be seen as one character: accents, skin tones, flags, joined emoji."""
    return (
        _JOINER in (left, right)
        or unicodedata.category(right) in ("Mn", "Me", "Mc")
        or "\U000e0020" <= right <= "\U000e007f"
        or "\U0001f3fb" <= right <= "\U0001f3ff"
        or ("\U0001f1e6" <= left <= "\U0001f1ff" and "\U0001f1e6" <= right <= "\U0001f1ff")
    )


def _skip_space(text: str, start: int) -> int:
    found = _VISIBLE.search(text, start)
    return found.start() if found else len(text)


def _find_cut(text: str, start: int, limit: int) -> int:
    """Find where the part from ``start`` ends; the text is known to go on beyond ``limit``."""
    end = start + limit
    middle = start + limit // 2  # a paragraph or sentence that ends sooner would make parts needlessly short
    for boundary in ("\n\n", "\n"):
        if (found := text.rfind(boundary, middle, end + 1)) > start:
            return found
    sentence_ends = [match.end() for match in _SENTENCE_END.finditer(text, middle, end + 1) if match.end() <= end]
    if sentence_ends:
        return sentence_ends[-1]
    for index in range(end, start, -1):
        if text[index].isspace():
            return index
    return _cut_word(text, start, end)


def _cut_word(text: str, start: int, end: int) -> int:
    for cut in range(end, max(start, end - _MAX_CLUSTER), -1):
        if not belong_together(text[cut - 1], text[cut]):
            return cut
    return end
