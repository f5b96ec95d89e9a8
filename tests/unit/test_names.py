"""What a customer is called, and what WhatsApp's notices say of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from whatsapp_hub.cloud_api.names import Names, changed_names


def notice(system: Any) -> bytes:
    return orjson.dumps({"type": "system", "from": "491700000001", "system": system})


def test_changed_number_is_known_with_the_one_before() -> None:
    found = changed_names(notice({"type": "user_changed_number", "wa_id": "491700000002"}))
    assert found == Names(now=("491700000002",), former=("491700000001",))


@pytest.mark.parametrize(
    "system", [None, [], "x", {}, {"type": {"a": 1}}, {"type": ["user_changed_number"]}, {"type": 7}]
)
def test_what_is_no_notice_tells_nothing(system: Any) -> None:
    assert changed_names(notice(system)) is None
