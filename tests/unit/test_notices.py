"""What Meta tells beside messages, as values, and what of it is trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from whatsapp_hub.cloud_api.contents import Details, RevokeContent, TextContent
from whatsapp_hub.cloud_api.notice_reading import read_notices
from whatsapp_hub.cloud_api.notices import (
    AccountNotice,
    ActionNotice,
    AlertNotice,
    CallNotice,
    EchoNotice,
    ErrorNotice,
    GroupNotice,
    HandoverNotice,
    HistoryNotice,
    Notice,
    NumberNotice,
    OtherNotice,
    PreferenceNotice,
    StandbyNotice,
    TemplateNotice,
    UserIdNotice,
    UsernameNotice,
)
from whatsapp_hub.cloud_api.payload import read_webhook
from whatsapp_hub.cloud_api.troubles import trouble_of

SAMPLES = Path(__file__).parents[1] / "samples"
USER = "US.13491208655302741918"
TEMPLATE: dict[str, Any] = {"name": "order_ready", "language": "en_US", "template_id": 12345678}


def notices_of(sample: str) -> tuple[Notice, ...]:
    (other,) = read_webhook((SAMPLES / f"{sample}.json").read_bytes(), now=1, new_id=None).others
    return read_notices(other.field, other.item)


def text(body: str) -> Details:
    return Details(kind="text", content=TextContent(body=body))


@pytest.mark.parametrize(
    ("sample", "notice", "trouble"),
    [
        (
            "account_restricted",
            AccountNotice(
                event="ACCOUNT_RESTRICTION", details=("RESTRICTED_BIZ_INITIATED_MESSAGING",), expires_at=1752000000
            ),
            "account: ACCOUNT_RESTRICTION, RESTRICTED_BIZ_INITIATED_MESSAGING, until 2025-07-08",
        ),
        (
            "account_violation",
            AccountNotice(event="ACCOUNT_VIOLATION", details=("SCAM",)),
            "account: ACCOUNT_VIOLATION, SCAM",
        ),
        (
            "account_disabled",
            AccountNotice(event="DISABLED_UPDATE", details=("SCHEDULE_FOR_DISABLE",)),
            "account: DISABLED_UPDATE, SCHEDULE_FOR_DISABLE",
        ),
        (
            "account_update",
            AccountNotice(event="PARTNER_REMOVED", account_id="980198427658004"),
            "account: PARTNER_REMOVED",
        ),
        (
            "account_alerts",
            AlertNotice(type="INCREASED_CAPABILITIES", severity="INFORMATIONAL", status="ACTIVE", entity_type="WABA"),
            None,
        ),
        ("template_status", TemplateNotice(what="status", new="PAUSED", **TEMPLATE), "template order_ready: PAUSED"),
        (
            "template_rejected",
            TemplateNotice(what="status", new="REJECTED", reason="The variables are in the wrong place.", **TEMPLATE),
            "template order_ready: REJECTED, The variables are in the wrong place.",
        ),
        (
            "template_quality",
            TemplateNotice(what="quality", new="RED", previous="GREEN", **TEMPLATE),
            "template order_ready: quality RED, was GREEN",
        ),
        (
            "template_category",
            TemplateNotice(what="category", new="MARKETING", previous="UTILITY", **TEMPLATE),
            None,
        ),
        ("template_components", TemplateNotice(what="components", **TEMPLATE), None),
        (
            "phone_number_quality",
            NumberNotice(event="DOWNGRADE", limit="TIER_1K"),
            "number: DOWNGRADE, limit TIER_1K",
        ),
        ("business_username", UsernameNotice(username="acme", status="approved"), None),
        (
            "user_preferences",
            PreferenceNotice(value="stop", category="marketing_messages", customer=USER, timestamp=1749416383),
            None,
        ),
        (
            "call_connect",
            CallNotice(id="wacid.HBgLCALL", event="connect", direction="USER_INITIATED", customer="16505551234"),
            None,
        ),
        ("call_status", CallNotice(id="wacid.HBgLCALL", status="RINGING", customer="16505551234"), None),
        (
            "echo",
            EchoNotice(
                id="wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQ0033QTAA",
                customer=USER,
                details=text("answered by hand"),
                timestamp=1749416383,
            ),
            None,
        ),
        (
            "echo_revoke",
            EchoNotice(
                id="wamid.HBgLECHO2",
                customer=USER,
                details=Details(kind="revoke", content=RevokeContent(original_message_id="wamid.HBgLECHO1")),
                timestamp=1749416383,
            ),
            None,
        ),
        (
            "standby",
            StandbyNotice(
                id="wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQ0032QTAA",
                customer="16505551234",
                details=text("to the other agent"),
                timestamp=1749416383,
            ),
            None,
        ),
        (
            "standby_echo",
            EchoNotice(
                id="wamid.HBgLECHO3",
                customer="16505551234",
                details=text("from the other agent"),
                timestamp=1749416383,
                standby=True,
            ),
            None,
        ),
        (
            "handover",
            HandoverNotice(
                type="control_passed",
                customer="16505551234",
                phone_number_id="106540352242922",
                timestamp=1749416383,
            ),
            None,
        ),
        (
            "group_participants",
            GroupNotice(type="group_participants_add", group_id="HBgLMTY1MDM4Nzk0MzkVAgASGBQ"),
            None,
        ),
        ("user_id_update", UserIdNotice(previous="US.1", current=USER, wa_id="16505551234"), None),
        (
            "user_actions",
            ActionNotice(action_type="marketing_messages_link_click", timestamp=1749416383),
            None,
        ),
        ("history", HistoryNotice(messages=1, progress=55), None),
        ("app_state_sync", HistoryNotice(), None),
        ("errors_only", ErrorNotice(code=130429, title="Rate limit hit"), "error 130429, Rate limit hit"),
        ("field_of_tomorrow", OtherNotice(), None),
    ],
)
def test_every_field_is_a_value_and_trouble_has_words(sample: str, notice: Notice, trouble: str | None) -> None:
    assert notices_of(sample) == (notice,)
    assert trouble_of(notice) == trouble


@pytest.mark.parametrize(
    "notice",
    [
        AccountNotice(event="ACCOUNT_RECONNECTED"),
        AccountNotice(event="DISABLED_UPDATE", details=("REINSTATE",)),
        TemplateNotice(what="status", name="x", new="APPROVED"),
        TemplateNotice(what="quality", name="x", new="GREEN", previous="RED"),
        TemplateNotice(what="quality", name="x", new="UNKNOWN", previous="GREEN"),
        NumberNotice(event="UPGRADE"),
        ErrorNotice(code=None),
        OtherNotice(),
    ],
)
def test_good_news_is_no_trouble(notice: Notice) -> None:
    assert trouble_of(notice) is None


def test_one_broken_thing_of_several_stops_no_other() -> None:
    value = {"message_echoes": [5, None, {"id": "wamid.2", "to": "49", "type": "text", "text": {"body": "x"}}]}
    found = read_notices("smb_message_echoes", orjson.dumps({"value": value}))
    assert [notice.id for notice in found if isinstance(notice, EchoNotice)] == ["", "", "wamid.2"]


@pytest.mark.parametrize("item", [b"", b"[]", b"{}", b'{"value":5}', b'{"value":{"calls":{"a":1}}}'])
@pytest.mark.parametrize("name", ["calls", "account_update", "standby", "messages", "history", "", "x"])
def test_hostile_items_are_some_value(name: str, item: bytes) -> None:
    assert len(read_notices(name, item)) == 1


def test_words_of_trouble_are_bounded() -> None:
    assert len(trouble_of(ErrorNotice(code=1, title="x" * 10_000)) or "") < 200
    assert trouble_of(AccountNotice(event="ACCOUNT_RESTRICTION", expires_at=10**15)) == "account: ACCOUNT_RESTRICTION"
