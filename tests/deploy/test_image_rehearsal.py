"""The images built for real and started as an engine would: no root, no capabilities, no file system to write to."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.deploy.buildah import Buildah, Image, stop
from tests.deploy.manifests import dockerfile_user, find_program, run
from tests.hub import ENCRYPTION_SECRET
from whatsapp_hub.demo.samples import SAMPLES

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(1800)]

APP_SECRET = "seeded-app-secret-5c1f"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim Debian with Python, as `python:slim` is one; HUB_REHEARSAL_BASE names one that is there already."""
    if os.environ.get("HUB_REHEARSAL_BASE"):
        return Path(os.environ["HUB_REHEARSAL_BASE"])
    folder = tmp_path_factory.mktemp("base")
    packages = "--include=python3,python3-venv,ca-certificates"
    program = find_program("debootstrap", "install Debian's package debootstrap")
    run(program, "--variant=minbase", packages, "bookworm", folder)
    (folder / "usr/bin/python").symlink_to("python3")
    run("sh", "-c", 'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*', "tidy", folder)
    return folder


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    buildah = Buildah(tmp_path_factory.mktemp("images"))
    yield buildah
    buildah.ask("rm", "--all")
    buildah.ask("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base_image(buildah: Buildah, base: Path) -> str:
    return buildah.import_base(base)


@pytest.fixture(scope="module")
def server(buildah: Buildah, base_image: str) -> Iterator[Image]:
    """What is built when no target is named."""
    with buildah.laid_out(base_image) as without, buildah.laid_out(buildah.build(None, base_image)) as image:
        _print_size("server", image, without)
        yield image


@pytest.fixture(scope="module")
def demo(buildah: Buildah, base_image: str) -> Iterator[Image]:
    with buildah.laid_out(base_image) as without, buildah.laid_out(buildah.build("demo", base_image)) as image:
        _print_size("demo", image, without)
        yield image


def _print_size(name: str, image: Image, without: Image) -> None:
    total, base = image.size_bytes / 1e6, without.size_bytes / 1e6
    print(f"\n{name}: {total:.0f} MB, of which the base is {base:.0f} MB")  # noqa: T201 - what a rehearsal is run for


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in {"encryption_secret": ENCRYPTION_SECRET, "whatsapp_app_secret": APP_SECRET}.items():
        (folder / name).write_text(value, "utf-8")
    return folder


@pytest.fixture
def settings(mongodb_uri: str) -> Iterator[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"hub-test-image-{port}"
    yield {
        "PORT": str(port),
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": name,
        "ASSISTANT": "echo",
        "ENCRYPTION_SECRET_FILE": "/run/secrets/encryption_secret",
        "WHATSAPP_APP_SECRET_FILE": "/run/secrets/whatsapp_app_secret",
    }
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database(name)


def status_of_check(image: Image, secrets: Path, settings: dict[str, str]) -> int:
    check = image.start(image.health_check, secrets, **settings)
    check.communicate(timeout=20)
    return check.returncode


def await_health(image: Image, process: subprocess.Popen[str], secrets: Path, settings: dict[str, str]) -> float:
    begun = time.monotonic()
    while status_of_check(image, secrets, settings) != 0:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begun < 60, "its health check still fails after 60 s"
    return time.monotonic() - begun


def test_server_runs_locked_up(server: Image, secrets: Path, settings: dict[str, str]) -> None:
    assert server.command == ["whatsapp-hub", "serve"]
    assert status_of_check(server, secrets, settings) == 1, "nothing runs yet"
    process = server.start(server.command, secrets, **settings)
    try:
        print(f"healthy {await_health(server, process, secrets, settings):.1f} s after its start")  # noqa: T201
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
        status = Path(f"/proc/{child}/status").read_text("utf-8")
        assert re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE) == [str(dockerfile_user())]
        assert re.findall(r"^CapEff:\s+(\w+)", status, re.MULTILINE) == ["0" * 16]
        assert " ro," in Path(f"/proc/{child}/mountinfo").read_text("utf-8").splitlines()[0]
        stop(process)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert '"message":"stopped"' in log
    assert ENCRYPTION_SECRET not in log
    assert APP_SECRET not in log


def test_server_can_write_to_tmp_alone(server: Image, secrets: Path) -> None:
    attempts = (
        "for folder in / /opt/hub /etc /var/tmp /run /root /tmp; do touch $folder/x 2>/dev/null && echo $folder; done"
    )
    out, _ = server.start(["sh", "-c", attempts], secrets).communicate(timeout=20)
    assert out.split() == ["/tmp"]


def test_server_without_settings_says_what_is_missing(server: Image, secrets: Path) -> None:
    process = server.start(server.command, secrets)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "MONGODB_URI: missing" in log


def test_server_carries_neither_secrets_nor_tools(server: Image, base: Path) -> None:
    added = {
        path.relative_to(server.root)
        for path in server.root.rglob("*")
        if path.is_file() and not path.is_symlink() and not (base / path.relative_to(server.root)).exists()
    }
    names = {path.name for path in added}
    assert not {name for name in names if name.startswith(".env") or name.endswith(".key")}
    assert not names & {"pip", "pip3", "gcc", "setuptools"}
    assert not [path for path in added if {"tests", "deploy", ".git"} & set(path.parts[:3])]
    filled = [path for path in added if path.name == "pip.conf" and (server.root / path).stat().st_size]
    assert not filled
    secret = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]{40}|EAA[A-Za-z0-9]{60}")
    assert not [path for path in added if secret.search((server.root / path).read_bytes())]
    assert not [
        entry for entry in server.config["Env"] if re.search(r"(?i)secret|token|key|password", entry.split("=")[0])
    ]


def test_demo_answers_each_business(demo: Image, tmp_path: Path) -> None:
    (tmp_path / "nothing").write_bytes(b"")
    process = demo.start(["whatsapp-hub", "demo", "--once", "--json"], tmp_path)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    answers = json.loads(out)
    assert [answer["business"] for answer in answers] == [sample.sub_domain for sample in SAMPLES]
    assert all(answer["reply"] for answer in answers)


def test_demo_listens_for_everybody(demo: Image) -> None:
    assert demo.command == ["whatsapp-hub", "demo", "--host", "0.0.0.0"]
    assert demo.user == f"{dockerfile_user()}:{dockerfile_user()}"
