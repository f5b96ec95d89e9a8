"""The settings and the database, as the commands beside ``serve`` need them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import pymongo

from whatsapp_hub.database import Database, DatabaseError, connect
from whatsapp_hub.errors import SettingsInvalid, StoreUnavailable
from whatsapp_hub.settings import Settings, load_settings

T = TypeVar("T")

FIRST_ANSWER_TIMEOUT_S: Final = 3.0
_ONLY_FOR_SERVE: Final = ("ASSISTANT: missing", "WHATSAPP_APP_SECRET: missing")
_ONLY_FOR_TENANTS: Final = ("ENCRYPTION_SECRET: missing",)


def read_settings(*, tenants: bool) -> Settings:
    """Read the settings of the environment; ``tenants``: businesses' secrets are read or written.

    Raises:
        SettingsInvalid: with every fault at once, but for what only ``serve`` needs.

    """
    try:
        return load_settings(serve=True)
    except SettingsInvalid as exc:
        needless = _ONLY_FOR_SERVE if tenants else (*_ONLY_FOR_SERVE, *_ONLY_FOR_TENANTS)
        faults = [fault for fault in exc.faults if not fault.startswith(needless)]
    if faults:
        raise SettingsInvalid(faults)
    return load_settings()


def run_on_database(
    settings: Settings, work: Callable[[Database], Awaitable[T]], *, first_answer_s: float = FIRST_ANSWER_TIMEOUT_S
) -> T:
    """Open the database of the settings, do the work and close it; give up when it is silent at first.

    Raises:
        StoreUnavailable: whatever the driver raised.

    """
    # What the inbox and the directory log is told by the command itself, in its own words.
    logging.getLogger().addHandler(logging.NullHandler())
    with known_errors():
        return asyncio.run(_run(settings, work, first_answer_s))


async def _run(settings: Settings, work: Callable[[Database], Awaitable[T]], first_answer_s: float) -> T:
    assert settings.mongodb_uri is not None  # noqa: S101 - read_settings sees to it
    assert settings.mongodb_db_name is not None  # noqa: S101
    uri = settings.mongodb_uri.get_secret_value()
    async with connect(uri, settings.mongodb_db_name, max_pool_size=4, min_pool_size=0) as database:
        with pymongo.timeout(first_answer_s):
            await database.hello()
        return await work(database)


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn whatever the driver raises into ``StoreUnavailable``."""
    try:
        yield
    except DatabaseError as exc:
        raise StoreUnavailable from exc
