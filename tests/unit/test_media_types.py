"""Which media are uploaded, how long their ids are used, and what Graph's answers to an upload mean."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from whatsapp_hub.cloud_api.errors import Verdict
from whatsapp_hub.cloud_api.media_types import MediaReply, UploadResult, bare_type, find_media_fault, read_upload
from whatsapp_hub.cloud_api.replies import Audio, Document, Image, Media, Sticker, Video

STATIC = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(20)
ANIMATED = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(20)
KB, MB = 1024, 1024 * 1024


def filled(size: int, start: bytes = b"") -> bytes:
    return start + bytes(size - len(start))


@pytest.mark.parametrize(
    ("kind", "mime_type", "start", "most"),
    [
        (Image, "image/jpeg", b"", 5 * MB),
        (Image, "image/png", b"", 5 * MB),
        (Audio, "audio/ogg; codecs=opus", b"", 16 * MB),
        (Audio, "Audio/MPEG", b"", 16 * MB),
        (Video, "video/mp4", b"", 16 * MB),
        (Video, "video/3gpp", b"", 16 * MB),
        (Document, "application/pdf", b"", 100 * MB),
        (Document, "text/csv", b"", 100 * MB),
        (Document, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"", 100 * MB),
        (Sticker, "image/webp", STATIC, 100 * KB),
        (Sticker, "image/webp", ANIMATED, 500 * KB),
    ],
)
def test_media_may_be_as_large_as_meta_says(
    kind: Callable[..., MediaReply], mime_type: str, start: bytes, most: int
) -> None:
    assert find_media_fault(kind(media=Media(data=filled(most, start), mime_type=mime_type))) is None
    fault = find_media_fault(kind(media=Media(data=filled(most + 1, start), mime_type=mime_type)))
    assert fault == f"it is larger than {most // KB} KB"


@pytest.mark.parametrize(
    ("kind", "mime_type"),
    [
        (Image, "image/webp"),
        (Image, None),
        (Image, "image/jpegs"),
        (Audio, "audio/opus"),
        (Audio, "audio/wav"),
        (Video, "video/webm"),
        (Document, "application/zip"),
        (Document, "image/jpeg"),
        (Sticker, "image/png"),
    ],
)
def test_other_types_are_not_taken(kind: Callable[..., MediaReply], mime_type: str | None) -> None:
    fault = find_media_fault(kind(media=Media(data=b"x", mime_type=mime_type)))
    assert fault == "its type is none that WhatsApp takes for this kind"


def test_nothing_is_not_uploaded() -> None:
    assert find_media_fault(Image(media=Media(data=b"", mime_type="image/png"))) == "it is empty"


def test_type_is_compared_without_its_parameters() -> None:
    assert (bare_type("audio/ogg; codecs=opus"), bare_type(None)) == ("audio/ogg", "")


def error(code: int) -> bytes:
    return orjson.dumps({"error": {"code": code}})


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"id":"17"}', Verdict.SENT),
        (200, b'{"id":""}', Verdict.RETRY),
        (200, b'{"id":17}', Verdict.RETRY),
        (200, b'["17"]', Verdict.RETRY),
        (200, b"<html>", Verdict.RETRY),
        (400, error(100), Verdict.DEAD),
        (400, error(131053), Verdict.DEAD),
        (413, b"<html>", Verdict.DEAD),
        (401, error(190), Verdict.HOLD),
        (400, error(80007), Verdict.RETRY),
        (500, error(131016), Verdict.RETRY),
        (502, b"<html>", Verdict.RETRY),
        (404, b"<html>", Verdict.RETRY),
    ],
)
def test_answer_to_an_upload_says_what_to_do(status: int, body: bytes, verdict: Verdict) -> None:
    assert read_upload(status, body, None).verdict is verdict


def test_answer_to_an_upload_brings_the_id_or_when_to_come_again() -> None:
    assert read_upload(200, b'{"id":"17"}', None) == UploadResult(verdict=Verdict.SENT, media_id="17")
    assert read_upload(400, error(4), "30").retry_after_s == 30
