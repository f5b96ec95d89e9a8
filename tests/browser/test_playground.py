"""The playground as people see it: the real demo, in Chromium, with what it lets them break."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.browser import PHONE, Browser
from tests.browser.site import IN_BROWSER

pytestmark = IN_BROWSER

STEPS: Final = ("signature", "stored", "acked", "turn", "assistant", "decided", "sent", "delivered", "read")
DEMO: Final = (sys.executable, "-m", "whatsapp_hub", "demo", "--port", "0", "--no-browser")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the playground of a demo is, which is stopped afterwards."""
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(DEMO, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    with process:
        try:
            yield next(found[1] for line in process.stdout if (found := re.match(r"Playground: +(\S+)/ ", line)))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    said = (folder / "log").read_text()
    assert not [words for words in ("Traceback", "Is anybody there", "Do you survive") if words in said]


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and what a person does there."""

    browser: Browser

    def write(self, text: str) -> WebElement:
        """Write something and return its bubble."""
        self.browser.type("#text", text)
        self.browser.click("#composer button")
        return self.bubble("mine", text)

    def bubble(self, whose: str, text: str) -> WebElement:
        """Wait for the bubble that says something; of the replies that it is said in."""
        return self.browser.until(lambda: next(iter(self.bubbles(whose, text)), None), f"{text!r} in a bubble")

    def bubbles(self, whose: str, text: str) -> list[WebElement]:
        """Return the bubbles that say something."""
        return [one for one in self.browser.all(f".{whose}") if text in one.text]

    def ticks(self, bubble: WebElement) -> str:
        """Return how far its ticks are."""
        return bubble.find_element("css selector", ".ticks").get_attribute("data-rank") or ""

    def until_ticks(self, bubble: WebElement, rank: str) -> None:
        """Wait until its ticks are so far."""
        self.browser.until(lambda: self.ticks(bubble) == rank, f"ticks {rank}")

    def sum(self, name: str) -> int:
        """Return one of the sums."""
        return int(self.browser.text(f"[data-sum={name}] dd"))

    def until_all_answered(self) -> None:
        """Wait until everything that was written is answered; nothing may be lost, or answered twice."""
        self.browser.until(lambda: self.sum("answered") == self.sum("written"), "all answered")
        assert (self.sum("acknowledged"), self.sum("lost"), self.sum("twice")) == (self.sum("written"), 0, 0)

    def choose(self, graph: str) -> None:
        """Have Graph answer like that."""
        self.browser.click(f"#graph input[value={graph}]")
        self.browser.until(lambda: self.browser.find("body").get_attribute("data-graph") == graph, graph)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page of a demo in which everything works."""
    browser.visit(url, "/")
    opened = Page(browser)
    browser.until(lambda: browser.all("[data-sum=written] dd"), "the first news")
    opened.choose("works")
    yield opened
    opened.choose("works")
    assert browser.complaints() == []
    assert {address[: len(url)] for address in browser.asked_for()} == {url}


def test_typed_message_is_answered_with_ticks_that_turn(page: Page) -> None:
    bubble = page.write("Is anybody there?")
    page.until_ticks(bubble, "read")
    page.until_ticks(page.bubble("theirs", "Noted: Is anybody there?"), "read")
    page.browser.until(lambda: len(page.browser.all("#way [data-state=done]")) == len(STEPS), "the whole way")
    assert [row.get_attribute("data-step") for row in page.browser.all("#way li")] == list(STEPS)
    assert all(re.fullmatch(r"[\d.]+ m?s", one.text) for one in page.browser.all("#way .took"))
    page.until_all_answered()


def test_button_of_a_reply_can_be_pressed(page: Page) -> None:
    page.browser.click("#tab-dentist")
    page.browser.press("Is Friday at half past nine still free?")
    page.browser.press("Book it")
    page.bubble("theirs", "Booked: Friday, half past nine.")


def test_five_fast_messages_are_answered_in_one(page: Page) -> None:
    page.browser.click("#tab-bikes")
    page.browser.press("5 fast")
    page.bubble("theirs", "and now I am done")
    page.until_all_answered()
    assert len(page.bubbles("theirs", "and now I am done")) == 1
    assert len(page.browser.all(".theirs:not(.typing)")) < 5


def test_picture_and_voice_note_are_answered(page: Page) -> None:
    page.browser.press("Picture")
    page.bubble("theirs", "What a sight!")
    page.browser.press("Voice note")
    page.bubble("theirs", "I have listened. You said: Do you still have sourdough today?")


def test_forged_message_is_refused(page: Page) -> None:
    written = page.sum("written")
    page.browser.press("Forged")
    page.until_ticks(page.bubble("mine", "I am not from Meta"), "refused")
    assert page.sum("written") == written


@pytest.mark.parametrize("fault", ["down", "token"])
def test_nothing_is_lost_while_graph_fails(page: Page, fault: str) -> None:
    page.choose(fault)
    bubble = page.write(f"Written while Graph: {fault}")
    page.browser.until(lambda: "waits" in bubble.text, "a reason why it waits")
    assert not page.bubbles("theirs", f"Graph: {fault}")
    page.choose("works")
    page.bubble("theirs", f"Noted: Written while Graph: {fault}")
    page.until_all_answered()


def test_reply_that_is_refused_for_good_is_a_dead_letter_and_can_be_retried(page: Page) -> None:
    page.choose("undeliverable")
    page.write("Will this arrive?")
    page.browser.until_text("131026", "#dead-list")
    page.browser.press("Retry", within="#dead-list")
    page.bubble("theirs", "Noted: Will this arrive?")
    page.until_all_answered()
    page.browser.until(
        lambda: not page.browser.find("main").find_element("id", "dead").is_displayed(), "no dead letter"
    )


def test_message_under_way_when_the_process_is_killed_is_answered_once(page: Page) -> None:
    process = page.browser.text("#hub-words")
    page.browser.press("Kill it while it sends")
    page.write("Do you survive this?")
    page.browser.until(lambda: page.browser.text("#hub-words") not in {process, "the hub is dead"}, "another process")
    page.until_ticks(page.bubble("theirs", "Noted: Do you survive this?"), "read")
    page.until_all_answered()
    assert len(page.bubbles("theirs", "Do you survive this?")) == 1


def test_what_is_written_while_the_hub_is_dead_or_the_database_stopped_is_answered(page: Page) -> None:
    page.browser.press("Kill the hub now")
    page.write("Nobody is there to read this")
    page.browser.press("Stop the database 5 s")
    page.write("Nobody can store this")
    page.bubble("theirs", "Nobody can store this")
    page.until_all_answered()


def test_burst_with_a_kill_in_its_middle_is_answered_to_the_last_message(page: Page) -> None:
    written = page.sum("written")
    page.browser.press("50 messages from 10 customers, then kill -9")
    page.browser.until(lambda: page.sum("written") == written + 50, "fifty messages")
    page.browser.until(lambda: page.sum("answered") == written + 50, "fifty answers", timeout_s=30)
    page.until_all_answered()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_page_can_be_used_by_everybody(page: Page, dark: bool, narrow: bool) -> None:
    page.choose("undeliverable")
    page.write("Shown on every screen")
    page.browser.until_text("131026", "#dead-list")
    if narrow:
        page.browser.size(*PHONE)
    page.browser.dark(on=dark)
    light = page.browser.driver.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", light))) < 200 if dark else sum(map(int, re.findall(r"\d+", light))) > 600
    assert not page.browser.scrolls_sideways()
    assert page.browser.faults() == []
    page.browser.press("Retry", within="#dead-list")
    page.until_all_answered()


def test_chats_are_chosen_with_the_keyboard(page: Page) -> None:
    page.browser.find("#tab-bakery").send_keys("\ue014")  # arrow right
    assert page.browser.text("#name") == "Spokes Bike Repair"
    assert page.browser.driver.switch_to.active_element.get_attribute("id") == "tab-bikes"
