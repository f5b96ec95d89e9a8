"""Webhooks as Meta might send them some day: real ones, put together anew and damaged. For the fuzzers."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

SAMPLES: Final = [json.loads(path.read_bytes()) for path in sorted((Path(__file__).parent / "samples").glob("*.json"))]
#: Changes, messages and statuses of the samples: what payloads are put together of.
CHANGES: Final = [change for sample in SAMPLES for entry in sample["entry"] for change in entry["changes"]]
MESSAGES: Final = [m for change in CHANGES for m in change["value"].get("messages", ()) if isinstance(m, dict)]
STATUSES: Final = [
    status for change in CHANGES if change.get("field") == "messages" for status in change["value"].get("statuses", ())
]
KEYS: Final = (
    "id",
    "from",
    "from_user_id",
    "type",
    "timestamp",
    "text",
    "body",
    "interactive",
    "context",
    "errors",
    "messages",
    "statuses",
    "metadata",
    "phone_number_id",
    "contacts",
    "value",
    "field",
    "$where",
    "a.b",
    "a\0b",
)
#: What stands where something else should.
ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**64 - 1,
    2**70,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x" * 600,
    "\0",
    "\ud800",
    "a\ud83db",
    "é\U0001f600",
    "10:20",
    "null",
    "image",
    "hologram",
    "{",
    [],
    {},
    [None],
    {"": 0},
    [[[[[]]]]],
    {"id": {"id": []}},
)
_ids = count()


def build_payload(rng: Random, number: str) -> Any:
    """Put a payload together for one phone number, and perhaps damage it."""
    if rng.random() < 0.03:
        return rng.choice((*ODD, {"entry": rng.choice(ODD)}))
    entries = [_build_entry(rng, number) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    payload: dict[str, Any] = {"object": "whatsapp_business_account", "entry": entries}
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        _damage(rng, payload)
    return payload


def write_payload(rng: Random, payload: Any) -> bytes:
    """Write a payload as bytes, now and then not quite as JSON."""
    body = bytearray(json.dumps(payload).encode())  # NaN and lone surrogates too, as some senders write them
    if rng.random() < 0.03:
        for _ in range(rng.randint(1, 4)):
            if body:
                body[rng.randrange(len(body))] = rng.randrange(256)
    if rng.random() < 0.02:
        body = body[: rng.randrange(len(body) + 1)]
    if rng.random() < 0.01:
        body = bytearray(rng.randbytes(rng.randrange(200)))
    return bytes(body)


def list_items(payload: Any) -> Iterator[Any]:
    """Yield every message and status of a payload that stands where Meta puts them."""
    entries = payload.get("entry") if isinstance(payload, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for change in changes if isinstance(changes, list) else ():
            value = change.get("value") if isinstance(change, dict) else None
            if isinstance(value, dict) and change.get("field") in ("messages", None):
                for key in ("messages", "statuses"):
                    yield from value[key] if isinstance(value.get(key), list) else ()


#: A source of chance and a payload; what fails shrinks to a small seed.
seeds = st.integers(0, 2**64 - 1)


def _build_entry(rng: Random, number: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": "102290129340398"}
    if rng.random() < 0.2:
        entry["time"] = 1751247548
    entry["changes"] = [_build_change(rng, number) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    return entry


def _build_change(rng: Random, number: str) -> dict[str, Any]:
    change: dict[str, Any] = copy.deepcopy(rng.choice(CHANGES))
    value = change["value"]
    if "metadata" in value:
        value["metadata"]["phone_number_id"] = number
    if "messages" in value:
        value["messages"] = [_build_message(rng) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    if change.get("field") == "messages" and ("statuses" in value or rng.random() < 0.1):
        value["statuses"] = [_renamed(rng.choice(STATUSES)) for _ in range(rng.choice((1, 1, 3)))]
    return change


def _build_message(rng: Random) -> Any:
    message = _renamed(rng.choice(MESSAGES))
    for key in ("context", "referral", "group_id", "errors", "identity"):
        if rng.random() < 0.1:
            donor = rng.choice(MESSAGES)
            if key in donor:
                message[key] = copy.deepcopy(donor[key])
    if "from_user_id" in message and rng.random() < 0.2:
        message.pop("from", None)
    return message


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    """Copy an item under an id and, for messages, a sender of its own."""
    name = next(_ids)
    copied = copy.deepcopy(item)
    copied["id"] = f"wamid.fuzz{name}"
    copied["timestamp"] = str(int(time.time()))  # or it is too old to be answered
    for key in ("from", "from_user_id"):
        if key in copied:
            copied[key] = f"US.{name}" if key == "from_user_id" else f"49{name}"
    return copied


def _damage(rng: Random, payload: Any) -> None:
    """Replace, remove, double or add something anywhere."""
    place, step = _choose(rng, payload)
    if place is None:
        return
    match rng.randrange(5):
        case 0:
            del place[step]
        case 1 if isinstance(place, list):
            place.insert(step, copy.deepcopy(place[step]))
        case 2 if isinstance(place, dict):
            place[rng.choice(KEYS)] = copy.deepcopy(rng.choice(ODD))
        case 3:
            place[step] = copy.deepcopy(rng.choice((rng.choice(MESSAGES), rng.choice(CHANGES))))
        case _:
            place[step] = copy.deepcopy(rng.choice(ODD))


def _choose(rng: Random, payload: Any) -> tuple[Any, Any]:
    """Choose a place: any of all, which is mostly deep down, or one on the way there."""
    if rng.random() < 0.7:
        places = list(_places(payload))
        return rng.choice(places) if places else (None, None)
    place, step, value = None, None, payload
    for _ in range(rng.randint(1, 7)):
        steps = _steps(value)
        if not steps:
            break
        place, step = value, rng.choice(steps)
        value = value[step]
    return place, step


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for step in _steps(value):
        yield value, step
        yield from _places(value[step])


def _steps(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
