"""What every test stands on: a clean environment and a real database."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import chdir
from importlib import import_module
from uuid import uuid4

import pytest

from whatsapp_hub.database import Database, connect
from whatsapp_hub.demo.embedded import embedded
from whatsapp_hub.settings import VARIABLES

pytest_plugins = ["tests.deadlines", "tests.leaks", "tests.hub", "tests.redis_server"]

for _name in list(os.environ):
    # What is set at this machine is not the tests' business.
    if _name.removesuffix("_FILE") in VARIABLES or _name.startswith("TIMING__") or _name == "CREDENTIALS_DIRECTORY":
        del os.environ[_name]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what goes to its background like this; the processes of the tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collector all that stays until the end.

    Looking through the modules and tests of the whole suite took it 0.2-0.4 s each time, and the driver of a test that
    holds a deadline saw no answer meanwhile.
    """
    import_module("hypothesis")  # before: it takes a frozen generator of random numbers for garbage, and warns
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stand where no ``.env`` file lies."""
    with chdir(tmp_path_factory.mktemp("cwd")):
        yield


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """A real database, a replica set of one, for the whole session."""
    with embedded(parameters={"enableTestCommands": 1, "ttlMonitorSleepSecs": 1}) as running:
        if running.kind != "mongod" and "HUB_EMBEDDED" not in os.environ:
            pytest.exit("the tests need mongod: " + "; ".join(running.passed_over), returncode=2)
        yield running.uri


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    """A database of the test's own, empty, dropped afterwards."""
    async with connect(mongodb_uri, f"hub-test-{uuid4().hex}", max_pool_size=20, min_pool_size=0) as database:
        yield database
        await database.client.drop_database(database.inbox.database.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test logged fit to be sent between processes: xdist stumbles over a lone surrogate."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report
