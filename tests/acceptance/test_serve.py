"""``serve`` and what surrounds it as real processes: start, stop, faults, and a prompt at a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hub import ENCRYPTION_SECRET, VAULT, business
from whatsapp_hub.database import Database

HUB = [sys.executable, "-m", "whatsapp_hub"]
START_TIMEOUT_S = 20.0


@pytest.fixture
def environment(database: Database, mongodb_uri: str) -> dict[str, str]:
    return {
        **os.environ,
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": database.inbox.database.name,
        "ENCRYPTION_SECRET": ENCRYPTION_SECRET,
        "WHATSAPP_APP_SECRET": "secret",
        "ASSISTANT": "echo",
    }


@pytest.fixture
def graph_url() -> Iterator[str]:
    """Graph as a process of its own: these tests wait for others, and answer nobody meanwhile."""
    command = [sys.executable, "-m", "whatsapp_hub.demo.graph"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code
    except OSError:
        return 0


def wait_for_status(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while status_of(url) != 200:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*HUB, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with process:
        yield process
        if process.poll() is None:
            process.kill()


def run(*arguments: str, env: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HUB, *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_gets_ready_and_stops_with_0(environment: dict[str, str], stop: signal.Signals) -> None:
    port = free_port()
    with running("serve", "--host", "127.0.0.1", "--port", str(port), env=environment) as process:
        wait_for_status(f"http://127.0.0.1:{port}/ready", process)
        process.send_signal(stop)
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert not stdout
    messages = [json.loads(line)["message"] for line in stderr.splitlines()]
    assert "listening" in messages
    assert messages[-1] == "stopped"
    assert environment["MONGODB_URI"] not in stderr


def test_options_win_over_the_environment(environment: dict[str, str]) -> None:
    port = free_port()
    env = {**environment, "HOST": "192.0.2.1", "PORT": "1"}
    with running("serve", "--host", "127.0.0.1", "--port", str(port), env=env) as process:
        wait_for_status(f"http://127.0.0.1:{port}/health", process)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_serve_on_a_unix_socket(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    with running("serve", "--sock", str(path), env=environment) as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not path.is_socket():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_serve_without_anything_lists_everything_and_exits_2() -> None:
    result = run("serve", env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    assert result.returncode == 2
    assert not result.stdout
    names = ("MONGODB_URI", "MONGODB_DB_NAME", "ENCRYPTION_SECRET", "ASSISTANT", "WHATSAPP_APP_SECRET")
    assert all(f"\n  {name}: missing" in result.stderr for name in names)
    assert "Traceback" not in result.stderr


def test_port_that_is_taken_is_told_in_words(environment: dict[str, str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        result = run("serve", "--host", "127.0.0.1", "--port", port, env=environment)
    assert result.returncode == 1
    assert f"Error: 127.0.0.1 port {port} is in use" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_folder_of_a_unix_socket_has_to_be_there(environment: dict[str, str], tmp_path: Path) -> None:
    result = run("serve", "--sock", str(tmp_path / "nowhere" / "hub.sock"), env=environment)
    assert result.returncode == 1
    assert "its folder is not there" in result.stderr
    assert "Traceback" not in result.stderr


def test_operators_code_that_cannot_be_loaded_exits_2(environment: dict[str, str]) -> None:
    env = {**environment, "ASSISTANTS": "mine=nowhere.to_be_found:make", "ASSISTANT": "mine"}
    result = run("serve", "--port", str(free_port()), env=env)
    assert result.returncode == 2
    assert "ASSISTANTS: mine=nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_business_added_from_the_command_line_is_there(
    environment: dict[str, str], database: Database, graph_url: str
) -> None:
    environment["GRAPH_API_BASE_URL"] = graph_url
    arguments = ["--name", "The Bakery", "--sub-domain", "bakery", "--waba-id", "102", "--phone-number-id", "106"]
    added = run("business", "add", *arguments, "--token-stdin", env=environment, stdin="EAAsecret\n")
    assert added.returncode == 0, added.stderr
    assert json.loads(run("business", "list", "--json", env=environment).stdout)[0]["business"] == "bakery"
    assert run("business", "disable", "bakery", env=environment).returncode == 0
    shown = run("business", "show", "bakery", env=environment)
    assert "served            no" in shown.stdout.splitlines()
    assert "EAAsecret" not in added.stdout + added.stderr + shown.stdout + shown.stderr


async def test_token_is_asked_for_at_a_terminal_and_not_shown(environment: dict[str, str], database: Database) -> None:
    await database.businesses.insert_one(business("101"))
    process, ours = at_terminal("business", "set-token", "b101", env=environment)
    shown = read_until(ours, b": ")
    assert shown.endswith(b"Access token: ")
    os.write(ours, b"EAAtyped\n")
    shown += read_until(ours, b"is stored.")
    assert process.wait(timeout=20) == 0
    os.close(ours)
    assert b"EAAtyped" not in shown
    found: Any = await database.businesses.find_one({})
    assert VAULT.decrypt(found["whatsappAccessToken"]) == "EAAtyped"


async def test_add_asks_for_what_is_missing_until_it_can_be_used(
    environment: dict[str, str], database: Database, graph_url: str
) -> None:
    environment |= {"GRAPH_API_BASE_URL": graph_url, "WHATSAPP_VERIFY_TOKEN": "word to paste"}
    process, ours = at_terminal("business", "add", "--waba-id", "102", env=environment)
    shown = b""
    for question, answer in (
        (b"Name of the business: ", b"The Bakery\n"),
        (b"bakery): ", b"No Good Name\n"),
        (b"bakery): ", b"bakery\n"),
        (b"between): ", b"106, 107\n"),
        (b"Access token: ", b"EAAtyped\n"),
        (b"to its app? [Y/n]: ", b"\n"),
        (b"(empty: none): ", b"+1 555 0100 142\n"),
    ):
        shown += read_until(ours, question)
        os.write(ours, answer)
    shown += read_until(ours, b"works.")
    assert process.wait(timeout=20) == 0
    os.close(ours)
    for words in (b"bakery is added", b"webhooks of account 102 already", b"Verify token  word to paste", b"charges"):
        assert words in shown
    assert b"EAAtyped" not in shown
    found: Any = await database.businesses.find_one({})
    assert (found["subDomain"], found["whatsappPhoneNumberIds"]) == ("bakery", ["106", "107"])


def at_terminal(*arguments: str, env: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command at a terminal of its own, and return our end of it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*HUB, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, words: bytes) -> bytes:
    """Return what a terminal shows until these words are there."""
    shown = b""
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], START_TIMEOUT_S)
        assert ready, shown
        shown += os.read(terminal, 4096)
    return shown
