"""Which of Meta's notices mean trouble for a business, and what they say in words without a customer in them (pure)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from whatsapp_hub.cloud_api.notices import (
    AccountNotice,
    AlertNotice,
    ErrorNotice,
    Notice,
    NumberNotice,
    TemplateNotice,
)

#: The fields in which trouble is told.
TROUBLE_FIELDS: Final = (
    "account_alerts",
    "account_update",
    "message_template_quality_update",
    "message_template_status_update",
    "messages",
    "phone_number_quality_update",
)
MAX_WORD_LENGTH: Final = 120

_ACCOUNT: Final = frozenset(
    {
        "ACCOUNT_DELETED",
        "ACCOUNT_OFFBOARDED",
        "ACCOUNT_RESTRICTION",
        "ACCOUNT_VIOLATION",
        "DISABLED_UPDATE",
        "PARTNER_APP_UNINSTALLED",
        "PARTNER_REMOVED",
    }
)
_TEMPLATE: Final = frozenset({"DISABLED", "FLAGGED", "PAUSED", "REJECTED"})
_SCORES: Final = {"GREEN": 3, "YELLOW": 2, "RED": 1}
_NUMBER: Final = frozenset({"DOWNGRADE", "FLAGGED"})
_CALM: Final = frozenset({"", "INFORMATIONAL"})


def trouble_of(notice: Notice) -> str | None:
    """Return what a notice says, if it is trouble; None for everything else."""
    match notice:
        case AccountNotice(event=event) if event in _ACCOUNT and "REINSTATE" not in notice.details:
            return _joined(f"account: {_say(event)}", *map(_say, notice.details), _until(notice.expires_at))
        case TemplateNotice(what="status", new=new) if new in _TEMPLATE:
            return _joined(f"template {_say(notice.name)}: {_say(new)}", _say(notice.reason))
        case TemplateNotice(what="quality", new=new) if _SCORES.get(new, 3) < _SCORES.get(notice.previous, 3):
            return _joined(f"template {_say(notice.name)}: quality {_say(new)}", f"was {_say(notice.previous)}")
        case NumberNotice(event=event) if event in _NUMBER:
            return _joined(f"number: {_say(event)}", f"limit {_say(notice.limit)}" if notice.limit else "")
        case AlertNotice(severity=severity) if severity not in _CALM:
            return _joined(f"alert: {_say(notice.type)}", _say(severity), _say(notice.status))
        case ErrorNotice(code=code) if code is not None:
            return _joined(f"error {code}", _say(notice.title))
    return None


def _say(words: str) -> str:
    return words[:MAX_WORD_LENGTH]


def _joined(*words: str) -> str:
    return ", ".join(word for word in words if word)


def _until(moment: int | None) -> str:
    try:
        return "" if moment is None else f"until {datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return ""
