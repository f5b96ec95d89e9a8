"""A hub for a browser: it runs in a thread of its own, so that tests can be written as a person acts, step by step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pytest

from tests.browser.browser import Browser
from tests.hub import Hub, hubs_on, own_database
from tests.leaks import LEAKS

T = TypeVar("T")

ADMIN_TOKEN: Final = LEAKS.seed("the-operator's-own-token-of-the-console")
#: One browser at a time, and it may take its time to start.
IN_BROWSER: Final = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A hub with its own database, and its event loop."""

    hub: Hub
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.hub.url

    def do(self, work: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
        """Run something in the hub's loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def open_site(mongodb_uri: str, prepare: Callable[[Any], Awaitable[object]], **settings: Any) -> Iterator[Site]:
    """Start a hub on a database of its own, which ``prepare`` fills; ``settings`` as ``StartHub`` takes them."""
    with running_loop() as loop:
        stack = AsyncExitStack()

        async def start() -> Hub:
            database = await stack.enter_async_context(own_database(mongodb_uri))
            await prepare(database)
            start_hub = await stack.enter_async_context(hubs_on(database, mongodb_uri))
            return await start_hub(ADMIN_TOKEN=ADMIN_TOKEN, **settings)

        try:
            hub = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
            yield Site(hub=hub, loop=loop)
        finally:
            asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(30)


def log_in(browser: Browser, site: Site, page: str = "/console") -> None:
    """Log in as an operator, and go to a page."""
    browser.visit(site.url, page)
    browser.type("#token", ADMIN_TOKEN)
    browser.press("Log in")
    browser.until(lambda: browser.path() == page, page)
