"""Tells of answers that Meta took back: a message that died of it counts as failed, as one that died before."""

from __future__ import annotations

import logging
from collections.abc import Callable

from whatsapp_hub.inbox.late_failures import failure_reason
from whatsapp_hub.inbox.store import StatusWrite
from whatsapp_hub.telemetry.metrics import OTHER, Metrics

logger = logging.getLogger("conversation")


class LateFailures:
    """Counts and logs each of them once."""

    def __init__(self, metrics: Metrics, sub_domain_of: Callable[[str], str | None]) -> None:
        """Name businesses by the phone number id, from memory."""
        self._metrics = metrics
        self._sub_domain_of = sub_domain_of

    def __call__(self, write: StatusWrite, died: bool) -> None:  # noqa: FBT001 - a callback of the store
        """Tell of one."""
        business = self._sub_domain_of(write.status.phone_number_id) or OTHER
        extra = {"message_id": write.target.message_id, "business": business, "code": write.status.error_code}
        if died:
            logger.error("dead letter", extra=extra | {"reason": failure_reason(write.status.error_code)})
            self._metrics.count_reply("failed", business)
        else:
            logger.warning("reply not delivered, sent again", extra=extra)
