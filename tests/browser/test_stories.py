"""An operator's walks through single messages: a conversation's steps, a dead letter that is retried, a search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import PHONE, Browser
from tests.browser.site import IN_BROWSER, Site, log_in, open_site
from tests.hub import business
from tests.leaks import LEAKS
from whatsapp_hub.demo.faults import Fault

pytestmark = IN_BROWSER

CUSTOMER = LEAKS.seed("491704443332")
WORDS = LEAKS.seed("Do you deliver on Sundays?")


@pytest.fixture(scope="module")
def site(mongodb_uri: str) -> Iterator[Site]:
    async def prepare(database: Any) -> None:
        await database.businesses.insert_many([business(number) for number in ("101", "102")])

    with open_site(mongodb_uri, prepare) as site:
        site.do(site.hub.say("101", WORDS, "wamid.answered", sender=CUSTOMER))
        site.do(site.hub.at_rest())
        yield site


def bury(site: Site, wamid: str) -> str:
    """Have a message become a dead letter; return its id."""
    site.hub.graph.control.faults.arm(Fault(code=131026, times=1))
    site.do(site.hub.say("102", WORDS, wamid, sender=CUSTOMER))
    site.do(site.hub.row_where("102", wamid, state="dead"))
    return f"102:{wamid}"


def test_conversation_leads_to_the_steps_of_its_message(site: Site, browser: Browser) -> None:
    log_in(browser, site, "/console/conversations")
    browser.until_text("b101", "tbody td")
    browser.click("tbody a")
    browser.until(lambda: browser.path().startswith("/console/conversations/"))
    assert CUSTOMER not in browser.driver.current_url
    browser.click(".chat a")
    browser.until_text("accepted by WhatsApp", ".steps")
    steps = [step.text for step in browser.all(".steps li.hub")]
    assert [words for step in steps for words in step.splitlines() if words[0].isupper()][:3] == [
        "Received",
        "Stored, and confirmed to Meta",
        "Its turn began",
    ]
    assert all(" ms" in step or " s" in step for step in steps), steps
    assert len([step for step in browser.all(".steps li.hub time") if step.text.count(":") == 2]) == len(steps)
    assert browser.text("nav a[aria-current]") == "Conversations"


def test_words_and_number_are_shown_when_asked_for(site: Site, browser: Browser) -> None:
    log_in(browser, site, "/console/conversations")
    browser.click("tbody a")
    browser.find(".chat li")
    assert WORDS not in browser.driver.page_source
    assert CUSTOMER not in browser.driver.page_source
    browser.press("Show what was said")
    browser.until_text(WORDS, ".bubble.asked")
    browser.until_text(WORDS, ".bubble.answered")
    browser.press("Show number")
    browser.until_text(f"+{CUSTOMER}")
    browser.open(browser.path())
    browser.find(".chat li")
    assert WORDS not in browser.driver.page_source, "shown on that page only"


def test_dead_letter_is_retried_from_the_list_and_arrives(site: Site, browser: Browser) -> None:
    letter = bury(site, "wamid.retried")
    sent = len(site.hub.graph.log.accepted)
    log_in(browser, site, "/console/dead-letters")
    browser.until_text("131026", "tbody th")
    browser.click(f"button[aria-label='Retry {letter}']")
    browser.until(lambda: len(site.hub.graph.log.accepted) > sent, "the answer")
    browser.until(
        lambda: any(word in browser.text(".followed .badge") for word in ("accepted", "sent", "delivered", "read"))
    )
    browser.until_text("No dead letters")
    assert site.hub.texts[-1] == WORDS


def test_several_are_discarded_once_that_is_confirmed(site: Site, browser: Browser) -> None:
    for n in range(2):
        bury(site, f"wamid.discarded.{n}")
    log_in(browser, site, "/console/dead-letters")
    browser.click("#choose-all")
    browser.until_text("2 dead letters chosen", "#chosen")
    browser.click("#discard")
    browser.until_text("2 messages will get no answer", "dialog")
    browser.find("dialog").send_keys(Keys.ESCAPE)
    browser.until(lambda: not browser.all("dialog"))
    assert len(browser.all("tbody tr")) == 2, "kept"
    browser.click("#discard")
    browser.press("Discard", "dialog")
    browser.until_text("No dead letters")
    row = site.do(site.hub.row("102", "wamid.discarded.1"))
    assert row["outcome"] == "discarded"


def test_message_page_goes_on_live_after_a_retry(site: Site, browser: Browser) -> None:
    letter = bury(site, "wamid.live")
    log_in(browser, site)
    browser.open(f"/console/messages/{letter}")
    browser.until_text("It was not answered", "h2")
    browser.press("Retry")
    browser.until_text("Put back by an operator", ".steps")
    browser.until_text("accepted by WhatsApp", ".steps")
    browser.until(lambda: not browser.all("#todo"), "nothing left to do")


def test_search_box_finds_a_customer_and_keeps_the_number_out_of_the_address(site: Site, browser: Browser) -> None:
    log_in(browser, site)
    browser.type("#find input", f"+{CUSTOMER}")
    browser.find("#find input").send_keys(Keys.ENTER)
    browser.until(lambda: browser.path() == "/console/search")
    browser.until_text("b101", "tbody td")
    assert CUSTOMER not in browser.driver.current_url
    browser.type("#query", "wamid.answered")
    browser.press("Find")
    browser.until_text("101:wamid.answered", "tbody th")
    browser.type("#query", "wamid.nobody")
    browser.press("Find")
    browser.until_text("Nothing was found")
    assert [url for url in browser.asked_for() if CUSTOMER in url] == []


def test_link_that_leads_nowhere_says_so(site: Site, browser: Browser) -> None:
    log_in(browser, site)
    browser.open("/console/messages/101:wamid.nobody")
    browser.until_text("There is no message with this id", "#banner")


def test_login_leads_back_to_a_message(site: Site, browser: Browser) -> None:
    log_in(browser, site, "/console/messages/101%3Awamid.answered")
    browser.until_text("Received", ".steps")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, (1280, 900)], ids=["phone", "desktop"])
def test_pages_are_whole_for_everybody(site: Site, browser: Browser, size: tuple[int, int], *, dark: bool) -> None:
    letter = bury(site, f"wamid.{size[0]}.{dark}")
    log_in(browser, site, "/console/conversations")
    browser.size(*size)
    browser.dark(on=dark)
    browser.open("/console/conversations")
    conversation = browser.find("tbody a").get_attribute("href")
    assert conversation
    pages = ["/console/conversations", conversation.removeprefix(site.url), f"/console/messages/{letter}"]
    pages += ["/console/messages/101:wamid.answered", "/console/dead-letters", "/console/search"]
    for page in pages:
        browser.open(page)
        browser.find("tbody, .steps li, .chat li, #query")
        assert browser.faults() == [], page
        assert not browser.scrolls_sideways(), page
    assert browser.complaints() == []
    assert [url for url in browser.asked_for() if not url.startswith(f"{site.url}/")] == []
