"""Real Prometheus, the shipped configuration and a real hub: every name in it exists, and every alert fires."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
import yaml  # type: ignore[import-untyped]

from tests.contract.test_metrics import make_traffic
from tests.faults.hubs import HOST, choose_port, end_with_parent
from tests.hub import VAULT, Hub, business, hubs_on, own_database, text_message, until, webhook_of
from whatsapp_hub.demo.faults import Fault
from whatsapp_hub.inbox import census

ROOT: Final = Path(__file__).parents[2]
SHIPPED: Final = ROOT / "deploy/prometheus"
DASHBOARD: Final = ROOT / "deploy/grafana/dashboards/whatsapp-hub.json"
PROVISIONING: Final = ROOT / "deploy/grafana/provisioning"
RUNBOOKS: Final = ROOT / "docs/operations.md"

METRIC: Final = re.compile(r"\b((?:whatsapp_hub|webhook|process)_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING: Final = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
#: What a test would have to wait for too long for, and Prometheus's own labels.
ANY_VALUE: Final = frozenset({"job", "instance", "le"})

on_the_shared_prometheus = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """One that scrapes a hub."""

    url: str
    client: aiohttp.ClientSession
    hub: Hub

    async def get(self, path: str, **parameters: str) -> Any:
        async with self.client.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, expr: str) -> list[dict[str, str]]:
        """Return the labels of what an expression finds now."""
        return [found["metric"] for found in (await self.get("query", query=expr))["result"]]


def find_program(name: str) -> str:
    program = shutil.which(name)
    assert program is not None, f"{name} is missing: apt-get install prometheus"
    return program


def promtool(*words: str, given: bytes | None = None) -> str:
    """Run promtool; it has to be content."""
    done = subprocess.run([find_program("promtool"), *words], input=given, capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def start_program(folder: Path, address: str) -> subprocess.Popen[bytes]:
    options = (f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}", "--log.level=warn")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*end_with_parent(), find_program("prometheus"), f"--config.file={folder}/prometheus.yml", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


@asynccontextmanager
async def open_prometheus(folder: Path, hub: Hub) -> AsyncIterator[Prometheus]:
    """Run Prometheus as it is shipped, but for the addresses and for how often it looks."""
    address = f"{HOST}:{choose_port()}"
    shipped = (SHIPPED / "prometheus.yml").read_text()
    config = shipped.replace("127.0.0.1:8000", hub.url.removeprefix("http://")).replace("127.0.0.1:9090", address)
    (folder / "prometheus.yml").write_text(config.replace(": 15s", ": 200ms"))
    shutil.copy(SHIPPED / "alerts.yml", folder)
    process = start_program(folder, address)
    try:
        async with aiohttp.ClientSession() as client:
            prometheus = Prometheus(url=f"http://{address}", client=client, hub=hub)

            async def has_scraped() -> bool:
                """Tell whether it has seen both, and its rules have looked since: before, no hub was there."""
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    seen = await prometheus.query("up == 1")
                    return len(seen) == 2 and not await prometheus.query('ALERTS{alertname="HubAbsent"}')
                except aiohttp.ClientError:
                    return False

            await until(has_scraped, 20)
            yield prometheus
    finally:
        process.kill()
        process.wait()


@pytest_asyncio.fixture(name="prometheus", loop_scope="module", scope="module")
async def _prometheus(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """One that has seen a hub with traffic of every kind, a held business among it."""
    documents = [
        business("101", whatsappTokenExpiresAt=datetime.now(UTC) + timedelta(hours=1)),
        *map(business, ("102", "103")),
        business("104", whatsappAccessToken="damaged"),
        business("105", whatsappAppSecret=VAULT.encrypt("own secret")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "EVERY_S", 0.05)
        async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
            await database.businesses.insert_many(documents)
            hub = await start(
                ASSISTANT="openai",
                AI_MODEL="stand-in",
                TYPING_INDICATOR="true",
                RATE_LIMIT_WEBHOOK="1/hour",
                RATE_LIMIT_METRICS="1/hour",
            )
            await make_traffic(hub)
            hub.graph.control.faults.arm(Fault(endpoint="chat", status=400))
            assert await hub.post(webhook_of(text_message("hello", wamid="wamid.9"), number="101")) == 200
            folder = tmp_path_factory.mktemp("prometheus")
            async with open_prometheus(folder, hub) as prometheus:
                await until(lambda: prometheus.query('whatsapp_hub_assistant_requests_total{outcome="fallback"} > 0'))
                await until(lambda: prometheus.query("whatsapp_hub_dead_letters > 0"))
                await until(lambda: prometheus.query("whatsapp_hub_business_held > 0"))
                yield prometheus


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def panels() -> Iterator[tuple[str, str]]:
    """Yield each panel's title and an expression of it, the variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def expressions() -> list[tuple[str, str]]:
    return [(rule["alert"], rule["expr"]) for rule in rules()] + list(panels())


