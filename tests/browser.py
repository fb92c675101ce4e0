"""A real browser for the tests of the pages: Debian's Chromium, driven by playwright.

A page that writes an error to its console, breaks the content security policy or throws fails its
test. The driver keeps an event loop running in its thread: a module that uses it has no coroutines.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import (
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Page,
    TimeoutError,
    sync_playwright,
)

from tests.running import CHECKOUT

AXE: Final = CHECKOUT / "web" / "node_modules" / "axe-core" / "axe.min.js"
# It is root in CI, and asks no servers of Google's.
FLAGS: Final = (
    "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-quic",
)  # fmt: skip
PHONE: Final = {"width": 390, "height": 844}
DESKTOP: Final = {"width": 1280, "height": 800}
# Of the driver's waits for a state, met by a hang only; the machine is shared.
TIMEOUT_MS: Final = 60_000
# Told by the page itself, whatever the console shows.
WATCH_POLICY: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
HAS_TEXT: Final = (
    "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)"
)
# Chromium without a GPU reports how slow that is, at level warning; and a socket that cannot be
# opened, or a 404 that a page expects, at level error.
EXPECTED: Final = ("WebSocket connection to", "Failed to load resource")


@contextmanager
def chromium() -> Iterator[Chromium]:
    """One process for the tests of a module."""
    with sync_playwright() as driver:
        browser = launch(driver.chromium)
        try:
            yield browser
        finally:
            browser.close()


def launch(kind: BrowserType, *flags: str) -> Chromium:
    """A process with these flags, too; of one driver there may be several."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    path = os.environ.get("CHROMIUM") or next(filter(None, found), None)
    assert path, "no Chromium: `make test` installs it on Debian, elsewhere CHROMIUM=its path"
    return kind.launch(executable_path=path, args=[*FLAGS, *flags])


class Tab:
    """A page of its own, with its own storage; `errors` is what it complained of.

    `within`: a further one of that context, as a person opens several.
    """

    def __init__(
        self, browser: Chromium, within: BrowserContext | None = None, **options: Any
    ) -> None:
        self.context: BrowserContext = within or browser.new_context(
            **{"viewport": PHONE, "locale": "en-GB", **options}
        )
        if within is None:
            self.context.set_default_timeout(TIMEOUT_MS)
            self.context.add_init_script(WATCH_POLICY)
        self.errors: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(f"thrown: {error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            self.errors.append(message.text)

    def wait(self, condition: str, argument: Any = None) -> Any:
        """Until a JavaScript function gives true; an expression would need 'unsafe-eval'."""
        return self.page.wait_for_function(condition, arg=argument).json_value()

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def wait_text(self, selector: str, text: str) -> None:
        """Until an element contains this."""
        try:
            self.wait(HAS_TEXT, [selector, text])
        except TimeoutError as error:
            told = self.page.locator(selector).all_text_contents()
            raise AssertionError(f"{selector} says {told}, not {text!r}") from error


@contextmanager
def tab(browser: Chromium, **options: Any) -> Iterator[Tab]:
    """Closed at the end; fails if the page complained."""
    opened = Tab(browser, **options)
    try:
        yield opened
        assert not opened.errors, opened.errors
    finally:
        opened.context.close()
