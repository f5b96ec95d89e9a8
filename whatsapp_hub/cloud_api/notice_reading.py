"""Reading what Meta tells beside messages and statuses (pure). Never raises, whatever the item holds.

An item is a change as Meta sent it: ``{"field", "value"}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from whatsapp_hub.cloud_api import json_text
from whatsapp_hub.cloud_api.inbound import read_details
from whatsapp_hub.cloud_api.json_fields import Json, elements, field, object_in, text, whole
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


def read_notices(name: str, item: bytes) -> tuple[Notice, ...]:
    """Return what a change of this field tells, one value for each thing; at least one."""
    value = field(object_in(item), "value")
    found = tuple(_READERS.get(name, _read_other)(value))
    return found or (OtherNotice(),)


def _template(what: str, new: str, previous: str = "") -> Callable[[Json], Iterator[Notice]]:
    def read(value: Json) -> Iterator[Notice]:
        reason = text(value, "reason")
        yield TemplateNotice(
            what=what,
            name=text(value, "message_template_name"),
            language=text(value, "message_template_language"),
            template_id=whole(value, "message_template_id"),
            new=text(value, new),
            previous=text(value, previous),
            reason=text(field(value, "rejection_info"), "reason") or ("" if reason == "NONE" else reason),
        )

    return read


def _read_account(value: Json) -> Iterator[Notice]:
    restrictions = elements(field(value, "restriction_info"))
    details = [text(one, "restriction_type") for one in restrictions]
    details += [
        text(field(value, "violation_info"), "violation_type"),
        text(field(value, "ban_info"), "waba_ban_state"),
        text(field(value, "disconnection_info"), "reason"),
    ]
    expirations = [moment for one in restrictions if (moment := whole(one, "expiration")) is not None]
    yield AccountNotice(
        event=text(value, "event"),
        account_id=text(field(value, "waba_info"), "waba_id"),
        details=tuple(detail for detail in details if detail),
        expires_at=max(expirations, default=None),
    )


def _read_alert(value: Json) -> Iterator[Notice]:
    info = field(value, "alert_info")
    yield AlertNotice(
        type=text(info, "alert_type"),
        severity=text(info, "alert_severity"),
        status=text(info, "alert_status"),
        entity_type=text(value, "entity_type"),
    )


def _read_number(value: Json) -> Iterator[Notice]:
    yield NumberNotice(event=text(value, "event"), limit=text(value, "current_limit"))


def _read_username(value: Json) -> Iterator[Notice]:
    yield UsernameNotice(username=text(value, "username"), status=text(value, "status"))


def _read_preferences(value: Json) -> Iterator[Notice]:
    for one in elements(field(value, "user_preferences")):
        yield PreferenceNotice(
            value=text(one, "value"),
            category=text(one, "category"),
            customer=text(one, "user_id") or text(one, "wa_id"),
            timestamp=whole(one, "timestamp"),
        )


def _read_calls(value: Json) -> Iterator[Notice]:
    for call in elements(field(value, "calls")):
        yield CallNotice(
            id=text(call, "id"),
            event=text(call, "event"),
            status=text(call, "status"),
            direction=text(call, "direction"),
            customer=text(call, "from_user_id") or text(call, "from"),
            duration_s=whole(call, "duration"),
        )
    # Statuses of calls come under this field too.
    for status in elements(field(value, "statuses")):
        customer = text(status, "recipient_user_id") or text(status, "recipient_id")
        yield CallNotice(id=text(status, "id"), status=text(status, "status"), customer=customer)


def _read_echoes(value: Json) -> Iterator[Notice]:
    for echo in elements(field(value, "message_echoes")):
        yield _read_echo(echo, standby=False)


def _read_echo(echo: Json, *, standby: bool) -> EchoNotice:
    return EchoNotice(
        id=text(echo, "id"),
        customer=text(echo, "to_user_id") or text(echo, "to"),
        details=read_details(json_text.write(echo)),
        timestamp=whole(echo, "timestamp"),
        standby=standby,
    )


def _read_standby(value: Json) -> Iterator[Notice]:
    # One level deeper than elsewhere; Meta: webhooks/reference/standby, 2026-08-04.
    inner = field(value, "standby")
    for message in elements(field(inner, "messages")):
        yield StandbyNotice(
            id=text(message, "id"),
            customer=text(message, "from_user_id") or text(message, "from"),
            details=read_details(json_text.write(message)),
            timestamp=whole(message, "timestamp"),
        )
    for echo in elements(field(inner, "message_echoes")):
        yield _read_echo(echo, standby=True)


def _read_handover(value: Json) -> Iterator[Notice]:
    # The one field about a conversation that has no metadata.
    sender = field(value, "sender")
    yield HandoverNotice(
        type=text(value, "type"),
        customer=text(sender, "user_id") or text(sender, "phone_number"),
        phone_number_id=text(field(value, "recipient"), "phone_number_id"),
        timestamp=whole(value, "timestamp"),
    )


def _read_groups(value: Json) -> Iterator[Notice]:
    for group in elements(field(value, "groups")):
        yield GroupNotice(type=text(group, "type"), group_id=text(group, "group_id"))


def _read_user_ids(value: Json) -> Iterator[Notice]:
    for change in elements(field(value, "user_id_update")):
        ids = field(change, "user_id")
        yield UserIdNotice(previous=text(ids, "previous"), current=text(ids, "current"), wa_id=text(change, "wa_id"))


def _read_history(value: Json) -> Iterator[Notice]:
    for piece in elements(field(value, "history")):
        threads = elements(field(piece, "threads"))
        yield HistoryNotice(
            messages=sum(len(elements(field(thread, "messages"))) for thread in threads),
            progress=whole(field(piece, "metadata"), "progress"),
        )
    for _ in elements(field(value, "state_sync")):
        yield HistoryNotice()


def _read_rest(value: Json) -> Iterator[Notice]:
    """Read what is left of the field ``messages``: errors, and actions without a message."""
    for error in elements(field(value, "errors")):
        yield ErrorNotice(code=whole(error, "code"), title=text(error, "title"))
    for action in elements(field(value, "user_actions")):
        yield ActionNotice(action_type=text(action, "action_type"), timestamp=whole(action, "timestamp"))


def _read_other(_value: Json) -> Iterator[Notice]:
    yield OtherNotice()


_READERS: Final[dict[str, Callable[[Json], Iterator[Notice]]]] = {
    "message_template_status_update": _template("status", "event"),
    "message_template_quality_update": _template("quality", "new_quality_score", "previous_quality_score"),
    "template_category_update": _template("category", "new_category", "previous_category"),
    "message_template_components_update": _template("components", "event"),
    "account_update": _read_account,
    "account_alerts": _read_alert,
    "phone_number_quality_update": _read_number,
    "business_username_update": _read_username,
    "business_usernames_update": _read_username,  # the same page of Meta spells it both ways
    "user_preferences": _read_preferences,
    "calls": _read_calls,
    "smb_message_echoes": _read_echoes,
    "standby": _read_standby,
    "messaging_handovers": _read_handover,
    "group_participants_update": _read_groups,
    "group_lifecycle_update": _read_groups,
    "group_settings_update": _read_groups,
    "group_status_update": _read_groups,
    "user_id_update": _read_user_ids,
    "history": _read_history,
    "smb_app_state_sync": _read_history,
    "messages": _read_rest,
}
