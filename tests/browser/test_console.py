"""An operator's walks through the console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.browser import PHONE, Browser
from tests.browser.site import ADMIN_TOKEN, IN_BROWSER, Site, log_in, open_site
from tests.hub import business

pytestmark = IN_BROWSER

PAGES = ("/console", "/console/businesses", "/console/conversations", "/console/dead-letters", "/console/search")


@pytest.fixture(scope="module")
def site(mongodb_uri: str) -> Iterator[Site]:
    async def prepare(database: Any) -> None:
        await database.businesses.insert_many([business(number) for number in ("101", "102", "103")])

    with open_site(mongodb_uri, prepare) as site:
        yield site


def test_operator_logs_in_and_out(site: Site, browser: Browser) -> None:
    browser.visit(site.url, "/console/businesses")
    assert browser.path() == "/console/login"
    browser.type("#token", ADMIN_TOKEN)
    browser.press("Log in")
    browser.until(lambda: browser.path() == "/console/businesses")
    assert browser.text("nav a[aria-current]") == "Businesses"
    browser.press("Log out")
    browser.until(lambda: browser.path() == "/console/login")
    browser.open("/console")
    assert browser.path() == "/console/login"


def test_wrong_token_is_said_so(site: Site, browser: Browser) -> None:
    browser.visit(site.url, "/console")
    browser.type("#token", "not the token, but as long as one")
    browser.press("Log in")
    browser.until_text("That is not the admin token", "#problem")
    browser.open("/console")
    assert browser.path() == "/console/login"


@pytest.mark.parametrize("path", PAGES)
def test_page_keeps_to_its_origin_and_to_a_narrow_screen(site: Site, browser: Browser, path: str) -> None:
    log_in(browser, site)
    browser.size(*PHONE)
    browser.open(path)
    browser.find("#page > *")
    assert not browser.scrolls_sideways()
    assert [url for url in browser.asked_for() if not url.startswith(f"{site.url}/")] == []
    assert browser.complaints() == []
