"""Transcriptions and speech as bytes."""

from __future__ import annotations

import pytest

from whatsapp_hub.assistants.voice_wire import (
    MAX_TRANSCRIPT_CHARACTERS,
    build_transcription,
    language_code,
    read_speech,
    read_transcription,
)
from whatsapp_hub.demo.speech import silence
from whatsapp_hub.errors import AssistantFailed


@pytest.mark.parametrize(
    ("language", "code"),
    [("de", "de"), ("pt-BR", "pt"), ("zh_Hant_TW", "zh"), ("DE", "de"), ("German", None), ("", None), (None, None)],
)
def test_language_is_sent_where_it_is_a_code(language: str | None, code: str | None) -> None:
    assert language_code(language) == code


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"text":5}', b"<html>", b'"text"'])
def test_what_is_no_transcription_is_refused(body: bytes) -> None:
    with pytest.raises(AssistantFailed, match="no transcription"):
        read_transcription(body)


def test_transcript_is_bounded_and_bare() -> None:
    assert read_transcription(b'{"text":"  hello \\n"}') == "hello"
    assert read_transcription(b'{"text":""}') == ""
    assert len(read_transcription(b'{"text":"' + b"x" * 20_000 + b'"}')) == MAX_TRANSCRIPT_CHARACTERS
    assert read_transcription(b'{"text":"a\\ud83db"}') == "a?b"


@pytest.mark.parametrize("body", [b"", b"ID3" + b"x" * 200, b"OggS" + b"x" * 200, b"RIFF....WAVE", b'{"error":1}'])
def test_what_is_no_voice_note_is_refused(body: bytes) -> None:
    with pytest.raises(AssistantFailed, match="OGG"):
        read_speech(body)
    assert read_speech(silence())


@pytest.mark.parametrize(
    ("mime_type", "filename"),
    [
        ("audio/ogg; codecs=opus", "voice.ogg"),
        ("audio/mpeg", "voice.mp3"),
        ('x"\r\nEvil: 1', "voice.ogg"),
        ("", "voice.ogg"),
    ],
)
def test_file_is_named_by_its_kind_and_nothing_else(mime_type: str, filename: str) -> None:
    body, content_type = build_transcription(b"sound", mime_type=mime_type, model="m", language=None, boundary="B")
    assert content_type == "multipart/form-data; boundary=B"
    assert f'filename="{filename}"'.encode() in body
    assert b"Evil" not in body
    assert body.endswith(b"\r\n\r\nsound\r\n--B--\r\n")
