"""Whatever Meta sends: nothing raises, and nothing is lost."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp_hub.cloud_api.messages import Webhook
from whatsapp_hub.cloud_api.payload import Item, read_webhook
from whatsapp_hub.cloud_api.reading import read_text
from whatsapp_hub.errors import PayloadInvalid

SAMPLES = [json.loads(path.read_bytes()) for path in sorted((Path(__file__).parents[1] / "samples").glob("*.json"))]
KEYS = ["entry", "changes", "value", "field", "messages", "statuses", "metadata", "phone_number_id", "id", "from"]

# Any code point, lone surrogates too.
texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=5) | st.sampled_from(["messages", "text"])
scalars = st.none() | st.booleans() | st.integers() | st.integers(2**64, 2**70) | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4),
    max_leaves=20,
)


def read(payload: object) -> Webhook:
    return read_webhook(json.dumps(payload).encode(), now=1_750_000_000, new_id=None)


def as_it_comes(value: object) -> str:
    """Return a value as it is after a journey through JSON, in a form that can be compared."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=str, parse_int=_rounded), sort_keys=True)


def _rounded(literal: str) -> float:
    # Integers beyond 64 bits come out of orjson as floats.
    return float(literal)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in steps:
        found += places(child, (*path, step))
    return found


def mutate(payload: Any, data: st.DataObject) -> None:
    """Replace, remove or double something anywhere in the payload."""
    path = data.draw(st.sampled_from(places(payload)))
    place = payload
    for step in path[:-1]:
        place = place[step]
    action = data.draw(st.sampled_from(["replace", "remove", "double"]))
    if action == "remove":
        del place[path[-1]]
    elif action == "double" and isinstance(place, list):
        place.insert(path[-1], copy.deepcopy(place[path[-1]]))
    else:
        place[path[-1]] = data.draw(values)


def list_items(payload: Any) -> list[Any]:
    """Return every message and status of a payload that stands where Meta puts them."""
    found: list[Any] = []
    entries = payload.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for change in changes if isinstance(changes, list) else ():
            value = change.get("value") if isinstance(change, dict) else None
            if isinstance(value, dict) and change.get("field") in ("messages", None):
                for key in ("messages", "statuses"):
                    found += value[key] if isinstance(value.get(key), list) else []
    return found


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | texts, values, max_size=5))
def test_any_object_is_taken_apart(payload: dict[str, Any]) -> None:
    assert len(read(payload)) >= 1


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        webhook = read_webhook(body, now=1, new_id=None)
    except PayloadInvalid:
        return
    assert len(webhook) >= 1


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_no_mutation_of_a_real_payload_loses_an_item(sample: Any, data: st.DataObject) -> None:
    payload = copy.deepcopy(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        if places(payload):
            mutate(payload, data)

    webhook = read(payload)

    items: tuple[Item, ...] = (*webhook.messages, *webhook.statuses, *webhook.others)
    stored = Counter(as_it_comes(json.loads(item.item)) for item in items)
    expected = Counter(map(as_it_comes, list_items(payload)))
    assert expected - stored == Counter()
    for item in items:
        names = (item.phone_number_id or "", getattr(item, "sender", ""), getattr(item, "id", ""))
        assert all(name.encode() is not None for name in names)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_no_message_is_beyond_words(sample: Any, data: st.DataObject) -> None:
    payload = copy.deepcopy(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        if places(payload):
            mutate(payload, data)

    for item in list_items(payload):
        kind, text = read_text(json.dumps(item).encode())

        assert kind.encode()
        assert text.encode()


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_have_words(item: bytes) -> None:
    kind, text = read_text(item)

    assert kind.encode()
    assert text.encode()
