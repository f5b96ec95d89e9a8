"""SIGHUP: the log file is opened anew, and what can change without a restart is read again.

Only levels of logs can. Everything else is built into what runs: it is named in the log, and waits for a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.logs import reopen_logs, set_levels

logger = logging.getLogger("hub")

CHANGEABLE: Final = frozenset({"log_level", "log_levels"})


class Reloader:
    """Knows the settings that count, and reads them again when it is asked to."""

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        """Start with what the process was started with; ``read`` looks everything up again."""
        self._settings = settings
        self._read = read

    def reload(self) -> None:
        """Reopen the logs and take over what can change; if anything is wrong, all stays as it was."""
        reopen_logs()
        try:
            wanted = self._read()
        except SettingsInvalid as exc:
            logger.error("settings not reloaded, the old ones stay", extra={"faults": exc.faults})
            return
        changed = {name for name in Settings.model_fields if getattr(wanted, name) != getattr(self._settings, name)}
        self._take_over({name: getattr(wanted, name) for name in changed & CHANGEABLE}, changed - CHANGEABLE)

    def _take_over(self, values: Mapping[str, object], waiting: Iterable[str]) -> None:
        before, self._settings = self._settings, self._settings.model_copy(update=values)
        # It is told under the level that shows it.
        is_shown = logger.isEnabledFor(logging.INFO)
        if is_shown:
            _tell(values, waiting)
        set_levels(self._settings, instead_of=before)
        if not is_shown:
            _tell(values, waiting)


def _tell(changed: Iterable[str], waiting: Iterable[str]) -> None:
    logger.info("settings reloaded", extra={"changed": _by_variable(changed)})
    if names := _by_variable(waiting):
        logger.warning("settings that wait for a restart", extra={"settings": names})


def _by_variable(names: Iterable[str]) -> list[str]:
    return sorted(name.upper() for name in names)
