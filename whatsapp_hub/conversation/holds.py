"""Numbers that cannot be answered now: held, told to the operator, and released when the cause is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from whatsapp_hub.conversation.steps import Held, Later
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.inbox.document import Stage
from whatsapp_hub.telemetry.alerts import Alert, held_alerts
from whatsapp_hub.telemetry.metrics import OTHER, Metrics
from whatsapp_hub.tenants.business import AssistantChoice, Business, Unserved

logger = logging.getLogger("business_service")


class HoldKind(StrEnum):
    """Why nothing is sent for a number."""

    UNSERVED = "unserved"  #: no business has it, or several claim it
    FAULT = "fault"  #: the business's document cannot be used
    REFUSED = "refused"  #: Graph refuses the token, a permission or the account


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why and since when a number is held."""

    kind: HoldKind
    reason: str  #: in words for the operator
    sub_domain: str
    token: str | None = field(repr=False)  #: the one that was refused
    again_at: float | None  #: monotonic seconds; then the same token may work again. None: only another token will


class Tenants(Protocol):
    """Where businesses come from."""

    async def find(self, phone_number_id: str) -> Business | Unserved:
        """Return the business of a number, cached."""
        ...

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        """Name the business of a number, from memory."""
        ...

    async def find_past_cache(self, phone_number_id: str) -> Business | Unserved:
        """Read the business of a number as it stands in the database."""
        ...


class Holds:
    """The numbers held by this process."""

    def __init__(
        self,
        tenants: Tenants,
        metrics: Metrics,
        *,
        assistant_fault: Callable[[AssistantChoice | None], str | None],
        says_nothing: Callable[[AssistantChoice | None], bool],
        recheck_s: float,
    ) -> None:
        """Look every ``recheck_s`` seconds whether a hold can end.

        ``assistant_fault`` says in words why a business's choice of assistant cannot be used, ``says_nothing`` whether
        it is to answer nobody.
        """
        self._tenants = tenants
        self._metrics = metrics
        self._assistant_fault = assistant_fault
        self._says_nothing = says_nothing
        self._recheck_s = recheck_s
        self._holds: dict[str, Hold] = {}
        self.on_release: Callable[[str], None] = lambda _: None

    async def find_business(self, phone_number_id: str, *, to_decide: bool = False) -> Business:
        """Return the business to answer for; ``to_decide`` what it says, if that is not decided yet.

        Raises:
            Held: nothing can be sent for this number now.
            Later: the database does not say; nothing has changed.

        """
        if hold := self._holds.get(phone_number_id):
            raise Held(hold.reason)
        try:
            found = await self._tenants.find(phone_number_id)
        except StoreUnavailable:
            raise Later(Stage.NEW, self._recheck_s, durable=False) from None
        if isinstance(found, Unserved):
            self.hold(phone_number_id, HoldKind.UNSERVED, found.reason, None)
            raise Held(found.reason)
        if to_decide and self._says_nothing(found.assistant):
            # What waited for a better token would be answered when a shadow run ends, after the other system.
            return found
        if reason := self._fault(found):
            self.hold(phone_number_id, HoldKind.FAULT, reason, found)
            raise Held(reason)
        return found

    def holds(self, phone_number_id: str) -> bool:
        """Whether nothing can be sent for this number now."""
        return phone_number_id in self._holds

    def alerts(self) -> list[Alert]:
        """Return what operators have to know of the businesses that are held."""
        return held_alerts((hold.sub_domain, hold.reason) for hold in self._holds.values())

    def all(self) -> Mapping[str, Hold]:
        """Return every hold, by phone number id."""
        return self._holds

    def sub_domain(self, phone_number_id: str) -> str:
        """Name the business of a number for a metric."""
        return self._tenants.sub_domain_of(phone_number_id) or OTHER

    def hold(
        self,
        phone_number_id: str,
        kind: HoldKind,
        reason: str,
        business: Business | None,
        again_after_s: float | None = None,
    ) -> None:
        """Send nothing for this number until the cause is gone, or ``again_after_s`` are over where that may do."""
        if phone_number_id in self._holds:
            return
        hold = Hold(
            kind=kind,
            reason=reason,
            sub_domain=business.sub_domain if business else OTHER,
            token=business.access_token if business else None,
            again_at=None if again_after_s is None else time.monotonic() + again_after_s,
        )
        self._holds[phone_number_id] = hold
        self._show()
        logger.error(
            "business held",
            extra={"business": hold.sub_domain, "phone_number_id": phone_number_id, "reason": reason},
        )

    async def run(self) -> None:
        """Look again and again whether a hold can end, until cancelled."""
        while True:
            await asyncio.sleep(self._recheck_s)
            for phone_number_id in list(self._holds):
                await self.recheck(phone_number_id)

    async def recheck(self, phone_number_id: str) -> None:
        """Release a number if its cause is gone."""
        hold = self._holds.get(phone_number_id)
        if hold is None:
            return
        try:
            found = await self._tenants.find_past_cache(phone_number_id)
        except StoreUnavailable:
            return
        if self._holds.get(phone_number_id) is not hold:
            return
        if not self._still_held(hold, found):
            self._release(phone_number_id)
        elif (reason := self._trouble(found)) and reason != hold.reason:
            # The operator has mended one thing and broken another, and has to hear of that.
            del self._holds[phone_number_id]
            business = None if isinstance(found, Unserved) else found
            self.hold(phone_number_id, HoldKind.FAULT if business else HoldKind.UNSERVED, reason, business)

    def _still_held(self, hold: Hold, found: Business | Unserved) -> bool:
        if self._trouble(found) or isinstance(found, Unserved):
            return True
        if hold.kind is not HoldKind.REFUSED or not found.enabled:
            return False
        return found.access_token == hold.token and (hold.again_at is None or time.monotonic() < hold.again_at)

    def _trouble(self, found: Business | Unserved) -> str | None:
        return found.reason if isinstance(found, Unserved) else self._fault(found)

    def _fault(self, business: Business) -> str | None:
        """Say why nothing can be sent for a business, as far as its document tells; one that is off has no faults."""
        if not business.enabled:
            return None
        if business.fault or business.access_token is None:
            return business.fault or "the business has no access token"
        return self._assistant_fault(business.assistant)

    def _release(self, phone_number_id: str) -> None:
        hold = self._holds.pop(phone_number_id)
        self._show()
        logger.info("business released", extra={"business": hold.sub_domain, "phone_number_id": phone_number_id})
        self.on_release(phone_number_id)

    def _show(self) -> None:
        self._metrics.set_held({hold.sub_domain: hold.kind.value for hold in self._holds.values()})

    def __len__(self) -> int:
        return len(self._holds)
