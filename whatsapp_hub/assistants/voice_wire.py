"""OpenAI's ``/audio/transcriptions`` and ``/audio/speech`` as bytes and values (pure).

https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from whatsapp_hub.cloud_api.json_fields import object_in, text
from whatsapp_hub.errors import AssistantFailed

MAX_TRANSCRIPT_CHARACTERS: Final = 16_000  # as many as one turn takes of texts
MAX_SPOKEN_CHARACTERS: Final = 4096  # OpenAI's limit for ``input``; a longer answer is better read

#: What a file is called decides how many servers read it.
_EXTENSIONS: Final = {
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "m4a",
    "audio/amr": "amr",
    "audio/wav": "wav",
    "audio/webm": "webm",
}
_LANGUAGE: Final = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*")


def build_transcription(
    data: bytes, *, mime_type: str, model: str, language: str | None, boundary: str
) -> tuple[bytes, str]:
    """Write the form that asks what is said in a sound; return it with its content type.

    ``boundary`` must stand nowhere in it: a long random word.
    """
    kind = mime_type.partition(";")[0].strip().lower()
    extension = _EXTENSIONS.get(kind, "ogg")
    fields: dict[str, str] = {"model": model, "response_format": "json"}
    if code := language_code(language):
        fields["language"] = code
    head = "".join(_field(name, value, boundary) for name, value in fields.items())
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="voice.{extension}"\r\n'
        f"Content-Type: {kind if kind in _EXTENSIONS else 'audio/ogg'}\r\n\r\n"
    )
    body = head.encode("utf-8", "replace") + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def language_code(language: str | None) -> str | None:
    """Return the two or three letters that servers want of ``pt-BR``; None for a name such as ``German``."""
    found = _LANGUAGE.fullmatch(language or "")
    return found[1].lower() if found else None


def read_transcription(body: bytes) -> str:
    """Read what was said; empty where nothing was. Raises ``AssistantFailed`` where that is not told."""
    answer = object_in(body)
    if answer is None or not isinstance(answer.get("text"), str):
        raise AssistantFailed("the response is no transcription")
    return text(answer, "text").strip()[:MAX_TRANSCRIPT_CHARACTERS]


def build_speech(words: str, *, model: str, voice: str) -> bytes:
    """Write the request that has something spoken, as WhatsApp wants voice notes: OGG with Opus."""
    request: Mapping[str, str] = {"model": model, "input": words, "voice": voice, "response_format": "opus"}
    return orjson.dumps(request)


def read_speech(body: bytes) -> bytes:
    """Return the sound. Raises ``AssistantFailed`` for what is not OGG with Opus, which WhatsApp would refuse.

    https://www.rfc-editor.org/rfc/rfc7845: the first page carries ``OpusHead`` alone.
    """
    if not (body.startswith(b"OggS") and b"OpusHead" in body[:128]):
        raise AssistantFailed("the response is not OGG with Opus")
    return body


def _field(name: str, value: str, boundary: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
