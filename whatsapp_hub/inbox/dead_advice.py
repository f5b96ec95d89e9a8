"""What an operator can do about a dead letter, by its reason (pure)."""

from __future__ import annotations

import re
from typing import Final

#: The first that fits counts. Codes are Meta's; ``docs/errors.md`` has them all.
_ADVICE: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^too old", "Retry to answer it now; discard it if an answer would come too late to help."),
        (r"the process died", "It may be what stops the hub: look in the log for its id first, then retry it alone."),
        (r"^failed \d+ times: the upload", "See whether Meta takes files now, then retry."),
        (r"^failed \d+ times: the assistant's reply", "The assistant answered something that cannot be sent: mend it."),
        (r"^failed \d+ times: the assistant", "See what the assistant's server says, mend it, then retry."),
        (r"a day \(assistant\.maxTurnsPerDay\)", "Raise assistant.maxTurnsPerDay or wait until tomorrow, then retry."),
        (r"assistant\.maxPending", "See why answers came too slowly, or raise assistant.maxPending; then retry."),
        (r"switched off", "Switch the business on, then retry."),
        (r"another business's by now", "Its number is another business's now: discard it."),
        (r"\b131047\b|24 hours", "Only a template reaches this customer now: set assistant.lateTemplate, then retry."),
        (r"\b131026\b", "The customer has no WhatsApp, blocked the business, or has too old an app: discard it."),
        (r"\b131030\b", "Add the customer to the test number's list at Meta, then retry."),
        (r"\b131049\b", "Meta holds it back: retry after a day, or discard it."),
        (r"\b13105[23]\b|media", "Correct the link or the file that the assistant sends, then retry."),
        (r"\b132\d{3}\b", "Mend the template or the flow at Meta, then retry."),
        (r"\b(100|131008|131009|131051|135000)\b", "A fault of the assistant or of the hub: report it, with the id."),
        (r"\b(130472|130497|131021|131050|131062|137000)\b", "Meta does not let this one through: discard it."),
        (r"^failed \d+ times", "See in the log what failed; retry when that is mended."),
    )
)
_OTHERWISE: Final = "Retry once; if it comes back, see docs/errors.md for its code."


def advise(reason: str) -> str:
    """Return what to do next about a dead letter that has this reason."""
    return next((words for pattern, words in _ADVICE if pattern.search(reason)), _OTHERWISE)
