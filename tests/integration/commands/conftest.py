"""The command line in the tests' process, on the test's database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from click.testing import CliRunner, Result

from tests.hub import ENCRYPTION_SECRET
from whatsapp_hub.cli import hub
from whatsapp_hub.database import Database

CommandLine = Callable[..., Awaitable[Result]]


@pytest.fixture
def command_line(database: Database, mongodb_uri: str) -> CommandLine:
    """Run a command; keyword arguments in capitals are environment variables, ``stdin`` is what is piped in."""
    given = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": database.inbox.database.name,
        "ENCRYPTION_SECRET": ENCRYPTION_SECRET,
    }

    async def run(*arguments: str, stdin: str = "", **env: str | None) -> Result:
        # In a thread of its own, because commands bring their own event loop.
        result = await asyncio.to_thread(CliRunner().invoke, hub, arguments, input=stdin, env={**given, **env})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
