"""Every metric of the hub, in one object with a registry of its own.

Names and labels are a contract: dashboards and alerts are built on them. Whoever counts calls a method; the children of
labelled metrics are looked up once, so a count costs about a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from whatsapp_hub import __version__

UNVERIFIED: Final = "unverified"  #: the business of a webhook whose signature did not hold (yet)
SEVERAL: Final = "several"  #: the business of a webhook that is about more than one
OTHER: Final = "other"  #: every business beyond the cap

ITEM_KINDS: Final = ("message", "status", "other")
ITEM_OUTCOMES: Final = ("new", "duplicate", "ignored")
ALERT_OUTCOMES: Final = ("sent", "failed")
SLOWED_SCOPES: Final = ("number", "account", "app")
TURN_STAGES: Final = ("queue", "assistant", "send", "total")

FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TURN_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# A creation time beside each counter would double the series, and the contract knows no such names.
disable_created_metrics()  # type: ignore[no-untyped-call]

_Metric = TypeVar("_Metric", Counter, Histogram)


class _Children(dict[tuple[str, ...], _Metric], Generic[_Metric]):
    """The children of a labelled metric, each looked up once."""

    def __init__(self, look_up: Callable[..., _Metric]) -> None:
        super().__init__()
        self._look_up: Callable[..., _Metric] = look_up

    def __missing__(self, labels: tuple[str, ...]) -> _Metric:
        child: _Metric = self._look_up(*labels)
        self[labels] = child
        return child


class Metrics:
    """What Prometheus reads. One instance per application; tests make as many as they like."""

    def __init__(self, registry: CollectorRegistry | None = None, *, max_businesses: int = 1000) -> None:
        self.registry = registry or CollectorRegistry()
        self._max_businesses = max_businesses
        self._businesses: set[str] = set()
        self._shown: dict[Gauge, set[tuple[str, ...]]] = {}
        self._define_edge()
        self._define_inbox()
        self._define_conversation()
        self._define_tenants()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def _define_edge(self) -> None:
        self.webhook_requests = self._counter("webhook_requests", "Webhook requests answered.", "business", "status")
        self.webhook_request_duration = self._histogram(
            "webhook_request_duration_seconds", "From a webhook's headers to its answer.", FAST_S
        )
        self.rate_limited = self._counter("whatsapp_hub_rate_limited", "Requests refused by a rate limit.", "route")
        self.ready = self._gauge("whatsapp_hub_ready", "1 while webhooks can be stored durably.")
        self.alerts = self._counter("whatsapp_hub_alerts", "Lines for ALERT_WEBHOOK_URL.", "outcome")
        self.build_info = self._gauge("whatsapp_hub_build_info", "Always 1; the version is its label.", "version")
        self.build_info.labels(__version__).set(1)
        self._webhook_requests = _Children(self.webhook_requests.labels)
        self._rate_limited = _Children(self.rate_limited.labels)
        for outcome in ALERT_OUTCOMES:
            self.alerts.labels(outcome)

    def _define_inbox(self) -> None:
        self.items = self._counter("whatsapp_hub_items", "Verified items of webhooks.", "kind", "outcome")
        self.pending_messages = self._gauge("whatsapp_hub_pending_messages", "Messages stored and not yet settled.")
        self.oldest_pending = self._gauge("whatsapp_hub_oldest_pending_seconds", "Age of the oldest of them.")
        self.dead_letters = self._gauge("whatsapp_hub_dead_letters", "Messages given up on.", "business")
        self.commit_seconds = self._histogram("whatsapp_hub_commit_seconds", "One group commit.", FAST_S)
        self.commit_rows = self._histogram("whatsapp_hub_commit_rows", "Documents of one group commit.", _ROWS)
        self.events = self._counter("whatsapp_hub_events", "Items kept as events, by Meta's field.", "field")
        self.unknown = self._counter("whatsapp_hub_unknown", "Kinds of messages and fields not known yet.", "what")
        self._items = _Children(self.items.labels)
        self._events = _Children(self.events.labels)
        self._unknown = _Children(self.unknown.labels)
        for kind in ITEM_KINDS:
            for outcome in ITEM_OUTCOMES:
                self.items.labels(kind, outcome)

    def _define_conversation(self) -> None:
        self.replies = self._counter("whatsapp_hub_replies", "What became of replies.", "result", "business")
        self.turn = self._histogram("whatsapp_hub_turn_seconds", "The stages of a turn.", TURN_S, "stage")
        self.graph_requests = self._counter(
            "whatsapp_hub_graph_requests", "Requests to the Graph API.", "endpoint", "outcome"
        )
        self.assistant_tokens = self._counter(
            "whatsapp_hub_assistant_tokens", "Tokens that a model read and wrote.", "business", "direction"
        )
        self.assistant_requests = self._counter(
            "whatsapp_hub_assistant_requests", "What became of questions to a model.", "outcome"
        )
        self.slowed = self._gauge("whatsapp_hub_slowed", "What a limit of Meta's slows down now.", "scope")
        self.assistant_media = self._counter(
            "whatsapp_hub_assistant_media", "Pictures shown, sounds heard and replies spoken.", "what", "outcome"
        )
        self._replies = _Children(self.replies.labels)
        self._turn = _Children(self.turn.labels)
        self._graph_requests = _Children(self.graph_requests.labels)
        self._assistant_tokens = _Children(self.assistant_tokens.labels)
        self._assistant_requests = _Children(self.assistant_requests.labels)
        self._assistant_media = _Children(self.assistant_media.labels)
        for stage in TURN_STAGES:
            self.turn.labels(stage)

    def _define_tenants(self) -> None:
        self.business_cache_hits = self._counter("whatsapp_hub_business_cache_hits", "Businesses found in the cache.")
        self.business_cache_misses = self._counter("whatsapp_hub_business_cache_misses", "Businesses looked up.")
        self.business_cache_size = self._gauge("whatsapp_hub_business_cache_size", "Businesses in the cache.")
        self.business_held = self._gauge(
            "whatsapp_hub_business_held", "1 for a business whose replies wait for its operator.", "business", "reason"
        )
        self.token_expires = self._gauge(
            "whatsapp_hub_token_expires_seconds", "Time until a business's access token expires.", "business"
        )

    def business_label(self, sub_domain: str) -> str:
        """Return the label of a business: its subdomain or, beyond the cap, ``other``."""
        if sub_domain in self._businesses or sub_domain in (UNVERIFIED, SEVERAL):
            return sub_domain
        if len(self._businesses) >= self._max_businesses:
            return OTHER
        self._businesses.add(sub_domain)
        return sub_domain

    def count_webhook(self, business: str, status: int) -> None:
        """Count an answered webhook; ``business`` is a subdomain, ``unverified`` or ``several``."""
        self._webhook_requests[self.business_label(business), str(status)].inc()

    def count_item(self, kind: str, outcome: str, count: int = 1) -> None:
        """Count verified items."""
        self._items[kind, outcome].inc(count)

    def count_reply(self, result: str, business: str) -> None:
        """Count a reply as ``sent``, ``failed`` or ``ambiguous``."""
        self._replies[result, self.business_label(business)].inc()

    def observe_turn(self, stage: str, seconds: float) -> None:
        """Record how long a stage of a turn took."""
        self._turn[(stage,)].observe(seconds)

    def count_graph(self, endpoint: str, outcome: str) -> None:
        """Count a request to the Graph API."""
        self._graph_requests[endpoint, outcome].inc()

    def count_rate_limited(self, route: str) -> None:
        """Count a request that a rate limit refused."""
        self._rate_limited[(route,)].inc()

    def count_alert(self, outcome: str) -> None:
        """Count an attempt to tell an operator as ``sent`` or ``failed``."""
        self.alerts.labels(outcome).inc()

    def count_tokens(self, business: str, direction: str, count: int) -> None:
        """Count the tokens that a model read (``input``) or wrote (``output``) for a business."""
        self._assistant_tokens[self.business_label(business), direction].inc(count)

    def count_assistant(self, outcome: str) -> None:
        """Count a question to a model as ``answered``, ``retried`` or ``fallback``."""
        self._assistant_requests[(outcome,)].inc()

    def count_media(self, what: str, outcome: str) -> None:
        """Count a ``vision``, ``transcription`` or ``speech`` that was ``done``, ``failed`` or ``refused``."""
        self._assistant_media[what, outcome].inc()

    def count_event(self, field: str) -> None:
        """Count an item that is no message and no status, by Meta's name for its kind of change."""
        self._events[(field,)].inc()

    def count_unknown(self, what: str) -> None:
        """Count a ``message`` of a kind, or a ``field``, that is not known yet: it is kept raw."""
        self._unknown[(what,)].inc()

    def set_dead_letters(self, counts: Mapping[str, int]) -> None:
        """Replace the dead letters of every business, by subdomain."""
        self._replace(self.dead_letters, (((business,), count) for business, count in counts.items()), merge=_add)

    def set_held(self, reasons: Mapping[str, str]) -> None:
        """Replace the businesses that are held, by subdomain, each with its reason in a few fixed words."""
        self._replace(self.business_held, (((business, reason), 1) for business, reason in reasons.items()), merge=_add)

    def show_slowed(self, slowed: Callable[[], Sequence[str]]) -> None:
        """Count what ``slowed`` names, by what stands before the colon, whenever somebody looks."""

        def count(scope: str) -> float:
            return sum(name.partition(":")[0] == scope for name in slowed())

        for scope in SLOWED_SCOPES:
            self.slowed.labels(scope).set_function(partial(count, scope))

    def set_token_expiry(self, seconds: Mapping[str, float]) -> None:
        """Replace the time until the tokens expire, by subdomain; of those beyond the cap the least counts."""
        self._replace(self.token_expires, (((business,), left) for business, left in seconds.items()), merge=min)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return everything as text and its content type: OpenMetrics if ``Accept`` names it, else Prometheus's own.

        With a thousand businesses this takes some 50 ms, so a server calls it in a thread.
        """
        if "application/openmetrics-text" in accept:
            return openmetrics.generate_latest(self.registry), openmetrics.CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def _replace(
        self,
        gauge: Gauge,
        values: Iterable[tuple[tuple[str, ...], float]],
        *,
        merge: Callable[[float, float], float],
    ) -> None:
        """Set a gauge's children to just these; those that share a label beyond the cap are merged."""
        merged: dict[tuple[str, ...], float] = {}
        for (business, *rest), value in values:
            labels = (self.business_label(business), *rest)
            merged[labels] = merge(merged[labels], value) if labels in merged else value
        for labels, value in merged.items():
            gauge.labels(*labels).set(value)
        for labels in self._shown.get(gauge, set()) - merged.keys():
            gauge.remove(*labels)
        self._shown[gauge] = set(merged)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(name, words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, words, labels, buckets=buckets, registry=self.registry)


def _add(first: float, second: float) -> float:
    return first + second
