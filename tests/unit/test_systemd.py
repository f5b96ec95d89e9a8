from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from whatsapp_hub.systemd import Notifier, take_listener


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "hub"},
    ],
)
def test_a_socket_that_is_not_meant_for_this_process_is_left_alone(variables: dict[str, str]) -> None:
    environ = {"PATH": "/bin", **variables}
    assert take_listener(environ) is None
    assert environ == {"PATH": "/bin"}


def test_what_systemd_says_is_not_handed_on_to_programs_that_the_process_starts() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    Notifier.from_environment(environ)
    assert environ == {}


@pytest.mark.parametrize(
    ("variables", "is_fed"),
    [
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "1000000"}, True),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_only_a_watchdog_of_ones_own_is_fed(tmp_path: Path, variables: dict[str, str], is_fed: bool) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.bind(str(path))
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(path), **variables})
        notifier._feed_and_tell("takes webhooks")
        assert (b"WATCHDOG=1" in mouth.recv(1000).split(b"\n")) is is_fed


def test_an_abstract_socket_is_told_too() -> None:
    name = f"hub-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.bind(f"\0{name}")
        Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert mouth.recv(100) == b"READY=1"


def test_a_reload_is_told_only_between_start_and_stop(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.bind(str(path))
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(path)})
        with notifier.reloading():
            pass
        notifier.ready()
        with notifier.reloading():
            pass
        notifier.stopping(within_s=1.0)
        with notifier.reloading():
            pass
        mouth.setblocking(False)
        told = [mouth.recv(100).split(b"\n")[0] for _ in range(4)]
        assert told == [b"READY=1", b"RELOADING=1", b"READY=1", b"STOPPING=1"]
        with pytest.raises(BlockingIOError):
            mouth.recv(100)


def test_a_systemd_that_hears_nothing_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    assert caplog.messages == ["systemd could not be told"]
