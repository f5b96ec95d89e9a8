from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry import log_writer
from whatsapp_hub.telemetry.logs import LogWriter, reopen_logs, setup_logging

SetUp = Callable[..., LogWriter]


@pytest.fixture
def console() -> io.StringIO:
    """What stands on stderr."""
    return io.StringIO()


@pytest.fixture
def set_up(console: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetUp]:
    """Set up logging, and leave the loggers as they were afterwards."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}

    def set_up(stderr: io.StringIO = console, **settings: object) -> LogWriter:
        monkeypatch.setattr(sys, "stderr", stderr)
        return setup_logging(Settings.isolated(**settings))

    with warnings.catch_warnings():
        yield set_up
    logging.captureWarnings(False)
    for handler in root.handlers[:]:
        if isinstance(handler, LogWriter):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def read(console: io.StringIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in console.getvalue().splitlines()]


def fail(text: str) -> None:
    raise ValueError(text)


def test_a_line_is_json_with_the_guides_keys_first(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    logging.getLogger("webhook").info("webhook stored", extra={"message_id": "wamid.1", "items": 3})
    writer.flush()
    (line,) = read(console)
    assert list(line) == ["time", "level", "name", "message", "message_id", "items"]
    assert line["time"].endswith("Z")  # type: ignore[attr-defined]
    del line["time"]
    assert line == {
        "level": "INFO",
        "name": "webhook",
        "message": "webhook stored",
        "message_id": "wamid.1",
        "items": 3,
    }


def test_levels_are_set_for_each_logger(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up(log_level="WARNING", log_levels="business_service=DEBUG,webhook=INFO")
    for name in ("business_service", "webhook", "inbox"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "said")
    writer.flush()
    assert [(line["name"], line["level"]) for line in read(console)] == [
        ("business_service", "DEBUG"),
        ("business_service", "INFO"),
        ("business_service", "WARNING"),
        ("webhook", "INFO"),
        ("webhook", "WARNING"),
        ("inbox", "WARNING"),
    ]


def test_libraries_that_log_what_customers_write_stay_quiet_at_debug(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up(log_level="DEBUG")
    for name in ("pymongo.command", "aiohttp.access", "asyncio"):
        logging.getLogger(name).info("said")
    writer.flush()
    assert read(console) == []


def test_secrets_and_numbers_are_taken_out_everywhere(set_up: SetUp, console: io.StringIO) -> None:
    secrets = {"whatsapp_app_secret": "0123456789abcdef", "mongodb_uri": "mongodb://u:hunter%2222@db/"}
    writer = set_up(**secrets, admin_token="an-admin-token-of-24-chars", ai_api_key="a-key-without-shape")
    log = logging.getLogger("hub")
    log.info(
        "%s", "an-admin-token-of-24-chars for 4915112345678", extra={"why": ["0123456789abcdef", {"k": 'hunter"22'}]}
    )
    try:
        fail("a-key-without-shape of 4915112345678")
    except ValueError:
        log.exception("failed", stack_info=True)
    writer.flush()
    written = console.getvalue()
    assert len(read(console)) == 2
    assert "Traceback" in written
    leaks = ("0123456789abcdef", "hunter", "an-admin-token", "a-key-without-shape", "4915112345678")
    assert [leak for leak in leaks if leak in written] == []


def test_ids_stay_readable(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    ids = {"phone_number_id": "106540352242922", "customer": "4915112345678"}
    logging.getLogger("hub").info("x", extra=ids)
    writer.flush()
    (line,) = read(console)
    assert (line["phone_number_id"], line["customer"]) == ("106540352242922", "[number]")


def test_an_extra_cannot_replace_what_the_line_is_about(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    logging.getLogger("hub").info("x", extra={"level": "forged", "time": "never"})
    writer.flush()
    (line,) = read(console)
    assert (line["level"], line["message"]) == ("INFO", "x")
    assert line["time"] != "never"


def test_what_json_cannot_hold_is_written_all_the_same(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    logging.getLogger("hub").info("ok \ud83d", extra={"big": 2**70, "path": Path("/x"), "many": (1, None)})
    writer.flush()
    (line,) = [orjson.loads(line.replace("\\ud83d", "")) for line in console.getvalue().splitlines()]
    assert (line["path"], line["many"]) == ("/x", [1, None])


class Unprintable:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def test_a_wrong_log_call_is_reported_and_fails_nobody(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    logging.getLogger("inbox").info("said", extra={"what": Unprintable()})
    writer.flush()
    (line,) = read(console)
    assert (line["message"], line["logger"]) == ("log call is wrong", "inbox")
    assert "test_logs.py" in str(line["where"])


def test_text_is_one_line_for_one_record(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up(log_format="text")
    logging.getLogger("hub").warning("said\nand forged", extra={"why": "a b\nc", "count": 2})
    writer.flush()
    (line,) = console.getvalue().splitlines()
    assert line.partition(" ")[2] == 'WARNING hub: said\\nand forged why="a b\\nc" count=2'


def test_text_shows_a_traceback_below(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up(log_format="text")
    try:
        fail("no")
    except ValueError:
        logging.getLogger("hub").exception("failed")
    writer.flush()
    lines = console.getvalue().splitlines()
    assert lines[0].endswith("ERROR   hub: failed")
    assert lines[-1] == "ValueError"


def test_the_file_gets_the_same_lines(set_up: SetUp, console: io.StringIO, tmp_path: Path) -> None:
    writer = set_up(log_file=tmp_path / "hub.log")
    logging.getLogger("hub").info("said")
    writer.flush()
    assert (tmp_path / "hub.log").read_text() == console.getvalue() != ""


def test_after_a_rotation_the_file_is_opened_anew(set_up: SetUp, tmp_path: Path) -> None:
    path = tmp_path / "hub.log"
    writer = set_up(log_file=path)
    log = logging.getLogger("hub")
    log.info("before")
    path.rename(tmp_path / "hub.log.1")
    log.info("between")
    reopen_logs()
    log.info("after")
    writer.flush()
    old = (tmp_path / "hub.log.1").read_text()
    assert ("before" in old, "between" in old, "after" in old) == (True, True, False)
    assert [orjson.loads(line)["message"] for line in path.read_text().splitlines()] == ["after"]


def test_a_file_that_cannot_be_reopened_is_reported_and_the_old_one_kept(
    set_up: SetUp, console: io.StringIO, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = set_up(log_file=folder / "hub.log")
    folder.rename(tmp_path / "gone")
    reopen_logs()
    writer.flush()
    logging.getLogger("hub").info("said")
    writer.flush()
    assert [line["message"] for line in read(console)] == ["log file cannot be reopened, the old one is kept", "said"]
    assert "said" in (tmp_path / "gone" / "hub.log").read_text()


def test_a_full_disk_is_reported_once_and_the_console_goes_on(set_up: SetUp, console: io.StringIO) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    writer = set_up(log_file=full)
    for count in range(3):
        logging.getLogger("hub").info("said", extra={"count": count})
        writer.flush()
    messages = [line["message"] for line in read(console)]
    assert (messages.count("said"), messages.count("log file cannot be written")) == (3, 1)


def test_a_file_that_cannot_be_opened_is_a_fault_of_the_settings(set_up: SetUp, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"LOG_FILE: .* cannot be opened \(No such file or directory\); name"):
        set_up(log_file=tmp_path / "missing" / "hub.log")


def test_setting_up_again_replaces_the_first(set_up: SetUp, console: io.StringIO) -> None:
    set_up()
    writer = set_up()
    logging.getLogger("hub").info("said")
    writer.flush()
    assert len(read(console)) == 1


def test_closing_writes_what_is_left(set_up: SetUp, console: io.StringIO) -> None:
    writer = set_up()
    for count in range(500):
        logging.getLogger("hub").info("said", extra={"count": count})
    writer.close()
    assert [line["count"] for line in read(console)] == list(range(500))


class Stalled(io.StringIO):
    """A console that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait(5)
        return super().write(text)


def test_a_console_that_stalls_stops_nobody_and_what_was_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch, set_up: SetUp
) -> None:
    stalled = Stalled()
    monkeypatch.setattr(log_writer, "MAX_WAITING_LINES", 10)
    writer = set_up(stalled)
    log = logging.getLogger("hub")
    log.info("said")
    assert stalled.reached.wait(5)
    for _ in range(15):
        log.info("said")  # ten wait, five are dropped
    stalled.let_go.set()
    writer.flush()
    log.info("said")
    writer.flush()
    lines = read(stalled)
    assert [line["message"] for line in lines].count("said") == 12
    assert [line["count"] for line in lines if line["message"].startswith("log lines dropped")] == [5]  # type: ignore[attr-defined]
