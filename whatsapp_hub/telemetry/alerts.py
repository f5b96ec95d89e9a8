"""What operators are told of, and when: a decision without a clock, a network or a database.

An alert is due when its cause is there and nobody was told of it within its interval. Causes that last are looked at
afresh each time, so one that has gone is never told of late; what happened is kept until it could be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

HOUR_S: Final = 3600.0
TOKEN_EXPIRES_SOON: Final = timedelta(days=7)
MOST_BUSINESSES: Final = 1000  # of which something that happened is kept; the others share a name
OTHER: Final = "other"


class AlertKind(StrEnum):
    """What an alert is about, the most urgent first."""

    DATABASE_DOWN = "database_down"
    BUSINESS_HELD = "business_held"
    DEAD_LETTER = "dead_letter"
    TOKEN_EXPIRES = "token_expires"  # noqa: S105 - a word about it


#: How long nobody is told again of the same kind and business.
INTERVAL_S: Final[Mapping[AlertKind, float]] = {
    AlertKind.DATABASE_DOWN: HOUR_S,
    AlertKind.BUSINESS_HELD: HOUR_S,
    AlertKind.DEAD_LETTER: HOUR_S,
    AlertKind.TOKEN_EXPIRES: 24 * HOUR_S,
}
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_URGENCY: Final = {kind: place for place, kind in enumerate(AlertKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that an operator has to know."""

    kind: AlertKind
    business: str | None  #: its subdomain; None: it is about the hub
    reason: str  #: in words
    count: int = 1  #: dead letters since the last alert, or phone numbers that are held
    happened_at: datetime | None = None  #: the latest of what happened; None: it lasts

    @property
    def key(self) -> str:
        """What may be told of only once in an interval."""
        return f"{self.kind.value}:{self.business or ''}"


class AlertBook:
    """Knows what is still to be told, and of what nobody is to be told again yet."""

    def __init__(self) -> None:
        """Start empty."""
        self._happened: dict[str, Alert] = {}
        self._quiet_until: dict[str, float] = {}

    def note_dead_letter(self, business: str, reason: str, died_at: datetime) -> None:
        """Keep that a message was given up."""
        self.note(Alert(kind=AlertKind.DEAD_LETTER, business=business, reason=reason, happened_at=died_at))

    def note(self, alert: Alert) -> None:
        """Keep what happened until it is told; what is of one key becomes one alert."""
        if alert.key not in self._happened and len(self._happened) >= MOST_BUSINESSES:
            alert = replace(alert, business=OTHER)
        earlier = self._happened.get(alert.key, alert)
        latest = max(alert, earlier, key=lambda one: one.happened_at or _NEVER)
        count = alert.count + (earlier.count if earlier is not alert else 0)
        self._happened[alert.key] = replace(latest, count=count)

    def take(self, now: float, lasting: Iterable[Alert]) -> Alert | None:
        """Take the most urgent alert that is due, out of what happened and of what lasts; None: nothing is due."""
        due = [a for a in (*lasting, *self._happened.values()) if self._quiet_until.get(a.key, now) <= now]
        if not due:
            self._quiet_until = {key: until for key, until in self._quiet_until.items() if until > now}
            return None
        alert = min(due, key=lambda one: _URGENCY[one.kind])
        self._happened.pop(alert.key, None)
        self._quiet_until[alert.key] = now + INTERVAL_S[alert.kind]
        return alert

    def put_back(self, alert: Alert, quiet_until: float, *, told_at: datetime | None = None) -> None:
        """Note that an alert that was taken was not told, and may be tried again then.

        With ``told_at`` another process told of the same: what had happened until then needs no second alert.
        """
        if alert.happened_at is not None and (told_at is None or alert.happened_at > told_at):
            self.note(alert)
        self._quiet_until[alert.key] = quiet_until


def held_alerts(holds: Iterable[tuple[str, str]]) -> list[Alert]:
    """Return an alert for each business that is held, from the subdomain and the reason of each held number."""
    alerts: dict[str, Alert] = {}
    for business, reason in holds:
        count = alerts[business].count + 1 if business in alerts else 1
        alerts[business] = Alert(kind=AlertKind.BUSINESS_HELD, business=business, reason=reason, count=count)
    return list(alerts.values())


def token_alerts(expiries: Mapping[str, datetime], now: datetime) -> list[Alert]:
    """Return an alert for each business whose access token expires within a week, or has expired."""
    return [
        Alert(kind=AlertKind.TOKEN_EXPIRES, business=business, reason=_describe_expiry(at, now))
        for business, at in expiries.items()
        if at - now <= TOKEN_EXPIRES_SOON
    ]


def _describe_expiry(at: datetime, now: datetime) -> str:
    left = at - now
    if left <= timedelta(0):
        return f"the access token expired on {at:%Y-%m-%d}"
    time_left = f"{left.days} days" if left.days > 1 else f"{left // timedelta(hours=1)} hours"
    return f"the access token expires in {time_left}, on {at:%Y-%m-%d}"
