"""Chromium without a window, driven through chromedriver; it keeps a record of what it asks the network for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

WAIT_S: Final = 15.0
DESKTOP: Final = (1280, 900)
PHONE: Final = (320, 640)
AXE: Final = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"

_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)
_RUN_AXE: Final = """
const done = arguments[arguments.length - 1];
const found = axe.run(document, {resultTypes: ["violations"]});
found.then((found) => done(found.violations), (error) => done(String(error)));
"""


class Browser:
    """What a person does with a browser."""

    def __init__(self, driver: Chrome) -> None:
        """Work with this one."""
        self.driver = driver
        self.origin = ""  #: of the site that is looked at
        self._asked: list[str] = []

    def visit(self, origin: str, path: str) -> None:
        """Go to a page of another site than before."""
        self.asked_for()
        self.origin, self._asked = origin, []
        self.open(path)

    def open(self, path: str) -> None:
        """Go to a page of the site."""
        self.driver.get(self.origin + path)

    def path(self) -> str:
        """Return where the browser is."""
        return urlsplit(self.driver.current_url).path

    def find(self, selector: str) -> WebElement:
        """Wait until something is there that can be seen, and return it."""
        return self.until(lambda: next((one for one in self.all(selector) if one.is_displayed()), None), selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return what is there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the text of what can be seen."""
        return self.find(selector).text

    def click(self, selector: str) -> None:
        """Press a button or follow a link."""
        self.find(selector).click()

    def press(self, words: str, within: str = "body") -> None:
        """Press the button with these words."""

        def find() -> WebElement | None:
            buttons = self.all(f"{within} button")
            return next((one for one in buttons if one.text == words and one.is_displayed() and one.is_enabled()), None)

        self.until(find, f"button {words!r}").click()

    def type(self, selector: str, text: str) -> None:
        """Write into a field, in place of what is there."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def keys(self, *keys: str) -> None:
        """Type where the focus is."""
        self.focused().send_keys(*keys)

    def focused(self) -> WebElement:
        """Return what the keyboard acts on."""
        return self.driver.switch_to.active_element

    def until(self, condition: Callable[[], T | None], what: str = "", timeout_s: float = WAIT_S) -> T:
        """Wait until the condition returns something true, and return that."""
        waiting = WebDriverWait(self.driver, timeout_s, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: condition(), f"waited for: {what or condition}")  # type: ignore[return-value]

    def until_text(self, words: str, selector: str = "body") -> None:
        """Wait until these words stand there."""
        self.until(lambda: any(words in one.text for one in self.all(selector)), f"{words!r} in {selector}")

    def size(self, width: int, height: int) -> None:
        """Give the page this much room; a window cannot be as narrow as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._tell("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, *, on: bool) -> None:
        """Ask pages for their dark or their light form; without motion, so that it is there at once."""
        wanted = {"prefers-color-scheme": "dark" if on else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self._tell("Emulation.setEmulatedMedia", {"features": features})

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        width = "document.documentElement"
        found: bool = self.driver.execute_script(f"return {width}.scrollWidth > {width}.clientWidth")
        return found

    def faults(self) -> list[str]:
        """Return what axe finds on this page that hinders people seriously."""
        if not AXE.is_file():
            pytest.fail("axe-core is missing: run `npm ci` in tests/browser (Debian's package npm); `make test` does")
        self.driver.execute_script(AXE.read_text("utf-8"))
        found = self.driver.execute_async_script(_RUN_AXE)
        assert isinstance(found, list), found
        return [
            f"{fault['id']} ({fault['impact']}): {fault['help']}: {[node['html'][:160] for node in fault['nodes'][:3]]}"
            for fault in found
            if fault["impact"] in {"serious", "critical"}
        ]

    def asked_for(self) -> list[str]:
        """Return the URLs that pages had the browser ask the network for, since the site was first visited."""
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in {"Network.requestWillBeSent", "Network.webSocketCreated"}:
                parameters = message["params"]
                self._asked.append(parameters.get("url") or parameters["request"]["url"])
        return [url for url in self._asked if not url.startswith(("data:", "chrome:", "about:"))]

    def complaints(self) -> list[str]:
        """Return what pages wrote into the browser's log since the last call: errors, and what the policy refused."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def picture(self, path: Path) -> None:
        """Write down what can be seen."""
        self.driver.save_screenshot(str(path))

    def _log(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]
        return found

    def _tell(self, command: str, parameters: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(command, parameters)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it afterwards."""
    program, driver = _find("chromium", "chromium-browser", "google-chrome"), _find("chromedriver")
    with TemporaryDirectory(prefix="hub-chromium-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = program
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}", "--window-size={},{}".format(*DESKTOP)):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        chrome = Chrome(options=options, service=Service(executable_path=driver))
        try:
            yield Browser(chrome)
        finally:
            chrome.quit()


def _find(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("the pages are tested in Chromium: apt install chromium chromium-driver")
    return found
