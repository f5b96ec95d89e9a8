"""The unit files: what they promise to the settings, to each other and to ``systemd-analyze``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from whatsapp_hub.settings import Settings

FOLDER: Final = Path(__file__).parents[2] / "systemd"
SERVICES: Final = ("whatsapp-hub.service", "whatsapp-hub@.service")
INSTANCE: Final = {
    "whatsapp-hub@.service": "whatsapp-hub@8001.service",
    "whatsapp-hub@.socket": "whatsapp-hub@8001.socket",
}
MOST_EXPOSURE: Final = 11  # tenths
ANALYZE: Final = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not there")


def settings_of(unit: str) -> dict[str, list[str]]:
    """Return what stands in a unit, by section and name."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (FOLDER / unit).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(f"{section}.{name}", []).append(value)
    return found


def secret_settings() -> set[str]:
    return {name for name, field in Settings.model_fields.items() if SecretStr.__name__ in repr(field)}


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=20, check=False)


def test_the_template_differs_from_the_single_service_in_its_names_only() -> None:
    single, template = (settings_of(unit) for unit in SERVICES)
    differing = {name for name in single.keys() | template.keys() if single.get(name) != template.get(name)}
    assert differing == {"Unit.Description", "Unit.Requires", "Service.LogsDirectory"}


@pytest.mark.parametrize("unit", SERVICES)
def test_every_secret_is_a_credential_and_nothing_else_is(unit: str) -> None:
    loaded = [value.partition(":") for value in settings_of(unit)["Service.LoadCredential"]]
    assert {name for name, _, _ in loaded} == secret_settings()
    assert all(path == f"/etc/whatsapp-hub/credentials/{name}" for name, _, path in loaded)


def test_the_installer_makes_a_file_for_every_secret() -> None:
    found = re.search(r'^secrets="([^"]*)"', (FOLDER / "install.sh").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert set(found[1].split()) == secret_settings()


@pytest.mark.parametrize("unit", SERVICES)
def test_a_stop_may_take_as_long_as_a_drain_takes(unit: str) -> None:
    (stop_s,) = settings_of(unit)["Service.TimeoutStopSec"]
    assert int(stop_s) >= Settings.isolated().drain_timeout_s + 30


@needs_systemd
def test_the_units_are_right(tmp_path: Path) -> None:
    for path in FOLDER.glob("whatsapp-hub*.[st]*"):
        text = path.read_text("utf-8").replace("/opt/whatsapp-hub/current/bin/whatsapp-hub", sys.executable)
        (tmp_path / INSTANCE.get(path.name, path.name)).write_text(text)
    result = analyze("verify", "--man=no", *map(str, sorted(tmp_path.iterdir())))
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_the_services_are_locked_up(unit: str) -> None:
    result = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", str(FOLDER / unit))
    assert result.returncode == 0, result.stdout[-200:] + result.stderr
