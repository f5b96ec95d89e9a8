"""JSON that others wrote."""

from __future__ import annotations

import time

import pytest

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.errors import PayloadInvalid


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":"\xff"}',
        b'{"a":"\x01"}',
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"{" + b"[" * 100_000 + b"}" + b"]" * 99_999,
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        json_text.read_object(body)


def test_what_orjson_refuses_is_read_all_the_same() -> None:
    body = b'{"half":"\\ud83d","none":NaN,"far":1e999,"long":' + b"9" * 5000 + b',"big":1208925819614629174706176}'

    value = json_text.read_object(body)

    assert value == {"half": "\ud83d", "none": "NaN", "far": "1e999", "long": "9" * 5000, "big": 2**80}


def test_what_was_read_can_be_written() -> None:
    value = {"half": "\ud83d", "big": 2**80, "text": "é"}

    assert json_text.read(json_text.write(value))["half"] == "\ud83d"
    assert b"1208925819614629174706176" in json_text.write(value)


def test_sorted_writing_hides_the_order_of_keys() -> None:
    assert json_text.write_sorted({"a": 1, "b": "\ud83d"}) == json_text.write_sorted({"b": "\ud83d", "a": 1})
    assert json_text.write_sorted({"a": 1, "b": 2}) == json_text.write_sorted({"b": 2, "a": 1})


def test_the_greatest_depth_is_still_read() -> None:
    at_limit = b'{"a":' * (json_text.MAX_DEPTH - 1) + b"{}" + b"}" * (json_text.MAX_DEPTH - 1)
    beyond = b'{"a":' * json_text.MAX_DEPTH + b"{}" + b"}" * json_text.MAX_DEPTH

    assert json_text.read_object(at_limit) is not None
    assert json_text.read_object(beyond) is None


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert json_text.read_object(b'{"a":[' + b"[]," * 1000 + b"[]]}") is not None


@pytest.mark.parametrize("depth", [900, 1100, 100_000, 1_000_000])
def test_a_very_deep_object_is_told_from_invalid_json_in_no_time(depth: int) -> None:
    body = b'{"text":"]] \\" }","a":' + b"[" * depth + b"]" * depth + b"} "
    started = time.perf_counter()

    assert json_text.read_object(body) is None
    assert time.perf_counter() - started < 0.5


def test_clean_replaces_only_what_cannot_be_encoded() -> None:
    assert json_text.clean("é \U0001f600") == "é \U0001f600"
    assert json_text.clean("a\ud83db") == "a?b"
