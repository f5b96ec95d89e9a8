"""What of the stand-ins can be changed while they run, in the same process or as JSON from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from whatsapp_hub.demo.faults import Fault, Faults, StatusPlan
from whatsapp_hub.demo.models import ModelStandIn
from whatsapp_hub.demo.statuses import StatusSender, WebhookTarget


class Control:
    """The switches. Set the attributes in the same process; ``apply`` is for JSON."""

    def __init__(self, faults: Faults, statuses: StatusSender, model: ModelStandIn) -> None:
        self.latency_s = (0.0, 0.0)  #: of Graph's answers: drawn evenly from this range
        self.tokens: Mapping[str, str] | None = None  #: the right one for each phone number id; None: any is right
        self.plan = StatusPlan()
        self.faults = faults
        self.statuses = statuses
        self.model = model

    def apply(self, change: Mapping[str, Any]) -> None:
        """Change what ``change`` names.

        ``clear`` (all faults), ``faults`` (to add: the fields of ``Fault``), ``latency_s`` and ``model_latency_s``
        (ranges), ``tokens``, ``statuses`` (the fields of ``StatusPlan``), ``template`` (of the model's answers),
        ``webhook`` (``url`` and ``secret``).

        Raises:
            ValueError, TypeError, KeyError: something in it cannot be used; other things in it may have been changed.

        """
        if unknown := change.keys() - _SWITCHES.keys():
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(_SWITCHES)}")
        for name, switch in _SWITCHES.items():
            if name in change:
                switch(self, change[name])

    def _clear(self, wanted: object) -> None:
        if wanted:
            self.faults.clear()

    def _arm(self, faults: list[dict[str, Any]]) -> None:
        for fault in faults:
            if statuses := fault.pop("statuses", None):
                fault["statuses"] = _plan(statuses)
            self.faults.arm(Fault(**fault))

    def _set_latency(self, span: list[float]) -> None:
        self.latency_s = _span(span)

    def _set_model_latency(self, span: list[float]) -> None:
        self.model.latency_s = _span(span)

    def _set_tokens(self, tokens: dict[str, str] | None) -> None:
        self.tokens = tokens

    def _set_statuses(self, plan: dict[str, Any]) -> None:
        self.plan = _plan(plan)

    def _set_template(self, template: str) -> None:
        template.format(last="", turn="", nonce="")
        self.model.template = template

    def _set_webhook(self, target: dict[str, str] | None) -> None:
        self.statuses.target = WebhookTarget(url=target["url"], secret=target["secret"].encode()) if target else None


_SWITCHES: Final[Mapping[str, Callable[[Control, Any], None]]] = {
    "clear": Control._clear,
    "faults": Control._arm,
    "latency_s": Control._set_latency,
    "model_latency_s": Control._set_model_latency,
    "tokens": Control._set_tokens,
    "statuses": Control._set_statuses,
    "template": Control._set_template,
    "webhook": Control._set_webhook,
}


def _span(span: list[float]) -> tuple[float, float]:
    shortest, longest = span
    return float(shortest), float(longest)


def _plan(plan: dict[str, Any]) -> StatusPlan:
    steps = tuple((str(name), float(delay_s)) for name, delay_s in plan.get("steps", StatusPlan().steps))
    return StatusPlan(**{**plan, "steps": steps})
