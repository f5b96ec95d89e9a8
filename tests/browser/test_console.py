"""An operator's walks through the console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import PHONE, Browser
from tests.browser.site import ADMIN_TOKEN, IN_BROWSER, Site, log_in, open_site
from tests.hub import business

pytestmark = IN_BROWSER

PAGES = ("/console", "/console/businesses", "/console/conversations", "/console/dead-letters", "/console/search")


@pytest.fixture(scope="module")
def site(mongodb_uri: str) -> Iterator[Site]:
    async def prepare(database: Any) -> None:
        faulty = business("103", whatsappAccessToken="not to be decrypted")
        await database.businesses.insert_many([business("101"), business("102"), faulty])

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


def test_login_needs_no_mouse(site: Site, browser: Browser) -> None:
    browser.visit(site.url, "/console")
    browser.keys(ADMIN_TOKEN, Keys.ENTER)  # the field has the focus
    browser.find("#page > *")
    browser.keys(Keys.TAB)
    assert browser.focused().text == "Skip to the content"
    browser.keys(Keys.ENTER)
    assert browser.focused().get_attribute("id") == "main"


@pytest.mark.parametrize("path", PAGES)
def test_page_is_for_everybody_and_keeps_to_its_origin(site: Site, browser: Browser, path: str) -> None:
    """Nothing that axe calls serious, light or dark; no sideways scrolling on a phone; nothing from elsewhere."""
    log_in(browser, site, path)
    see_content(browser, path)
    for dark in (False, True):
        browser.dark(on=dark)
        assert browser.faults() == []
    browser.size(*PHONE)
    assert not browser.scrolls_sideways()
    assert browser.faults() == []
    assert [url for url in browser.asked_for() if not url.startswith(f"{site.url}/")] == []
    assert browser.complaints() == []


def test_login_page_is_for_everybody(site: Site, browser: Browser) -> None:
    browser.size(*PHONE)
    browser.visit(site.url, "/console/login")
    browser.type("#token", "a wrong one")
    browser.press("Log in")
    for dark in (False, True):
        browser.dark(on=dark)
        assert browser.faults() == []
    assert not browser.scrolls_sideways()


def test_dark_mode_is_dark(site: Site, browser: Browser) -> None:
    browser.visit(site.url, "/console/login")
    brightness = []
    for dark in (False, True):
        browser.dark(on=dark)
        colour = browser.find("body").value_of_css_property("background-color")
        brightness.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
    assert brightness[0] > 600
    assert brightness[1] < 150


def test_overview_shows_a_message_by_itself(site: Site, browser: Browser) -> None:
    log_in(browser, site)
    browser.until(lambda: browser.text(".tile .figure") == "0/s", "no messages yet")
    before = browser.find(".chart svg[role=img]").get_attribute("aria-label")
    site.do(site.hub.say("101", "hello", "wamid.overview"))
    browser.until(lambda: browser.text(".tile .figure") != "0/s", "the message is counted")
    assert browser.find(".chart svg[role=img]").get_attribute("aria-label") != before
    browser.click(".chart summary")
    assert browser.find(".chart details table").text


def test_held_business_is_told_with_what_to_do(site: Site, browser: Browser) -> None:
    log_in(browser, site)
    site.do(site.hub.say("103", "hello", "wamid.held"))
    browser.until_text("b103 cannot send: whatsappAccessToken does not decrypt", ".troubles")
    assert browser.text(".troubles code") == "whatsapp-hub business set-token b103"
    browser.open("/console/businesses?state=attention")
    browser.until_text("Held", "tbody .badge")
    assert len(browser.all("tbody tr")) == 1


def test_business_is_found_paused_and_resumed(site: Site, browser: Browser) -> None:
    log_in(browser, site, "/console/businesses")
    browser.until(lambda: len(browser.all("tbody tr")) == 3, "three businesses")
    browser.type("#words", "B102")
    browser.until(lambda: [row.text for row in browser.all("tbody th")] == ["Business 102\nb102"], "one of them")
    browser.press("Pause", "tbody")
    browser.press("Cancel", "dialog")
    browser.until(lambda: not browser.all("dialog"), "the question is gone")
    assert browser.text("tbody .badge") == "Serving"
    browser.press("Pause", "tbody")
    browser.press("Pause", "dialog")
    browser.until_text("Off", "tbody .badge")
    browser.driver.refresh()
    browser.until_text("Off", "tbody .badge")
    browser.press("Resume", "tbody")
    browser.until_text("Serving", "tbody .badge")


def test_name_that_is_markup_is_shown_as_text(site: Site, browser: Browser) -> None:
    name = "<img src=x onerror=alert(1)><b>bold</b>"
    site.do(rename(site, "b102", name))
    log_in(browser, site, "/console/businesses")
    browser.type("#words", "onerror")
    browser.until_text(name, "tbody th")
    assert browser.all("tbody img, tbody b") == []
    assert browser.complaints() == []


def test_database_that_fails_is_said_above_the_page(site: Site, browser: Browser) -> None:
    log_in(browser, site, "/console/businesses")
    browser.find("tbody")
    site.do(fail(site, "alwaysOn"))
    try:
        browser.type("#words", "b101")
        browser.until_text("The database does not answer", "#banner")
        assert browser.find("tbody").is_displayed()
    finally:
        site.do(fail(site, "off"))
    browser.until(lambda: not any(one.is_displayed() for one in browser.all("#banner")), "the banner is gone")
    assert any("503" in words for words in browser.complaints())


async def rename(site: Site, sub_domain: str, name: str) -> None:
    await site.hub.database.businesses.update_one({"subDomain": sub_domain}, {"$set": {"name": name}})


async def fail(site: Site, mode: str) -> None:
    """Have the database refuse every read, or no more."""
    point = {"configureFailPoint": "failCommand", "mode": mode, "data": {"failCommands": ["find"], "errorCode": 50}}
    await site.hub.database.client.admin.command(point if mode != "off" else {**point, "data": {}})


def test_hub_that_has_stopped_is_said_above_the_page(mongodb_uri: str, browser: Browser) -> None:
    async def prepare(_: Any) -> None:
        """Leave the database empty."""

    with open_site(mongodb_uri, prepare) as site:
        log_in(browser, site)
        browser.until_text("All is well", "#page")
        site.do(stop(site))
        browser.until_text("The hub does not answer", "#banner")


async def stop(site: Site) -> None:
    await site.hub.stop()


def see_content(browser: Browser, path: str) -> None:
    """Wait for what a page is there for, where it is ours to know."""
    browser.find({"/console": ".tile", "/console/businesses": "tbody tr"}.get(path, "#page > *"))
