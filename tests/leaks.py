"""Nothing that has to stay secret is logged, whatever the suite does: a plugin that reads along.

Tests seed secrets where they make them. Every record that any logger lets through is put into the hub's own form, with
its own net for secrets but without the settings' secrets in it, and looked through at once; so are the logs of the
hubs' own processes when their world ends. The test in which something was told fails.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from whatsapp_hub.telemetry.logs import JsonFormatter
from whatsapp_hub.telemetry.redaction import Redactor

#: The customers' numbers and the businesses' tokens, as the tests name them.
_PATTERNS: Final = (r"(?<!\d)49(?:17|15)\d{8,9}(?!\d)", r"\btoken-\d{3}\b")
_QUIET: Final = ("aiohttp", "asyncio", "pymongo", "motor")  # as in a hub


class Leaks(logging.Handler):
    """Looks for what was seeded in what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(Redactor()))
        self._seeds: dict[str, None] = {}
        self._wanted = re.compile("|".join(_PATTERNS))
        self._found: list[str] = []

    def seed(self, secret: str) -> str:
        """Return the secret; from now on nobody may log it."""
        self._seeds[secret] = None
        self._wanted = re.compile("|".join([*map(re.escape, self._seeds), *_PATTERNS]))
        return secret

    def emit(self, record: logging.LogRecord) -> None:
        """Look through a record as a hub would write it."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a wrong log call, which has a test of its own
            return
        self.read(f"{record.name} ({Path(record.pathname).name}:{record.lineno})", text)

    def read(self, source: str, text: str) -> None:
        """Look through a text."""
        self._found += [f"{source} tells {match[0]!r}" for match in self._wanted.finditer(text)]

    def read_folder(self, folder: Path) -> None:
        """Look through the logs in a folder."""
        for path in sorted(folder.rglob("*.log")):
            self.read(path.name, path.read_text(errors="replace"))

    def take(self) -> list[str]:
        """Return what was found since the last call."""
        found, self._found = self._found, []
        return found


LEAKS: Final = Leaks()


def pytest_configure() -> None:
    """Read along with whatever is logged, from the level on that a hub has."""
    root = logging.getLogger()
    root.addHandler(LEAKS)
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def pytest_unconfigure() -> None:
    """Leave the loggers alone."""
    logging.getLogger().removeHandler(LEAKS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the test fail in which something was told."""
    report = yield
    if call.when == "teardown" and (found := LEAKS.take()):
        report.outcome = "failed"
        report.longrepr = "\n".join(["what must not be logged was:", *sorted(set(found))])
    return report
