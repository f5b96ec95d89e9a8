"""Who may send when, so that Meta's limits are kept and one that was met slows only what it concerns (pure).

The caller brings the time. A send reserves its moment; whoever comes later gets a later one. Three things decide it:
the pace of its number, the pause of what met a limit (the number, its account, the app), and the way back after the
pause, a few at first and twice as many every two seconds, so that those who waited do not come back in one burst.

Each process knows what it has met itself; another one meets the same limit and slows down too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from whatsapp_hub.cloud_api.errors import Scope
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.tenants.business import Business

#: Meta's default for a number is 80 messages a second, those that come in included (throughput, 2026-05-21). What comes
#: in is not counted here: a flood of it would leave nothing for answers. Where both together are too much Meta says so.
MAX_PAUSE_S: Final = 60.0
FIRST_RATE: Final = 5.0  # sends a second, right after a pause
DOUBLES_EVERY_S: Final = 2.0
BACK_AFTER_S: Final = 20.0  # then it is as if nothing had been
PRUNE_AT: Final = 1_000

APP: Final = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What a send counts for."""

    number: str
    account: str  #: the WhatsApp Business Account, or what stands for it
    most: int | None = None  #: messages a window of its number, where its business says so

    def key(self, scope: Scope) -> str | None:
        """Return what is slowed where a limit of this scope was met; None for one customer, whose turn waits anyway."""
        match scope:
            case Scope.NUMBER:
                return f"number:{self.number}"
            case Scope.ACCOUNT:
                return f"account:{self.account}"
            case Scope.APP:
                return APP
            case Scope.PAIR:
                return None

    @property
    def keys(self) -> Sequence[str]:
        """Everything that may slow it."""
        return (f"number:{self.number}", f"account:{self.account}", APP)


def sending_of(row: InboxRow, business: Business) -> Sending:
    """Name what a send counts for. Without its account a business is taken for one of its own."""
    return Sending(
        number=row.phone_number_id,
        account=business.account_id or f"of business {business.id}",
        most=business.messages_per_second,
    )


class Slot(NamedTuple):
    """A moment that was given to a send that has to wait for it."""

    moment: float
    given_at: float


@dataclass(slots=True)
class _Slowdown:
    began: float
    until: float  #: nothing before
    strikes: int = 0  #: pauses in a row
    taken: float = 0.0  #: the last moment that was given away


class Slowdowns:
    """Gives every send its moment."""

    def __init__(self, *, amount: int, per_s: float, pause_s: float = 1.0, max_pause_s: float = MAX_PAUSE_S) -> None:
        """Let each number send ``amount`` messages in any ``per_s`` seconds, unless its business says how many.

        The first pause is ``pause_s`` long, each that follows twice as long as the last.
        """
        self._amount = amount
        self._per_s = per_s
        self._pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._sent: dict[str, deque[float]] = {}  # by number: the moments of a window, and those to come
        self._slow: dict[str, _Slowdown] = {}
        self._prune_at = PRUNE_AT

    def reserve(self, sending: Sending, now: float) -> Slot | None:
        """Give one more send its moment, for which it is counted; None: it may go at once."""
        moment = now
        if self._slow:
            moment = max(self._after_pause(key, now) for key in sending.keys)
        moment = self._within_pace(sending, moment, now)
        return Slot(moment, now) if moment > now else None

    def is_good(self, sending: Sending, slot: Slot) -> bool:
        """Whether a moment that was given still counts: not if a pause has begun since."""
        return all(key not in self._slow or self._slow[key].began <= slot.given_at for key in sending.keys)

    def is_slowed(self, sending: Sending, now: float) -> bool:
        """Whether a limit was met lately: then nothing is sent that nobody waits for."""
        return any(self._find(key, now) is not None for key in sending.keys)

    def slow(self, sending: Sending, scope: Scope, now: float, wait_s: float | None = None) -> str | None:
        """Note that a limit was met; return whom that pauses now, None if nobody new.

        What was on its way when the pause began meets the same limit, and makes it no longer.
        """
        key = sending.key(scope)
        if key is None:
            return None
        found = self._find(key, now)
        if found is not None and now < found.until:
            if now + (wait_s or 0.0) > found.until:
                found.began, found.until = now, now + (wait_s or 0.0)
            return None
        strikes = found.strikes if found is not None else 0
        pause_s = max(min(self._pause_s * 2.0**strikes, self._max_pause_s), wait_s or 0.0)
        self._slow[key] = _Slowdown(began=now, until=now + pause_s, strikes=min(strikes + 1, 30))
        return key

    def slowed(self, now: float) -> list[str]:
        """Return what is paused or on its way back: ``app``, or ``number:`` and ``account:`` with an id."""
        return [key for key in list(self._slow) if self._find(key, now) is not None]

    def _find(self, key: str, now: float) -> _Slowdown | None:
        found = self._slow.get(key)
        if found is not None and now >= found.until + BACK_AFTER_S:
            del self._slow[key]
            return None
        return found

    def _after_pause(self, key: str, now: float) -> float:
        found = self._find(key, now)
        if found is None:
            return now
        last = max(found.taken, found.until, now)
        rate = FIRST_RATE * 2.0 ** min((last - found.until) / DOUBLES_EVERY_S, 30.0)
        found.taken = last + 1.0 / rate
        return last

    def _within_pace(self, sending: Sending, moment: float, now: float) -> float:
        sent = self._sent.get(sending.number)
        if sent is None:
            self._prune(now)
            sent = self._sent[sending.number] = deque()
        while sent and sent[0] + self._per_s <= now:
            sent.popleft()
        most = sending.most or self._amount
        if len(sent) >= most:
            moment = max(moment, sent[-most] + self._per_s)
        sent.append(moment)
        return moment

    def _prune(self, now: float) -> None:
        if len(self._sent) >= self._prune_at:
            self._sent = {number: sent for number, sent in self._sent.items() if sent[-1] + self._per_s > now}
            self._prune_at = max(PRUNE_AT, 2 * len(self._sent))

    def __len__(self) -> int:
        return len(self._sent) + len(self._slow)