async def find_faults(prometheus: Prometheus, expr: str) -> list[str]:
    """Return the metrics, labels and values of labels in an expression that the hub does not have."""
    faults, known = [], set(ANY_VALUE)
    for name, matchers in METRIC.findall(expr):
        series = await prometheus.query(f'{name}{{job="whatsapp-hub"}}')
        known |= {label for labels in series for label in labels}
        faults += [f"{name} is not there"] * (not series)
        for label, operator, value in MATCHER.findall(matchers):
            values = {labels.get(label, "") for labels in series}
            found = any(re.fullmatch(value, v) for v in values) if "~" in operator else value in values
            if not found and not (label == "status" and value == "5.."):  # a healthy hub has none
                faults.append(f'{name} has no {label}="{value}"')
    groupings = {label.strip() for labels in GROUPING.findall(expr) for label in labels.split(",")}
    return faults + [f"no label {label}" for label in groupings - known]


def test_shipped_configuration_is_valid() -> None:
    for name in ("prometheus.yml", "compose.yml"):
        assert "SUCCESS" in promtool("check", "config", str(SHIPPED / name))
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(SHIPPED / "alerts.yml"))


def test_each_alert_fires_once_and_none_in_the_healthy_case() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(SHIPPED / "alerts_test.yml"))


def test_no_alert_goes_without_its_test() -> None:
    tests = yaml.safe_load((SHIPPED / "alerts_test.yml").read_text())["tests"]
    expected = [sample["labels"] for test in tests for one in test["promql_expr_test"] for sample in one["exp_samples"]]
    fires = {tuple(re.findall(r'"(\w+)"', labels)) for labels in expected}
    assert fires == {(rule["alert"], rule["labels"]["severity"]) for rule in rules()}


def test_alerts_are_of_several_severities() -> None:
    assert {rule["labels"]["severity"] for rule in rules()} == {"critical", "warning", "info"}


def test_each_alert_has_a_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", RUNBOOKS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path) == RUNBOOKS
        assert anchor == rule["alert"].lower()
        assert anchor in anchors


def test_each_metric_is_in_the_reference() -> None:
    text = RUNBOOKS.read_text()
    names = {name for _, expr in expressions() for name, _ in METRIC.findall(expr)} - {"up"}
    assert len(names) > 20
    assert {name for name in names if re.sub("_(bucket|sum|count)$", "", name) not in text} == set()


def test_grafana_finds_what_is_shipped() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((PROVISIONING / "dashboards/whatsapp-hub.yml").read_text())["providers"][0]
    assert provider["type"] == "file"
    shown = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in shown} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    assert_no_overlap([panel["gridPos"] for panel in dashboard()["panels"]])


def assert_no_overlap(places: list[Mapping[str, int]]) -> None:
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@on_the_shared_prometheus
async def test_metrics_pass_promtool(prometheus: Prometheus) -> None:
    text = (await prometheus.hub.exchange("GET", "/prometheus/metrics")).body
    await asyncio.to_thread(promtool, "check", "metrics", given=text)


@on_the_shared_prometheus
async def test_every_name_in_rules_and_dashboard_is_one_of_the_hubs(prometheus: Prometheus) -> None:
    faults = {f"{where}: {fault}" for where, expr in expressions() for fault in await find_faults(prometheus, expr)}
    assert faults == set()


@on_the_shared_prometheus
async def test_name_that_is_none_of_the_hubs_is_found(prometheus: Prometheus) -> None:
    wrong = 'sum by (stage) (whatsapp_hub_replies_total{result="lost"}) / whatsapp_hub_answers_total'
    assert await find_faults(prometheus, wrong) == [
        'whatsapp_hub_replies_total has no result="lost"',
        "whatsapp_hub_answers_total is not there",
        "no label stage",
    ]


@on_the_shared_prometheus
async def test_prometheus_understands_every_panel(prometheus: Prometheus) -> None:
    for title, expr in panels():
        assert await prometheus.query(expr) is not None, title


@on_the_shared_prometheus
async def test_held_business_of_a_real_hub_becomes_an_alert(prometheus: Prometheus) -> None:
    expr = next(rule["expr"] for rule in rules() if rule["alert"] == "BusinessHeld")
    held = {labels["business"]: labels["reason"] for labels in await prometheus.query(expr)}
    assert held == {"b104": "fault"}
    await until(lambda: prometheus.query('ALERTS{alertname="BusinessHeld", business="b104", severity="warning"}'))
    await until(lambda: prometheus.query('ALERTS{alertname="TokenExpires", business="b101"}'))
    found = await prometheus.get("rules", type="alert")
    health = {rule["name"]: rule["health"] for group in found["groups"] for rule in group["rules"]}
    assert health == {rule["alert"]: "ok" for rule in rules()}


@on_the_shared_prometheus
async def test_healthy_parts_of_a_real_hub_are_no_alerts(prometheus: Prometheus) -> None:
    active = {labels["alertname"] for labels in await prometheus.query("ALERTS")}
    quiet = {"HubDown", "HubAbsent", "HubNotReady", "HubMemory", "HubFiles", "WebhooksFailing", "AlertWebhookFailing"}
    assert active & quiet == set()
