"""Run the commands of a page as they stand there: one shell, and a process for each terminal of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block
from whatsapp_hub.settings import VARIABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What the commands printed, and how each block ended."""

    outputs: Mapping[str, str]  #: by the block's text
    statuses: Sequence[int]
    told: str  #: everything, for who looks into a failure

    def of(self, words: str) -> str:
        """Return the output of the one block that has these words."""
        [found] = [output for command, output in self.outputs.items() if words in command]
        return found.strip()


@contextmanager
def running(parts: Sequence[Block], folder: Path, *, env: Mapping[str, str], timeout_s: float = 90) -> Iterator[Ran]:
    """Run the blocks; what they left running is ended with the context."""
    process = subprocess.Popen(
        ["bash", "-c", _as_script(parts)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in VARIABLES} | {**env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
        pieces = re.split(r"^@@ (\d+)\n", output, flags=re.MULTILINE)
        told = output + "".join(path.read_text() for path in folder.glob("terminal-*"))
        assert len(pieces) == 2 * len(parts) + 1, told
        outputs = {block.text: text for block, text in zip(parts, pieces[:-1:2], strict=True)}
        yield Ran(outputs=outputs, statuses=[*map(int, pieces[1::2])], told=told)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _as_script(parts: Sequence[Block]) -> str:
    """Write the blocks as one script that tells each one's end and status."""
    lines: list[str] = []
    for number, block in enumerate(parts):
        lines.append(f"( {block.text}\n) > terminal-{number} 2>&1 &" if block.own_terminal else block.text)
        lines.append('printf "\\n@@ %s\\n" $?')
    return "\n".join(lines)


def with_ports(text: str, ports: Mapping[str, str]) -> str:
    """Put other ports in the place of those that a page names."""
    return re.sub(rf"\b({'|'.join(ports)})\b", lambda match: ports[match[0]], text)


def free_ports(count: int) -> list[str]:
    """Return ports that nobody listens at, below those that outgoing connections get."""
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        candidate = 20_000 + first.getsockname()[1] % 9_000
    found: list[str] = []
    while len(found) < count:
        candidate += 1
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            found.append(str(candidate))
    return found
