"""Somebody at the review page, in a real browser."""

from browser import Browser, until
from review_run import Page

READY = "return document.body.dataset.row && document.getElementById('tally').textContent"
TILES = "return [...document.querySelectorAll('#grid:not([hidden]) .tile')].map(t => t.ariaLabel)"
CHOOSE = """
const select = document.getElementById(arguments[0]);
select.value = arguments[1];
select.dispatchEvent(new Event("change"));
"""


class Reviewer:
    """Somebody at the page."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self.browser = browser
        self.address = page.address
        self.open()

    def open(self) -> None:
        self.browser.open(self.address)
        self.settle()

    def settle(self) -> None:
        until(lambda: self.browser.run(READY))

    @property
    def row(self) -> str:
        return str(self.browser.run("return document.body.dataset.row"))

    def text(self, selector: str) -> str:
        return str(self.browser.find(selector).text)

    def press(self, key: str) -> None:
        """Press a key that moves on to another sample, and wait for that."""
        before = self.row
        self.browser.press(key)
        until(lambda: self.row != before)

    def press_shift(self, key: str) -> None:
        """Press a key together with Shift."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        sent = getattr(Keys, key, key.lower())
        chain = ActionChains(self.browser.driver).key_down(Keys.SHIFT).send_keys(sent)
        chain.key_up(Keys.SHIFT).perform()
