"""``deploy/k8s``: what each overlay renders is valid, fits the hub, and lets in and out what it has to."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.deploy.manifests import (
    DEPLOY,
    SECRETS,
    check_settings,
    dockerfile_user,
    literal_secrets,
    parts_named,
    proxied_paths,
    read_yaml,
    run,
    shortest_stop_s,
    unknown_variables,
)
from whatsapp_hub.app import create_app
from whatsapp_hub.settings import Settings

Object = dict[str, Any]
OVERLAYS = ("production", "small")
#: The oldest that knows every field, and the newest that the validator knows.
VERSIONS = ("1.27.0", kubernetes_validate.latest_version())
#: Kinds that a cluster learns from elsewhere, so that there is no schema of Kubernetes for them.
FOREIGN_KINDS = {"ServiceMonitor"}
NAME = "app.kubernetes.io/name"


def render(folder: Path) -> list[Object]:
    """Render with kubectl or, where there is none, with kustomize."""
    for program, *options in (("kubectl", "kustomize"), ("kustomize", "build")):
        if found := shutil.which(program):
            return read_yaml(run(found, *options, folder))
    pytest.fail(
        "kubectl is missing; install version 1.27 or newer (Debian 12's kubernetes-client is older), or kustomize"
    )


@dataclass(frozen=True)
class Manifests:
    """What one overlay renders."""

    overlay: str
    objects: list[Object]

    def kind(self, kind: str) -> dict[str, Object]:
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] == kind}

    def pod(self, name: str) -> Object:
        pod: Object = self.kind("Deployment")[name]["spec"]["template"]["spec"]
        return pod

    def container(self, name: str) -> Object:
        (container,) = self.pod(name)["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def hub_environment(self) -> dict[str, str]:
        container = self.container("hub")
        (settings,) = container["envFrom"]
        values: dict[str, str] = dict(self.kind("ConfigMap")[settings["configMapRef"]["name"]]["data"])
        return values | {entry["name"]: entry["value"] for entry in container["env"]}

    @property
    def settings(self) -> Settings:
        values = {name: text for name, text in self.hub_environment.items() if name != "CREDENTIALS_DIRECTORY"}
        return check_settings(values | {"MONGODB_URI": "mongodb://db:27017/?replicaSet=rs0"})


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests(request.param, render(DEPLOY / "k8s/overlays" / request.param))


@pytest.fixture(scope="module")
def production() -> Manifests:
    return Manifests("production", render(DEPLOY / "k8s/overlays/production"))


@pytest.fixture(scope="module")
def routes() -> set[str]:
    app = create_app(Settings.isolated())
    return {resource.canonical for resource in app.router.resources()}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(manifests: Manifests, version: str) -> None:
    checked = [found for found in manifests.objects if found["kind"] not in FOREIGN_KINDS]
    assert len(checked) >= 10
    for found in checked:
        kubernetes_validate.validate(found, version, strict=True)


def test_every_object_has_its_place_and_labels(manifests: Manifests) -> None:
    for found in manifests.objects:
        assert found["kind"] == "Namespace" or found["metadata"]["namespace"] == "whatsapp-hub"
        assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "whatsapp-hub"
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == manifests.overlay


def test_production_has_what_is_shared_and_scaled(production: Manifests) -> None:
    assert set(production.kind("Deployment")) == {"hub", "nginx", "redis"}
    assert set(production.kind("HorizontalPodAutoscaler")) == {"hub"}
    assert set(production.kind("ServiceMonitor")) == {"hub"}
    redis = production.settings.redis_url
    assert redis is not None
    port = production.kind("Service")["redis"]["spec"]["ports"][0]["port"]
    assert redis.get_secret_value() == f"redis://redis:{port}/0"


def test_small_is_one_of_each() -> None:
    small = Manifests("small", render(DEPLOY / "k8s/overlays/small"))
    assert {name: found["spec"]["replicas"] for name, found in small.kind("Deployment").items()} == {
        "hub": 1,
        "nginx": 1,
    }
    assert not small.kind("HorizontalPodAutoscaler")
    assert small.settings.redis_url is None


def test_base_has_three_hubs() -> None:
    base = Manifests("base", render(DEPLOY / "k8s/base"))
    assert base.kind("Deployment")["hub"]["spec"]["replicas"] == 3


def test_autoscaler_has_the_number_to_itself(production: Manifests) -> None:
    scaler = production.kind("HorizontalPodAutoscaler")["hub"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    (metric,) = scaler["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    target = production.kind(scaler["scaleTargetRef"]["kind"])[scaler["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"], "each apply would set it back"


def test_hub_asks_for_one_core_at_most(manifests: Manifests) -> None:
    resources = manifests.container("hub")["resources"]
    assert 0 < int(resources["requests"]["cpu"].removesuffix("m")) <= 1000
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}


def test_probes_ask_what_there_is(manifests: Manifests, routes: set[str]) -> None:
    container = manifests.container("hub")
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    # Liveness never asks for the database: a restart would not mend it.
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert set(paths.values()) <= routes
    assert {container[name]["httpGet"]["port"] for name in paths} == {container["ports"][0]["name"]}
    for monitor in manifests.kind("ServiceMonitor").values():
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["path"] in routes
        assert endpoint["port"] in {port["name"] for port in manifests.kind("Service")["hub"]["spec"]["ports"]}


def test_probes_of_every_pod_on_one_node_stay_below_their_limit(production: Manifests) -> None:
    """To the hubs they come from one address, and with Redis all hubs count together."""
    container = production.container("hub")
    most = production.kind("HorizontalPodAutoscaler")["hub"]["spec"]["maxReplicas"] + 1
    asked = max(60 / container[name]["periodSeconds"] for name in container if name.endswith("Probe")) * most
    amount, per = production.settings.rate_limit_health.split("/")
    assert per == "minute"
    assert asked < int(amount)


def test_hub_listens_where_it_is_asked(manifests: Manifests) -> None:
    container = manifests.container("hub")
    (port,) = container["ports"]
    service = manifests.kind("Service")["hub"]["spec"]["ports"][0]
    assert port["containerPort"] == manifests.settings.port == service["port"]
    assert service["targetPort"] == port["name"]
    (files,) = [found["data"] for found in manifests.kind("ConfigMap").values() if "nginx.conf" in found["data"]]
    assert set(re.findall(r"^server ([\w.:-]+)", files["hubs.conf"], re.MULTILINE)) == {f"hub:{service['port']}"}


def test_hub_takes_these_settings(manifests: Manifests) -> None:
    assert not unknown_variables(list(manifests.hub_environment))
    assert manifests.settings.assistant is not None
    assert manifests.settings.trusted_proxies


def test_no_secret_is_in_a_manifest(manifests: Manifests) -> None:
    assert not manifests.kind("Secret")
    assert not literal_secrets(manifests.hub_environment)
    volumes = {volume["name"]: volume for volume in manifests.pod("hub")["volumes"]}
    assert volumes["secrets"]["secret"]["secretName"] == "hub"
    (mount,) = [found for found in manifests.container("hub")["volumeMounts"] if found["name"] == "secrets"]
    assert mount["mountPath"] == manifests.hub_environment["CREDENTIALS_DIRECTORY"]


def test_guide_names_secrets_as_the_hub_looks_for_them() -> None:
    guide = (DEPLOY.parent / "docs/deploy/kubernetes.md").read_text("utf-8")
    keys = set(re.findall(r"--from-file=(\w+)=", guide))
    assert {key.upper() for key in keys} >= {"MONGODB_URI", "ENCRYPTION_SECRET", "WHATSAPP_APP_SECRET"}
    assert {key.upper() for key in keys} <= SECRETS


def test_only_nginx_is_exposed(manifests: Manifests) -> None:
    services = manifests.kind("Service")
    assert {name for name, found in services.items() if found["spec"]["type"] != "ClusterIP"} == {"nginx"}
    assert services["nginx"]["spec"]["type"] == "LoadBalancer"
    assert not manifests.kind("Ingress")
    assert not list(parts_named(manifests.objects, "hostPort"))
    assert not list(parts_named(manifests.objects, "hostNetwork"))
    (files,) = [found["data"] for found in manifests.kind("ConfigMap").values() if "nginx.conf" in found["data"]]
    assert proxied_paths(files["nginx.conf"]) == {"/whatsapp_response", "/whatsapp_response/"}


@pytest.mark.parametrize(
    ("copy", "original"), [("nginx.conf", "nginx.conf"), ("hubs.conf", "nginx/hubs.kubernetes.conf")]
)
def test_nginx_is_set_up_as_everywhere(copy: str, original: str) -> None:
    """Kustomize reads no file outside its folder, so there are copies."""
    path = DEPLOY / "k8s/base/nginx" / copy
    assert path.read_bytes() == (DEPLOY / original).read_bytes(), f"cp deploy/{original} deploy/k8s/base/nginx/{copy}"


def test_what_selects_pods_finds_them(manifests: Manifests) -> None:
    pods = [found["spec"]["template"]["metadata"]["labels"] for found in manifests.kind("Deployment").values()]
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        for name, found in manifests.kind(kind).items():
            selector = found["spec"].get("selector", found["spec"].get("podSelector"))
            wanted = selector.get("matchLabels", {} if kind == "NetworkPolicy" else selector)
            assert any(wanted.items() <= labels.items() for labels in pods), f"{kind} {name} selects nothing"


def test_every_pod_is_locked(manifests: Manifests) -> None:
    for name in manifests.kind("Deployment"):
        pod, container = manifests.pod(name), manifests.container(name)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)
    assert manifests.pod("hub")["securityContext"]["runAsUser"] == dockerfile_user()
    namespace = manifests.kind("Namespace")["whatsapp-hub"]["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def test_stop_outlasts_the_drain(manifests: Manifests) -> None:
    command = manifests.container("hub")["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    needed_s = int(command[1]) + shortest_stop_s(manifests.settings)
    assert manifests.pod("hub")["terminationGracePeriodSeconds"] > needed_s


def test_update_and_eviction_leave_enough(manifests: Manifests) -> None:
    hub = manifests.kind("Deployment")["hub"]["spec"]
    assert hub["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert manifests.kind("PodDisruptionBudget")["hub"]["spec"]["maxUnavailable"] == 1
    spread = {constraint["topologyKey"] for constraint in manifests.pod("hub")["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def test_nothing_may_talk_that_need_not(manifests: Manifests) -> None:
    policies = {name: found["spec"] for name, found in manifests.kind("NetworkPolicy").items()}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert [name for name, found in policies.items() if not found["podSelector"]] == ["dns", "nothing"]
    assert "ingress" not in policies["dns"]
    assert set(policies) == {"nothing", "dns", *manifests.kind("Deployment")}


def test_hub_is_reached_by_nginx_and_prometheus_alone(manifests: Manifests) -> None:
    policy = manifests.kind("NetworkPolicy")["hub"]["spec"]
    (rule,) = policy["ingress"]
    assert [peer["podSelector"]["matchLabels"][NAME] for peer in rule["from"]] == ["nginx", "prometheus"]
    assert [port["port"] for port in rule["ports"]] == [manifests.container("hub")["ports"][0]["name"]]
    assert {port["port"]: "to" in way for way in policy["egress"] for port in way["ports"]} == {
        27017: False,
        6379: True,
        443: True,
    }
    assert "169.254.0.0/16" in str(policy["egress"]), "the credentials of the cloud's machines"
