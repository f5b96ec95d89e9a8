"""The demo as a real process: it answers, is not led astray by the environment, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from whatsapp_hub.demo.embedded import FALLBACK, find_programs

HUB = [sys.executable, "-m", "whatsapp_hub", "demo"]
#: What must not reach the demo.
HOSTILE = {
    "MONGODB_URI": "mongodb://192.0.2.1/",
    "PORT": "1",
    "ASSISTANT": "nonsense",
    "GRAPH_API_BASE_URL": "https://192.0.2.1",
    "HTTP_PROXY": "http://192.0.2.1:3128",
    "http_proxy": "http://192.0.2.1:3128",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder to start in, with a .env file that must not be read, and one for temporary files."""
    (tmp_path / ".env").write_text("MONGODB_URI=nonsense\nLOG_LEVEL=LOUD\n")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, **HOSTILE, "TMPDIR": str(home / "tmp"), "PYTHONUNBUFFERED": "1", **more}


def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HUB, *arguments],
        cwd=home,
        env=environment(home, **env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@contextmanager
def started(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start the demo and yield it with its welcome."""
    process = subprocess.Popen(
        [*HUB, *arguments],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        assert process.stdout is not None
        welcome: list[str] = []
        for line in process.stdout:
            welcome.append(line.rstrip("\n"))
            if line.startswith("Stop: "):
                break
        yield process, welcome
        if process.poll() is None:
            process.kill()


def test_once_answers_for_every_business(home: Path) -> None:
    result = run(home, "--once", "--json", "--port", "0")
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert {answer["business"] for answer in answers} == {"bakery", "bikes", "dentist"}
    for answer in answers:
        assert answer.keys() == {"business", "question", "reply", "ack_ms", "reply_ms"}
        assert answer["reply"] == answer["question"]
        assert 0 < answer["ack_ms"] < 30_000
        assert 0 < answer["reply_ms"] < 30_000
    assert not result.stderr
    assert not list((home / "tmp").iterdir())


def test_once_works_on_the_fallback_database_too(home: Path) -> None:
    fallback = next((program for program in find_programs() if program.kind == FALLBACK), None)
    if fallback is None:
        pytest.skip(f"{FALLBACK} is not installed")
    result = run(home, "--once", "--port", "0", HUB_EMBEDDED=str(fallback.path))
    assert result.returncode == 0, result.stderr
    assert "secantusd-py" in result.stdout
    assert "All 3 answered." in result.stdout


def test_database_that_cannot_be_had_is_told_and_exits_1(home: Path) -> None:
    result = run(home, "--once", "--port", "0", HUB_EMBEDDED="/nowhere/mongod")
    assert result.returncode == 1
    assert "HUB_EMBEDDED" in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_port_that_is_taken_is_told_before_anything_starts(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = run(home, "--port", str(port))
    assert result.returncode == 1
    assert f"whatsapp-hub demo --port {port + 1}" in result.stderr
    assert "Traceback" not in result.stderr


def test_host_that_is_not_known_is_told(home: Path) -> None:
    result = run(home, "--host", "no such host", "--port", "0")
    assert result.returncode == 1
    assert "--host" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_pasted_line_is_answered_and_ctrl_c_leaves_nothing(home: Path, stop: signal.Signals) -> None:
    with started(home, "--port", "0") as (process, welcome):
        assert process.stdout is not None
        (line,) = (line for line in welcome if line.startswith("curl "))
        assert all(
            name in "\n".join(welcome) for name in ("bakery", "bikes", "dentist", "/health", "/ready", "/metrics")
        )
        status = paste(line)
        assert status == 200
        assert read_reply(process) == "bakery -> ***0142: Do you still have sourdough today?"
        assert paste(line) == 200
        assert paste(line.replace("sourdough", "rye")) == 401
        began = time.monotonic()
        process.send_signal(stop)
        stdout, stderr = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert not stdout  # the second copy was answered nothing
    assert stderr.splitlines()[-1] == "Stopped."
    assert "Traceback" not in stderr
    assert not list((home / "tmp").iterdir())


def test_stop_in_the_middle_of_the_start_leaves_nothing(home: Path) -> None:
    process = subprocess.Popen(
        [*HUB, "--port", "0"],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 20
        while not list((home / "tmp").glob("hub-db-*/*/port")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode in {0, 1}
    assert "Traceback" not in stderr
    assert not list((home / "tmp").iterdir())


def paste(line: str) -> int:
    """Do what the line does: exactly its words, through a shell's rules; return the status."""
    words = shlex.split(line)
    assert words[:2] == ["curl", "-i"]
    url, body = words[2], words[words.index("-d") + 1].encode()
    headers = dict(words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H")
    match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\S*)", url)
    assert match
    head = [f"POST {match[2]} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    with closing(socket.create_connection(("127.0.0.1", int(match[1])), timeout=10)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return int(connection.recv(100).split()[1])


def read_reply(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if " -> " in line:
            return line.rstrip("\n")
    raise AssertionError("no reply")
