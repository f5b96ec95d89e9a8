"""The reading along of the logs is itself tried: a leak that is planted fails the test in which it was planted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import Leaks

ROOT = Path(__file__).parents[2]
PLANTED = """
import logging
from pathlib import Path
from tests.leaks import LEAKS

SECRET = LEAKS.seed("planted, not to be told")

def test_clean():
    logging.getLogger("inbox").info("nothing to see", extra={"count": 1})

def test_secret_in_an_extra():
    logging.getLogger("inbox").info("told", extra={"why": SECRET})

def test_secret_in_a_message():
    logging.getLogger("hub").error("told %s", SECRET)

def test_number_in_an_id():
    logging.getLogger("conversation").warning("told", extra={"message_id": "491700000001"})

def test_log_of_a_process(tmp_path):
    Path(tmp_path, "hub0.log").write_text("token-101")
    LEAKS.read_folder(tmp_path)

def test_redacted():
    logging.getLogger("conversation").warning("the hub's own net holds: 491700000001")
"""


def test_planted_leak_fails_its_test_on_every_worker(tmp_path: Path) -> None:
    planted = tmp_path / "test_planted.py"
    planted.write_text(PLANTED)
    options = [
        "-p",
        "tests.leaks",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
        "-q",
        "-n",
        "2",
    ]
    command = [sys.executable, "-m", "pytest", *options, str(planted)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    failed = set(re.findall(r"ERROR \S*::(\w+)", output))
    assert failed == {
        "test_secret_in_an_extra",
        "test_secret_in_a_message",
        "test_number_in_an_id",
        "test_log_of_a_process",
    }, output


@pytest.mark.parametrize("text", ["a secret", "491700000001", "+49 4915112345678", "Bearer token-101"])
def test_what_was_seeded_is_found(text: str) -> None:
    leaks = Leaks()
    leaks.seed("a secret")
    leaks.read("here", text)
    assert len(leaks.take()) == 1
    assert leaks.take() == []


@pytest.mark.parametrize("text", ["", "a secre", "1491700000001", "token-10", "106540352242922"])
def test_what_was_not_seeded_is_passed_over(text: str) -> None:
    leaks = Leaks()
    leaks.seed("a secret")
    leaks.read("here", text)
    assert leaks.take() == []
