"""What the tests of the deployments read: programs of the system, rendered files, and what the hub says of itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from whatsapp_hub.server import HANDLER_TIMEOUT_S
from whatsapp_hub.settings import VARIABLES, Settings, load_settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text("utf-8")
#: Settings whose value never stands in a file of this repository.
SECRETS: Final = frozenset(name.upper() for name, field in Settings.model_fields.items() if "Secret" in repr(field))
#: What a hub needs that no manifest holds.
ENOUGH: Final = {"ENCRYPTION_SECRET": "one", "WHATSAPP_APP_SECRET": "another"}


def find_program(name: str, remedy: str) -> str:
    """Return the program, or fail with what to install."""
    if found := shutil.which(name):
        return found
    pytest.fail(f"{name} is missing; {remedy}")


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program that has to succeed, and return what it printed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def read_yaml(text: str) -> list[Any]:
    """Read every document of a text."""
    return [document for document in yaml.safe_load_all(text) if document]


def dockerfile_user() -> int:
    """Return the one user that the images run as."""
    users = set(re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE))
    assert len(users) == 1, "every image runs as the same user, given as numbers"
    return int(users.pop())


def shortest_stop_s(settings: Settings) -> float:
    """Return what a stop may take: open requests, then running turns, both to the end of their time."""
    return HANDLER_TIMEOUT_S + settings.drain_timeout_s


def check_settings(environment: Mapping[str, str], secrets: Mapping[str, str] = ENOUGH) -> Settings:
    """Return what ``serve`` makes of it; what it would refuse fails the test."""
    return load_settings(env={**environment, **secrets}, env_file=None, serve=True)


def unknown_variables(names: Sequence[str]) -> set[str]:
    """Find the names that mean nothing to the hub."""
    return {name for name in names if name.removesuffix("_FILE") not in VARIABLES} - {"CREDENTIALS_DIRECTORY"}


def literal_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Find the secrets that are written out; an address without a password is none."""
    return {
        name: value
        for name, value in environment.items()
        if name in SECRETS and value and not re.fullmatch(r"\w+://[\w.:-]+(/[^@]*)?", value)
    }


def proxied_paths(nginx_conf: str) -> set[str]:
    """Return the paths of the hub that nginx passes requests on to."""
    return set(re.findall(r"^\s*proxy_pass http://hub([^;]*);", nginx_conf, re.MULTILINE))


def parts_named(value: object, name: str) -> Iterator[Any]:
    """Yield what stands under a name, however deep."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key == name:
                yield part
            yield from parts_named(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from parts_named(part, name)
