"""One Chromium for every test in it, logged in where a test asks for that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.browser import DESKTOP, Browser, open_browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, started once."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser as it comes: light, of a desktop's size, with no cookie."""
    chromium.size(*DESKTOP)
    chromium.dark(on=False)
    chromium.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.complaints()
    yield chromium
    chromium.driver.get("about:blank")  # its streams end
