"""The commands of ``docs/assistants.md``: what a newcomer tries by hand does what the page shows.

That the examples work for a hub is tested in ``tests/integration``: ``test_registry.py`` and ``test_endpoint.py``.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import blocks, read_page, section
from tests.docs.shell import free_ports, running, with_ports

PAGE: Final = read_page("assistants.md")
ENDPOINT: Final = section(PAGE, "## An endpoint of the business's own")
OWN: Final = section(PAGE, "## One of your own")
PYTHON, NODE = "python3 endpoint.py", "node endpoint.js"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.mark.parametrize("command", [PYTHON, pytest.param(NODE, marks=needs_node)])
def test_an_endpoint_is_asked_by_hand(tmp_path: Path, command: str) -> None:
    for language, name in (("python", "endpoint.py"), ("javascript", "endpoint.js")):
        [block] = blocks(ENDPOINT, language)
        (tmp_path / name).write_text(block.text)
    ports = dict(zip(["9000"], free_ports(1), strict=True))
    start, ask = (replace(block, text=with_ports(block.text, ports)) for block in blocks(ENDPOINT, "sh"))
    assert start.own_terminal
    start = replace(start, text=start.text.replace(PYTHON, command).replace("python3", sys.executable))
    patient = "curl -s --retry 40 --retry-connrefused --retry-delay 1"
    ask = replace(ask, text=f"until [ -s hub-secret ]; do sleep 0.05; done\n{ask.text}".replace("curl -s", patient))
    [shown] = blocks(ENDPOINT, "json")
    with running([start, ask], tmp_path, env={}) as ran:
        assert json.loads(ran.of("curl")) == json.loads(shown.text), ran.told


def test_an_assistant_of_ones_own_is_tried_by_hand(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shop, _ = blocks(OWN, "python")
    (tmp_path / "my_shop.py").write_text(shop.text)
    assert len(shop.text.splitlines()) <= 10
    attempt, _ = blocks(OWN, "sh")
    [shown] = blocks(OWN, "")
    with running([attempt], tmp_path, env={}) as ran:
        assert ran.of("my_shop").strip() == shown.text.strip(), ran.told
