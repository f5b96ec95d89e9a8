#!/usr/bin/env python3
"""Take the README's screenshots: run the demo, use its pages in Chromium, and keep what is seen, twice as fine.

From the project's root: ``.venv/bin/python docs/pictures/make_screenshots.py``; three minutes. Needs ``chromium``
and ``chromedriver``.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURES: Final = Path(__file__).parent
#: The playground's and the console's lines of the demo's welcome.
PLAYGROUND: Final = re.compile(r"Playground:\s+(\S+)")
CONSOLE: Final = re.compile(r"Console:\s+(\S+)\s+.* (\S+)$")
STARTED: Final = "Stop: "
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en",
)
WIDE: Final = {"width": 1280, "height": 930, "deviceScaleFactor": 2, "mobile": False}
LOW: Final = WIDE | {"height": 880}
PHONE: Final = {"width": 390, "height": 812, "deviceScaleFactor": 2, "mobile": True}
WAIT_S: Final = 60.0
#: On the playground: more than the burst was written, and all of it answered.
ALL_ANSWERED: Final = """(() => {
    const [written, , answered] = [...document.querySelectorAll("#sums dd")].map((shown) => Number(shown.textContent));
    return written > 50 && written === answered;
})()"""
#: How long the console's charts are given something to show.
TRAFFIC_S: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the pages of a demo are."""

    playground: str
    console: str
    token: str


@contextmanager
def demo() -> Iterator[Addresses]:
    """Run the demo and tell where its pages are."""
    command = [sys.executable, "-m", "whatsapp_hub", "demo", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            welcome: list[str] = []
            for line in process.stdout or ():
                welcome.append(re.sub(r"\x1b\[[\d;]*m", "", line.rstrip()))
                if line.startswith(STARTED):
                    break
            yield read_welcome("\n".join(welcome))
        finally:
            process.terminate()


def read_welcome(text: str) -> Addresses:
    """Find the addresses in what the demo prints."""
    playground, console = PLAYGROUND.search(text), re.search(CONSOLE.pattern, text, re.MULTILINE)
    if playground is None or console is None:
        raise SystemExit(f"the demo names no playground or console:\n{text}")
    return Addresses(playground=playground[1], console=console[1], token=console[2])


class Camera:
    """Chromium, at the size and the fineness of a picture."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        """Take the browser."""
        self.driver = driver

    def open(self, url: str, screen: Mapping[str, object]) -> None:
        """Open a page on such a screen, in the light."""
        self._tell("Emulation.setDeviceMetricsOverride", screen)
        light = [
            {"name": "prefers-color-scheme", "value": "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._tell("Emulation.setEmulatedMedia", {"features": light})
        self.driver.get(url)

    def take(self, name: str) -> None:
        """Save what is on the screen."""
        shot = self._tell("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
        (PICTURES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def click(self, selector: str) -> None:
        """Press a button once it is there."""
        self.wait(f"document.querySelector({selector!r})")
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    @contextmanager
    def other_window(self, url: str) -> Iterator[None]:
        """Open a page beside the one that is taken, and come back to that."""
        taken = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        self.driver.get(url)
        yield
        self.driver.close()
        self.driver.switch_to.window(taken)

    def press(self, words: str) -> None:
        """Press the last button that says this."""
        buttons = self.driver.find_elements(By.XPATH, f"//button[normalize-space()={words!r}]")
        buttons[-1].click()

    def wait(self, condition: str) -> None:
        """Wait until a condition, in the page's own language, holds."""
        WebDriverWait(self.driver, WAIT_S).until(lambda driver: driver.execute_script(f"return !!({condition})"))

    def write(self, text: str, selector: str = "#text") -> None:
        """Write into a field and send it off."""
        field = self.driver.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text, "\n")

    def _tell(self, command: str, values: Mapping[str, object]) -> dict[str, str]:
        answer: dict[str, str] = self.driver.execute_cdp_cmd(command, dict(values))
        return answer


@contextmanager
def camera() -> Iterator[Camera]:
    """Start Chromium with a profile of its own, and end it afterwards."""
    with TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium") or ""
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Camera(driver)
        finally:
            driver.quit()


def take_playground(shots: Camera, url: str) -> None:
    """Have a short chat, kill the process under load, and take what came of it, on a desk and on a phone."""
    shots.open(url, WIDE)
    shots.click("#ask")
    settle()
    shots.press("When do you close?")
    settle()
    shots.click("#burst")
    shots.wait(ALL_ANSWERED)
    settle()
    shots.take("playground")
    shots.open(url, PHONE)
    settle()
    shots.take("playground-phone")


def take_console(shots: Camera, addresses: Addresses) -> None:
    """Let something happen, log in, and take the overview."""
    shots.open(addresses.playground, WIDE)
    end = time.monotonic() + TRAFFIC_S
    shots.wait("document.querySelector('#crowd')")
    while time.monotonic() < end:
        shots.click("#crowd")
        settle(6)
    shots.open(addresses.console, LOW)
    shots.write(addresses.token, "#token")
    settle()
    with shots.other_window(addresses.playground):
        shots.click("#crowd")
    settle(3)
    shots.take("console")


def settle(seconds: float = 4.0) -> None:
    """Give answers and ticks the time to arrive, and the page to draw them."""
    time.sleep(seconds)


def main() -> None:
    """Take all of them."""
    with demo() as addresses, camera() as shots:
        take_playground(shots, addresses.playground)
        take_console(shots, addresses)


if __name__ == "__main__":
    main()
