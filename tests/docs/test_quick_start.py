"""What the quick start says is done as it stands there."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.pages import blocks, read_page, section
from tests.docs.shell import free_ports, running, with_ports
from whatsapp_hub.settings import VARIABLES

REAL_SERVER: Final = [*blocks(section(read_page("quick-start.md"), "## 2. Run the real server"), "sh")]
#: In the page and, so that it may run beside anything else, others here.
DATABASE, HUB, STAND_IN = "27017", "8000", "8999"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a clone in which ``make demo`` has been called."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.mark.timeout(120)
def test_commands_of_the_page_lead_to_an_answered_message(folder: Path) -> None:
    ports = dict(zip((DATABASE, HUB, STAND_IN), free_ports(3), strict=True))
    parts = [replace(block, text=with_ports(block.text, ports)) for block in REAL_SERVER]
    env = {"HOME": str(folder / "home"), "PORT": ports[HUB], "HOST": "127.0.0.1"}
    with running(parts, folder, env=env) as ran:
        assert not any(ran.statuses), ran.told
        assert ran.of("replSetInitiate") == "1.0"
        assert "bakery is added, switched on." in ran.of("business add")
        assert "takes the tokens of 1 of 1 businesses" in ran.of("doctor")
        assert ran.of("doctor").endswith("All good.")
        assert json.loads(ran.of("/ready"))["ready"] is True
        assert ran.of("http_code") == "200"
        sends = wait_for_sends(f"http://127.0.0.1:{ports[STAND_IN]}/_sends")
        assert [send["text"] for send in sends] == ["Do you have rye bread?"], ran.told


def wait_for_sends(url: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while not (sends := fetch(url)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found: list[dict[str, Any]] = sends
    return found


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


def test_every_variable_of_the_page_is_a_setting() -> None:
    [settings] = [block.text for block in REAL_SERVER if "> .env" in block.text]
    written = re.findall(r"^([A-Z_]+)=", settings, re.MULTILINE)
    assert len(written) > 5
    assert {*written} <= {*VARIABLES}
