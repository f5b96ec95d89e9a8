from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from whatsapp_hub.telemetry.metrics import OTHER, SEVERAL, UNVERIFIED, Metrics

#: The contract: what a sample is called, and its labels (without a histogram's own ``le``).
CONTRACT = {
    "webhook_requests_total": {"business", "status"},
    "webhook_request_duration_seconds_bucket": set(),
    "webhook_request_duration_seconds_sum": set(),
    "webhook_request_duration_seconds_count": set(),
    "whatsapp_hub_items_total": {"kind", "outcome"},
    "whatsapp_hub_replies_total": {"result", "business"},
    "whatsapp_hub_pending_messages": set(),
    "whatsapp_hub_oldest_pending_seconds": set(),
    "whatsapp_hub_dead_letters": {"business"},
    "whatsapp_hub_commit_seconds_bucket": set(),
    "whatsapp_hub_commit_seconds_sum": set(),
    "whatsapp_hub_commit_seconds_count": set(),
    "whatsapp_hub_commit_rows_bucket": set(),
    "whatsapp_hub_commit_rows_sum": set(),
    "whatsapp_hub_commit_rows_count": set(),
    "whatsapp_hub_turn_seconds_bucket": {"stage"},
    "whatsapp_hub_turn_seconds_sum": {"stage"},
    "whatsapp_hub_turn_seconds_count": {"stage"},
    "whatsapp_hub_graph_requests_total": {"endpoint", "outcome"},
    "whatsapp_hub_business_cache_hits_total": set(),
    "whatsapp_hub_business_cache_misses_total": set(),
    "whatsapp_hub_business_cache_size": set(),
    "whatsapp_hub_rate_limited_total": {"route"},
    "whatsapp_hub_ready": set(),
    "whatsapp_hub_build_info": {"version"},
    "whatsapp_hub_business_held": {"business", "reason"},
    "whatsapp_hub_token_expires_seconds": {"business"},
    "whatsapp_hub_assistant_tokens_total": {"business", "direction"},
}
#: What the hub has beyond the contract.
EXTRA = {
    "whatsapp_hub_assistant_requests_total": {"outcome"},
    "whatsapp_hub_alerts_total": {"outcome"},
    "whatsapp_hub_assistant_media_total": {"what", "outcome"},
    "whatsapp_hub_events_total": {"field"},
    "whatsapp_hub_unknown_total": {"what"},
}


def use_everything(metrics: Metrics) -> None:
    metrics.count_webhook("acme", 200)
    metrics.webhook_request_duration.observe(0.002)
    metrics.count_item("message", "new")
    metrics.count_reply("sent", "acme")
    metrics.observe_turn("total", 1.5)
    metrics.count_graph("messages", "sent")
    metrics.count_rate_limited("webhook")
    metrics.count_tokens("acme", "input", 12)
    metrics.count_assistant("answered")
    metrics.count_media("speech", "done")
    metrics.count_event("account_update")
    metrics.count_unknown("field")
    metrics.set_dead_letters({"acme": 3})
    metrics.set_held({"acme": "token refused"})
    metrics.set_token_expiry({"acme": 3600.0})
    metrics.commit_seconds.observe(0.004)
    metrics.commit_rows.observe(17)


def names_and_labels(families: Iterable[Metric]) -> dict[str, set[str]]:
    return {
        sample.name: set(sample.labels) - {"le"}
        for family in families
        for sample in family.samples
        if not sample.name.startswith(("process_", "python_"))
    }


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in parse_text(metrics.render()[0].decode())
        for sample in family.samples
        if sample.name == name
    }


def test_names_and_labels_are_those_of_the_contract() -> None:
    metrics = Metrics()
    use_everything(metrics)
    body, _ = metrics.render("text/plain")
    assert names_and_labels(parse_text(body.decode())) == CONTRACT | EXTRA


def test_openmetrics_has_the_same_names_and_labels() -> None:
    metrics = Metrics()
    use_everything(metrics)
    body, _ = metrics.render("application/openmetrics-text")
    assert names_and_labels(parse_openmetrics(body.decode())) == CONTRACT | EXTRA  # type: ignore[no-untyped-call]


def test_process_and_platform_are_there() -> None:
    names = {family.name for family in parse_text(Metrics().render()[0].decode())}
    assert {"process_resident_memory_bytes", "python_info"} <= names


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=zz", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=zz", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_format_follows_the_accept_header(accept: str, content_type: str) -> None:
    assert Metrics().render(accept)[1] == content_type


def test_counts_add_up() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.count_webhook("acme", 200)
    metrics.count_webhook(UNVERIFIED, 401)
    metrics.count_item("message", "new", 5)
    assert samples(metrics, "webhook_requests_total") == {("acme", "200"): 3, ("unverified", "401"): 1}
    assert samples(metrics, "whatsapp_hub_items_total")["message", "new"] == 5


def test_items_and_turns_begin_at_zero() -> None:
    metrics = Metrics()
    assert set(samples(metrics, "whatsapp_hub_items_total").values()) == {0}
    assert samples(metrics, "whatsapp_hub_turn_seconds_count") == {
        ("queue",): 0,
        ("assistant",): 0,
        ("send",): 0,
        ("total",): 0,
    }


def test_businesses_beyond_the_cap_are_counted_as_other() -> None:
    metrics = Metrics(max_businesses=2)
    for business in ("a", "b", "c", "d", "a", UNVERIFIED, SEVERAL):
        metrics.count_webhook(business, 200)
    assert samples(metrics, "webhook_requests_total") == {
        ("a", "200"): 2,
        ("b", "200"): 1,
        (OTHER, "200"): 2,
        (UNVERIFIED, "200"): 1,
        (SEVERAL, "200"): 1,
    }


def test_gauges_of_businesses_are_replaced_whole() -> None:
    metrics = Metrics()
    metrics.set_held({"a": "token refused", "b": "token expired"})
    metrics.set_held({"b": "token expired"})
    assert samples(metrics, "whatsapp_hub_business_held") == {("b", "token expired"): 1}


def test_gauges_beyond_the_cap_are_merged() -> None:
    metrics = Metrics(max_businesses=1)
    metrics.set_dead_letters({"a": 1, "b": 2, "c": 3})
    metrics.set_token_expiry({"a": 10.0, "b": 30.0, "c": 20.0})
    assert samples(metrics, "whatsapp_hub_dead_letters") == {("a",): 1, (OTHER,): 5}
    assert samples(metrics, "whatsapp_hub_token_expires_seconds") == {("a",): 10, (OTHER,): 20}


def test_each_instance_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.count_reply("sent", "acme")
    assert samples(second, "whatsapp_hub_replies_total") == {}


def test_a_registry_of_the_callers_is_used() -> None:
    registry = CollectorRegistry()
    Metrics(registry).count_reply("sent", "acme")
    assert registry.get_sample_value("whatsapp_hub_replies_total", {"result": "sent", "business": "acme"}) == 1
