"""What a client is told of its message."""

from __future__ import annotations

from typing import Any

import pytest

from whatsapp_hub.inbox.outbound_state import HELD, read_state


def document(*parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole = [{"state": "waiting", "wamid": "", "rank": 0, **part} for part in parts or ({},)]
    return {
        "_id": "101:api.1",
        "state": "active",
        "stage": "replying",
        "arrival": 1_800_000_000 * 10**9,
        "parts": whole,
        **changes,
    }


SENT = {"state": "sent", "wamid": "wamid.1"}


@pytest.mark.parametrize(
    ("stored", "state", "reason"),
    [
        (document(state="queued"), "queued", None),
        (document(), "queued", None),
        (document(stage="held", reason="names another business"), "queued", HELD),
        (document({"state": "sending"}), "sending", None),
        (document({"state": "sending"}, stage="ambiguous"), "sending", None),
        (document(SENT, {"state": "sending"}), "sending", None),
        (document(SENT, state="done", outcome="replied", reason="was held once"), "sent", None),
        (document(SENT | {"rank": 2}, SENT, state="done"), "sent", None),
        (document(SENT | {"rank": 2}, SENT | {"rank": 3}, state="done"), "delivered", None),
        (document(SENT | {"rank": 3}, state="done"), "read", None),
        (document(SENT | {"rank": 4}, state="done"), "read", None),
        (document(SENT | {"rank": 9}, state="done"), "sending", None),
        (document(SENT | {"rank": 9}, state="dead", reason="not delivered"), "failed", "not delivered"),
        (document(state="done", outcome="discarded", reason="too old"), "failed", "too old"),
        (document(state="queued", stage="held", reason="retried since"), "queued", None),
    ],
)
def test_state_is_that_of_the_last_part(stored: dict[str, Any], state: str, reason: str | None) -> None:
    told = read_state(stored).to_json()
    assert (told["state"], told["reason"]) == (state, reason)


def test_parts_tell_what_meta_said() -> None:
    sent = SENT | {"rank": 9, "times": {"sent": 1_800_000_001, "failed": 1_800_000_002}, "error": 131026}
    told = read_state(document(sent, state="dead", reason="not delivered")).to_json()
    assert told == {
        "id": "api.1",
        "state": "failed",
        "from": "101",
        "created_at": "2027-01-15T08:00:00Z",
        "reason": "not delivered",
        "wamids": ["wamid.1"],
        "parts": [
            {
                "state": "failed",
                "wamid": "wamid.1",
                "times": {"failed": "2027-01-15T08:00:02Z", "sent": "2027-01-15T08:00:01Z"},
                "error_code": 131026,
            }
        ],
    }


def test_time_that_is_none_is_left_out() -> None:
    told = read_state(document(SENT | {"times": {"sent": 10**18, "read": 1_800_000_000}})).to_json()
    assert told["parts"][0]["times"] == {"read": "2027-01-15T08:00:00Z"}
