"""A real Chromium, for tests of what labelfix shows in one. Tests skip where there is none."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own does not work as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)
PATIENCE = 30.0


def until(what: Callable[[], object]) -> None:
    """Wait for something to become true, as a page answers in its own time; fail if it never is."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Browser:
    """A window of Chromium.

    Args:
        driver: Selenium's, with the logs ``browser`` and ``performance`` switched on.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, where: str | Path) -> None:
        """Open an address or a file, and forget what was said and asked before."""
        self.console()
        self.requests()
        self.driver.get(where.as_uri() if isinstance(where, Path) else where)
        # the page of before may still stand when the driver returns, on a machine with much to do
        whole = "return document.readyState === 'complete' && document.body.childElementCount > 0"
        until(lambda: self.run(whole))

    def run(self, script: str, *arguments: object) -> Any:
        """Return what JavaScript in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """Return the first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[Any]:
        """Return every element of a CSS selector, hidden ones too."""
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def shown(self, selector: str) -> list[Any]:
        """Return the elements of a CSS selector that are not hidden."""
        return [element for element in self.find_all(selector) if element.is_displayed()]

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is; names such as ``TAB`` are those of `Keys`."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            ActionChains(self.driver).send_keys(getattr(Keys, key, key)).perform()

    def console(self) -> list[str]:
        """Return the warnings and errors of the console since the last call."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in {"WARNING", "SEVERE"}
        ]

    def requests(self) -> list[str]:
        """Return the addresses asked for since the last call; data in the page are none."""
        messages = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        events = [message["message"] for message in messages]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]

    def prefer(self, scheme: str) -> None:
        """Let the system prefer ``light`` or ``dark``; "" is neither."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # a test waits for no scrolling
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int, height: int) -> None:
        """Make the page so many pixels wide and high."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def forget(self) -> None:
        """Go back to an empty page, the system's colors and the first size."""
        self.prefer("")
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        everything = {"origin": "*", "storageTypes": "all"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
        self.driver.get("about:blank")
        self.console()
        self.requests()


def _find(names: Sequence[str]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of a process; `browser` hands it out clean."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = _find(PROGRAMS), _find(["chromedriver"])
    if program is None or driver is None:
        pytest.skip("no Chromium with its chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    started.set_page_load_timeout(60)
    yield Browser(started)
    started.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A Chromium that remembers nothing of the test before."""
    chromium.forget()
    return chromium
