"""``deploy/compose.yaml`` as Debian's docker-compose reads it, with what ``deploy/prepare`` lays out beside it."""

from __future__ import annotations

import re
import shutil
import ssl
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import (
    DEPLOY,
    DOCKERFILE,
    SECRETS,
    check_settings,
    dockerfile_user,
    find_program,
    literal_secrets,
    proxied_paths,
    read_yaml,
    run,
    shortest_stop_s,
    unknown_variables,
)
from whatsapp_hub.demo.database_server import DatabaseServer
from whatsapp_hub.demo.embedded import find_programs
from whatsapp_hub.settings import Settings

Service = dict[str, Any]
ON_LOOPBACK = {"prometheus": "127.0.0.1:9090:9090", "grafana": "127.0.0.1:3000:3000"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``deploy`` in which ``prepare`` has run, and where the operator has chosen an assistant."""
    find_program("openssl", "install Debian's package openssl")
    folder = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets", "hub.env"))
    run(folder / "prepare")
    settings = folder / "hub.env"
    settings.write_text(settings.read_text("utf-8").replace("ASSISTANT=\n", "ASSISTANT=echo\n"), "utf-8")
    return folder


@pytest.fixture(scope="module")
def composed(prepared: Path) -> dict[str, Any]:
    """The file with everything in it, as compose understands it; one that is not valid fails here."""
    compose = find_program("docker-compose", "install Debian's package docker-compose")
    command = (compose, "--file", prepared / "compose.yaml")
    run(*command, "config", "--quiet")
    composed: dict[str, Any] = read_yaml(run(*command, "--profile", "monitoring", "config"))[0]
    return composed


@pytest.fixture(scope="module")
def services(composed: dict[str, Any]) -> dict[str, Service]:
    services: dict[str, Service] = composed["services"]
    return services


def hub_environment(services: dict[str, Service]) -> dict[str, str]:
    return {name: str(value or "") for name, value in services["hub"]["environment"].items()}


@pytest.fixture(scope="module")
def settings(services: dict[str, Service], prepared: Path) -> Settings:
    """What the hub makes of all that, once the operator has written the secrets that only he knows."""
    environment = hub_environment(services)
    return check_settings(
        {name: value.replace("/run/secrets", str(prepared / "secrets")) for name, value in environment.items()}
    )


def seconds(text: str) -> float:
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()  # type: ignore[union-attr]
    return int(minutes or 0) * 60 + int(rest or 0)


def in_short(port: str | dict[str, Any]) -> str:
    """Write a published port as the file does; some versions take it apart."""
    if isinstance(port, str):
        return port
    address = f"{port['host_ip']}:" if port.get("host_ip") else ""
    return f"{address}{port['published']}:{port['target']}/{port.get('protocol', 'tcp')}"


def test_everything_is_there(services: dict[str, Service]) -> None:
    assert set(services) == {"hub", "nginx", "mongo", "mongo-initiate", "redis", "prometheus", "grafana"}
    assert {name for name, service in services.items() if service.get("profiles")} == {"prometheus", "grafana"}


def test_only_nginx_is_reached_from_outside(services: dict[str, Service]) -> None:
    published = {name: [*map(in_short, service["ports"])] for name, service in services.items() if service.get("ports")}
    assert published.pop("nginx") == ["80:80/tcp", "443:443/tcp"]
    assert published == {name: [f"{port}/tcp"] for name, port in ON_LOOPBACK.items()}
    assert not [name for name, service in services.items() if service.get("network_mode")]


def test_nginx_passes_on_webhooks_only() -> None:
    assert proxied_paths((DEPLOY / "nginx.conf").read_text("utf-8")) == {"/whatsapp_response", "/whatsapp_response/"}


def test_nginx_asks_the_hub_at_its_port(settings: Settings) -> None:
    asked = re.findall(r"^server ([\w.:-]+)", (DEPLOY / "nginx/hubs.compose.conf").read_text("utf-8"), re.MULTILINE)
    assert asked == [f"hub:{settings.port}"]
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [str(settings.port)]


def test_database_and_redis_have_no_way_in_or_out(composed: dict[str, Any]) -> None:
    assert composed["networks"]["data"]["internal"] is True
    services = composed["services"]
    assert {name for name, service in services.items() if "data" in service["networks"]} == {
        "hub",
        "mongo",
        "mongo-initiate",
        "redis",
    }
    assert all(set(services[name]["networks"]) == {"data"} for name in ("mongo", "mongo-initiate", "redis"))


def test_no_service_may_do_more_than_it_needs(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("cap_add"), name
        assert not service.get("privileged"), name
        user = service.get("user", str(dockerfile_user()) if name == "hub" else "root")
        assert re.match(r"[1-9]\d*", user), f"{name} runs as root"


def test_no_service_takes_the_whole_machine(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
    assert services["hub"]["deploy"]["resources"]["limits"] == {"cpus": 4.0, "memory": "8G"}


def test_hub_takes_these_settings(services: dict[str, Service], settings: Settings) -> None:
    assert not unknown_variables(list(hub_environment(services)))
    assert settings.admin_token is not None
    assert settings.whatsapp_verify_token is not None
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"


def test_only_nginx_is_believed(composed: dict[str, Any], settings: Settings) -> None:
    networks = composed["services"]["nginx"]["networks"]
    address = ip_address(networks["front"]["ipv4_address"])
    (pool,) = composed["networks"]["front"]["ipam"]["config"]
    assert list(networks) == ["front"]
    assert list(settings.trusted_proxies) == [ip_network(address)]
    assert address in ip_network(pool["subnet"])
    assert address not in ip_network(pool["ip_range"]), "another container could be given it"


def test_secrets_are_files(composed: dict[str, Any]) -> None:
    services = composed["services"]
    environment = hub_environment(services)
    assert not literal_secrets(environment)
    files = {name: value for name, value in environment.items() if name.endswith("_FILE")}
    assert set(files) >= {f"{name}_FILE" for name in ("ENCRYPTION_SECRET", "WHATSAPP_APP_SECRET", "ADMIN_TOKEN")}
    mounted = {secret["source"] for secret in services["hub"]["secrets"]}
    for name, path in files.items():
        assert name.removesuffix("_FILE") in SECRETS
        assert path == f"/run/secrets/{name.removesuffix('_FILE').lower()}"
        assert Path(path).name in mounted
    assert all(Path(secret["file"]).is_file() for secret in composed["secrets"].values())


def test_stop_outlasts_the_drain(services: dict[str, Service], settings: Settings) -> None:
    assert seconds(services["hub"]["stop_grace_period"]) > shortest_stop_s(settings)


def test_what_is_mounted_is_there(services: dict[str, Service], prepared: Path) -> None:
    volumes = [volume for service in services.values() for volume in service.get("volumes", ())]
    mounted = [volume.split(":")[0] for volume in volumes if volume.startswith("/")]
    assert len(mounted) >= 6
    assert not [path for path in mounted if not Path(path).exists() and Path(path).is_relative_to(prepared)]
    assert all(volume.endswith(":ro") for volume in volumes if volume.startswith("/"))


def test_what_is_prepared_is_closed_to_others(prepared: Path) -> None:
    secrets = prepared / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert len((secrets / "admin_token").read_text("utf-8").strip()) == 48
    assert not (secrets / "encryption_secret").read_bytes(), "it has to be the one that the tokens are encrypted with"
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        secrets / "tls/tls.crt", secrets / "tls/tls.key"
    )


def test_prepare_changes_nothing_that_is_there(prepared: Path) -> None:
    def read() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}

    before = read()
    told = run(prepared / "prepare")
    assert read() == before
    assert "deploy/secrets/whatsapp_app_secret: still empty" in told


@pytest.mark.rehearsal
@pytest.mark.timeout(120)
def test_replica_set_is_made_once_and_takes_writes(tmp_path: Path) -> None:
    mongosh = find_program("mongosh", "install it: npm install --global mongosh")
    server = DatabaseServer(next(program for program in find_programs() if program.kind == "mongod"), tmp_path / "db")
    # The set is called `hub` here and stands on another port than in its container.
    script = tmp_path / "initiate.js"
    text = (DEPLOY / "mongo/initiate.js").read_text("utf-8")
    script.write_text(text.replace("mongo:27017", server.address).replace("rs0", "hub"), "utf-8")
    server.start()
    try:
        for _ in range(2):
            assert (
                run(mongosh, "--quiet", "--norc", server.uri, "--file", script) == "the replica set hub takes writes\n"
            )
        with server.connect() as client:
            written = client["shop"]["orders"].insert_one({})
            assert written.acknowledged
            assert [member["host"] for member in client.admin.command("replSetGetConfig")["config"]["members"]] == [
                server.address
            ]
    finally:
        server.kill()
