"""A webhook's body taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from whatsapp_hub.cloud_api.messages import InboundMessage, StatusUpdate, Webhook
from whatsapp_hub.cloud_api.payload import MAX_ITEMS, read_webhook, status_key
from whatsapp_hub.errors import PayloadInvalid

SAMPLES = Path(__file__).parents[1] / "samples"
NOW = 1_750_000_000
NUMBER = "106540352242922"
ACCOUNT = "102290129340398"
BSUID = "US.13491208655302741918"
PHONE = "16505551234"
TIMESTAMP = 1749416383


def read(payload: object) -> Webhook:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_webhook(body, now=NOW, new_id=None)


def read_sample(name: str) -> Webhook:
    return read((SAMPLES / f"{name}.json").read_bytes())


def load(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_bytes())


def value_of(payload: Any) -> dict[str, Any]:
    value: dict[str, Any] = payload["entry"][0]["changes"][0]["value"]
    return value


def with_message(**changes: object) -> Any:
    """Return the text sample with keys of its message replaced; None takes one away."""
    payload = load("text")
    message = value_of(payload)["messages"][0] | changes
    value_of(payload)["messages"] = [{key: value for key, value in message.items() if value is not None}]
    return payload


def only_message(webhook: Webhook) -> InboundMessage:
    assert (len(webhook.messages), len(webhook)) == (1, 1)
    return webhook.messages[0]


def only_status(webhook: Webhook) -> StatusUpdate:
    assert (len(webhook.statuses), len(webhook)) == (1, 1)
    return webhook.statuses[0]


def test_a_text_is_read() -> None:
    message = only_message(read_sample("text"))

    assert message.phone_number_id == NUMBER
    assert message.id.startswith("wamid.")
    assert message.sender == BSUID
    assert message.timestamp == TIMESTAMP
    assert message.profile_name == "Sheena Nelson"
    assert json.loads(message.item) == value_of(load("text"))["messages"][0]
    assert message.key == f"{NUMBER}:{message.id}"
    assert message.conversation == f"{NUMBER}:{BSUID}"


INBOX_SAMPLES = sorted(
    path.stem
    for path in SAMPLES.glob("*.json")
    if "messages" in value_of(json.loads(path.read_bytes())) and path.stem not in {"batch", "load_test"}
)


@pytest.mark.parametrize("name", INBOX_SAMPLES)
def test_every_kind_of_message_reaches_the_inbox(name: str) -> None:
    webhook = read_sample(name)

    assert len(webhook.messages) == 1
    assert webhook.messages[0].sender in {BSUID, PHONE}
    assert len(webhook.others) == (name in {"interactive_broken", "extra_keys"})


def test_a_sender_without_a_user_id_is_known_by_the_phone_number() -> None:
    assert only_message(read_sample("text_old")).sender == PHONE


def test_a_sender_without_a_phone_number_is_known_by_the_user_id() -> None:
    message = only_message(read_sample("text_bsuid_only"))

    assert (message.sender, message.profile_name) == (BSUID, "Sheena")


def test_a_message_without_contacts_has_no_profile_name() -> None:
    assert only_message(read_sample("system_number_changed")).profile_name == ""


def test_what_stands_beside_the_messages_is_kept() -> None:
    webhook = read_sample("interactive_broken")
    rest = json.loads(webhook.others[0].item)

    assert rest["value"]["errors"][0]["code"] == 131000
    assert "messages" not in rest["value"]
    assert webhook.others[0].phone_number_id == NUMBER


@pytest.mark.parametrize("name", ["sent", "delivered", "read", "played"])
def test_statuses_are_read(name: str) -> None:
    status = only_status(read_sample(f"status_{name}"))

    assert (status.phone_number_id, status.id, status.status) == (NUMBER, "wamid.HBgLSENT", name)
    assert status.timestamp == TIMESTAMP
    assert status.error_code is None
    assert status.callback_data == ("m|1|1" if name == "sent" else "")
    assert status_key(status) == f"{NUMBER}:wamid.HBgLSENT:{name}"


def test_a_failed_status_names_its_error() -> None:
    assert only_status(read_sample("status_failed")).error_code == 131047


def test_group_statuses_are_one_per_participant() -> None:
    webhook = read_sample("status_group")

    assert [status.participant for status in webhook.statuses] == [BSUID, "US.99"]
    assert len({status_key(status) for status in webhook.statuses}) == 2


@pytest.mark.parametrize(
    ("name", "field", "number", "account"),
    [
        ("errors_only", "messages", NUMBER, ACCOUNT),
        ("user_actions", "messages", NUMBER, ACCOUNT),
        ("contacts_only", "messages", NUMBER, ACCOUNT),
        ("status_template", "message_template_status_update", None, ACCOUNT),
        ("account_alerts", "account_alerts", None, ACCOUNT),
        ("account_update", "account_update", None, "980198427658004"),
        ("user_preferences", "user_preferences", NUMBER, ACCOUNT),
        ("standby", "standby", NUMBER, ACCOUNT),
        ("echo", "smb_message_echoes", NUMBER, ACCOUNT),
        ("handover", "messaging_handovers", NUMBER, ACCOUNT),
        ("call_status", "calls", NUMBER, ACCOUNT),
        ("call_connect", "calls", NUMBER, ACCOUNT),
    ],
)
def test_everything_else_is_kept_raw(name: str, field: str, number: str | None, account: str) -> None:
    webhook = read_sample(name)

    assert len(webhook) == 1
    (other,) = webhook.others
    assert (other.field, other.phone_number_id, other.account_id) == (field, number, account)
    assert json.loads(other.item)["value"] == value_of(load(name))


def test_account_updates_keep_the_time_of_their_entry() -> None:
    assert json.loads(read_sample("account_update").others[0].item)["time"] == 1751247549


def test_a_broken_message_costs_its_siblings_nothing() -> None:
    webhook = read_sample("batch")

    assert [json.loads(message.item)["type"] for message in webhook.messages] == ["text", "image", "audio"]
    assert [status.status for status in webhook.statuses] == ["read"]
    assert [type(json.loads(other.item)) for other in webhook.others] == [int, dict]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"object": "whatsapp_business_account"},
        {"entry": None},
        {"entry": []},
        {"entry": {}},
        {"entry": "x"},
        {"entry": [5]},
        {"entry": [None]},
        {"entry": [{}]},
        {"entry": [{"id": 5, "changes": {}}]},
        {"entry": [{"changes": [7]}]},
        {"entry": [{"changes": [{"field": "messages", "value": []}]}]},
        {"entry": [{"changes": [{"field": ["messages"], "value": {"messages": [{"id": "a", "from": "b"}]}}]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"messages": {"0": {}}}}]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"messages": []}}]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"messages": [{"id": "a", "from": "b"}]}}]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"metadata": 5, "statuses": [{"id": "a"}]}}]}]},
    ],
)
def test_what_is_not_understood_is_one_raw_item(payload: object) -> None:
    webhook = read(payload)

    assert (len(webhook), len(webhook.others)) == (1, 1)


@pytest.mark.parametrize("key", ["messages", "statuses"])
def test_a_list_that_is_none_does_not_hide_the_other(key: str) -> None:
    payload = load("text" if key == "statuses" else "status_read")
    value_of(payload)[key] = {"0": "strange"}

    webhook = read(payload)

    assert len(webhook.messages) + len(webhook.statuses) == 1
    assert "strange" in webhook.others[0].item.decode()


def test_unknown_keys_of_entry_and_payload_are_kept() -> None:
    payload = load("text")
    payload["entry"][0]["news"] = "entry news"
    payload["news"] = "payload news"

    webhook = read(payload)

    assert len(webhook.messages) == 1
    assert [other.item for other in webhook.others] == [
        json.dumps({"id": ACCOUNT, "news": "entry news"}, separators=(",", ":")).encode(),
        json.dumps({"object": "whatsapp_business_account", "news": "payload news"}, separators=(",", ":")).encode(),
    ]


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("1749416383", 1749416383),
        (1749416383, 1749416383),
        (None, NOW),
        ("abc", NOW),
        ("", NOW),
        ("-5", NOW),
        ("1e9", NOW),
        ("1_749_416_383", NOW),
        ("\u0661\u0662", NOW),
        ("1749416383000", NOW),
        (1749416383000, NOW),
        (0, NOW),
        (-1, NOW),
        (True, NOW),
        (1.5, NOW),
        (2**64, NOW),
        ("9" * 10_000, NOW),
        ({}, NOW),
    ],
)
def test_a_timestamp_that_is_none_is_now(given: object, read_as: int) -> None:
    assert only_message(read(with_message(timestamp=given))).timestamp == read_as


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": ""},
        {"id": 5},
        {"id": ["wamid"]},
        {"id": "w" * 513},
        {"id": "wamid.\ud83d"},
        {"from": None, "from_user_id": None},
        {"from": 16505551234, "from_user_id": None},
        {"from": "", "from_user_id": {}},
        {"from": "\ud83d", "from_user_id": None},
    ],
)
def test_a_message_that_cannot_be_named_is_kept_raw(changes: dict[str, object]) -> None:
    webhook = read(with_message(**changes))

    assert (len(webhook), len(webhook.others)) == (1, 1)
    assert webhook.others[0].phone_number_id == NUMBER
    assert b"Does it come in another color?" in webhook.others[0].item


def test_a_strange_user_id_leaves_the_phone_number() -> None:
    assert only_message(read(with_message(from_user_id=5))).sender == PHONE


@pytest.mark.parametrize("number", [None, 5, "", "1:2", "n" * 513, "\ud83d"])
def test_a_message_to_no_number_is_kept_raw(number: object) -> None:
    payload = load("text")
    value_of(payload)["metadata"]["phone_number_id"] = number

    assert len(read(payload).others) == 1


@pytest.mark.parametrize("status", [{"id": None}, {"id": 5}, {"status": None}, {"status": ["read"]}, {"status": ""}])
def test_a_status_that_cannot_be_named_is_kept_raw(status: dict[str, object]) -> None:
    payload = load("status_read")
    value_of(payload)["statuses"][0] |= status

    assert len(read(payload).others) == 1


def test_hostile_details_of_a_status_are_left_out() -> None:
    payload = load("status_failed")
    value_of(payload)["statuses"][0] |= {
        "timestamp": [],
        "errors": [{"code": 2**70}],
        "biz_opaque_callback_data": 5,
        "recipient_participant_id": {},
    }

    status = only_status(read(payload))

    assert (status.timestamp, status.error_code, status.callback_data, status.participant) == (NOW, None, "", "")


@pytest.mark.parametrize("errors", [None, [], {}, [5], [{}], [{"code": "131047"}], [{"code": True}]])
def test_an_error_without_a_code_has_none(errors: object) -> None:
    payload = load("status_failed")
    value_of(payload)["statuses"][0]["errors"] = errors

    assert only_status(read(payload)).error_code is None


def test_a_profile_name_that_cannot_be_encoded_is_mended() -> None:
    payload = load("text")
    value_of(payload)["contacts"][0]["profile"]["name"] = "Shee\ud83dna" + "a" * 1000

    name = only_message(read(payload)).profile_name

    assert name.startswith("Shee?na")
    assert len(name) == 256


@pytest.mark.parametrize("contacts", [None, 5, {}, [], [5], [{}], [{"profile": 5}], [{"profile": {"name": 5}}]])
def test_hostile_contacts_leave_the_message(contacts: object) -> None:
    payload = load("text")
    value_of(payload)["contacts"] = contacts

    assert only_message(read(payload)).profile_name == ""


def test_each_message_gets_the_name_of_its_own_sender() -> None:
    payload = load("text")
    value = value_of(payload)
    value["contacts"] = [
        {"wa_id": "2", "profile": {"name": "Two"}},
        {"wa_id": ["3"], "user_id": "US.1", "profile": {"name": "One"}},
    ]
    value["messages"] = [
        {"id": "a", "from_user_id": "US.1", "from": "1"},
        {"id": "b", "from": "2"},
        {"id": "c", "from": "3"},
        {"id": "d", "from": "2", "from_user_id": "US.2"},
    ]

    assert [message.profile_name for message in read(payload).messages] == ["One", "Two", "", "Two"]


def test_an_only_contact_names_an_only_message() -> None:
    payload = load("text_old")
    value_of(payload)["contacts"][0]["wa_id"] = "written otherwise"

    assert only_message(read(payload)).profile_name == "Sheena Nelson"


@pytest.mark.parametrize("strange", [2**64 - 1, 2**80, "a\ud83db", float("nan"), {"a\x00b": 1}])
def test_strange_content_reaches_the_inbox_with_its_siblings(strange: object) -> None:
    payload = load("batch")
    value_of(payload)["messages"][0]["strange"] = strange

    webhook = read(payload)

    assert len(webhook.messages) == 3
    assert "strange" in json.loads(webhook.messages[0].item)


def test_the_key_of_a_raw_item_is_the_same_when_it_comes_again() -> None:
    first, again = load("user_actions"), load("user_actions")
    again["entry"][0] = dict(reversed(again["entry"][0].items()))

    assert read(first).others[0].key == read(again).others[0].key


def test_raw_items_of_different_places_have_different_keys() -> None:
    def vary() -> Iterator[Any]:
        for path, value in (
            (("entry", 0, "id"), "other account"),
            (("entry", 0, "time"), 5),
            (("entry", 0, "changes", 0, "field"), "other field"),
            (("entry", 0, "changes", 0, "value", "metadata", "phone_number_id"), "other number"),
            (("entry", 0, "changes", 0, "value", "user_actions"), [{"action_type": "other"}]),
        ):
            payload = place = load("user_actions")
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            yield payload

    keys = {read(payload).others[0].key for payload in (load("user_actions"), *vary())}

    assert len(keys) == 6


def test_the_load_test_of_the_guide_is_understood_in_unsigned_mode() -> None:
    numbers = count()
    body = (SAMPLES / "load_test.json").read_bytes()

    webhook = read_webhook(body, now=NOW, new_id=lambda: f"new.{next(numbers)}")

    message = only_message(webhook)
    assert (message.phone_number_id, message.id, message.sender) == ("123456789", "new.0", "15551234567")
    assert message.timestamp == NOW


def test_a_message_without_an_id_is_kept_raw_in_signed_mode() -> None:
    assert len(read_sample("load_test").others) == 1


def test_a_given_id_is_never_replaced() -> None:
    body = (SAMPLES / "text.json").read_bytes()

    assert only_message(read_webhook(body, now=NOW, new_id=lambda: "new")).id.startswith("wamid.")


def test_a_verified_object_that_is_too_deep_is_stored_whole() -> None:
    for depth in (40, 2000, 100_000):
        body = b'{"entry":' + b"[" * depth + b"]" * depth + b"}"

        (other,) = read(body).others

        assert other.item == body
        assert (other.phone_number_id, other.account_id) == (None, None)


def test_a_verified_object_with_too_many_items_is_stored_whole() -> None:
    payload = load("text")
    message = value_of(payload)["messages"][0]
    value_of(payload)["messages"] = [message | {"id": f"wamid.{n}"} for n in range(MAX_ITEMS)]
    assert len(read(payload).messages) == MAX_ITEMS

    value_of(payload)["messages"].append(message)
    webhook = read(payload)

    assert len(webhook) == 1
    assert json.loads(webhook.others[0].item) == payload


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(PayloadInvalid):
        read(b"[]")
