"""What the quick start says is done as it stands there: its commands in one shell, its terminals in processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.pages import Block, blocks, read_page, section
from whatsapp_hub.settings import VARIABLES

PAGE: Final = read_page("quick-start.md")
REAL_SERVER: Final = section(PAGE, "## 2. Run the real server")
BLOCKS: Final = [*blocks(REAL_SERVER, "sh")]
#: In the page and, so that it may run beside anything else, others here.
PORTS: Final = ("27017", "8000", "8999")


def free_ports(count: int) -> list[str]:
    """Return ports that nobody listens at, below those that connections get."""
    found: list[str] = []
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        candidate = 20_000 + first.getsockname()[1] % 9_000
    while len(found) < count:
        candidate += 1
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            found.append(str(candidate))
    return found


def as_script(parts: Sequence[Block]) -> str:
    """Write the blocks as one script that tells each one's end and status."""
    lines: list[str] = []
    for number, block in enumerate(parts):
        lines.append(f"( {block.text.strip()} ) > terminal-{number} 2>&1 &" if block.own_terminal else block.text)
        lines.append(f'printf "\\n@@ %s %s\\n" {number} $?')
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a clone in which ``make demo`` has been called."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Run the page's commands; yields the output of each, and the ports by those of the page."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    script = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: ports[match[0]], as_script(BLOCKS))
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env |= {"HOME": str(folder / "home"), "PORT": ports["8000"], "HOST": "127.0.0.1"}
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=90)
        yield re.split(r"(?<=^)(@@ \d+ \d+)\n", output, flags=re.MULTILINE), ports
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


@pytest.mark.timeout(120)
def test_commands_of_the_page_lead_to_an_answered_message(
    folder: Path, shell: tuple[list[str], dict[str, str]]
) -> None:
    pieces, ports = shell
    outputs, ends = pieces[:-1:2], pieces[1::2]
    told = "\n".join(pieces) + "".join(path.read_text() for path in folder.glob("terminal-*"))
    assert len(ends) == len(BLOCKS), told
    assert [end for end in ends if not end.endswith(" 0")] == [], told
    by_command = {block.text: output for block, output in zip(BLOCKS, outputs, strict=True)}
    assert only(by_command, "replSetInitiate") == "1.0"
    assert "bakery is added, switched on." in only(by_command, "business add")
    assert "takes the tokens of 1 of 1 businesses" in only(by_command, "doctor")
    assert json.loads(only(by_command, "/ready"))["ready"] is True
    assert only(by_command, "http_code") == "200"
    sends = wait_for_sends(f"http://127.0.0.1:{ports['8999']}/_sends")
    assert [send["text"] for send in sends] == ["Do you have rye bread?"], told


def only(outputs: dict[str, str], words: str) -> str:
    """Return the output of the one block that has these words."""
    [found] = [output for command, output in outputs.items() if words in command]
    return found.strip()


def wait_for_sends(url: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while not (sends := fetch(url)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found: list[dict[str, Any]] = sends
    return found


def test_every_variable_of_the_page_is_a_setting() -> None:
    written = re.findall(r"^([A-Z_]+)=", next(block.text for block in BLOCKS if "> .env" in block.text), re.MULTILINE)
    assert len(written) > 5
    assert {*written} <= {*VARIABLES}
