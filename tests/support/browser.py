"""A browser at the gateway: what a page complains about is written down."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.docs.chromium import OPTIONS, PROGRAMS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.js"
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 360, "height": 740}}
# Where pictures for the documents go, if somebody wants new ones.
PICTURES = os.environ.get("SMSFLEET_PICTURES")


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright  # many tests need no browser

    program = next(filter(None, map(shutil.which, PROGRAMS)))
    options = [each for each in OPTIONS if not each.startswith(("--headless", "--remote", "--window"))]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


class Visitor:
    """A browser window. Errors of the page and of its content policy are written down."""

    def __init__(self, page: "Page", url: str, size: str) -> None:
        self.page, self.url, self._size = page, url, size
        self.complaints: list[str] = []
        page.set_default_timeout(15_000)
        page.on("console", lambda told: told.type in {"error", "warning"} and self.complaints.append(told.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def submit(self, name: str) -> None:
        """Press a button and wait for the page it leads to."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).first.click()

    def says(self, text: str) -> None:
        """Wait until the page shows the text."""
        self.page.get_by_text(text).first.wait_for()

    def is_live(self) -> None:
        """Wait until the page is told what happens."""
        self.page.locator("body[data-stream=open]").wait_for()

    def resize(self, size: str) -> None:
        self.page.set_viewport_size(SIZES[size])

    def is_accessible(self) -> None:
        """axe finds nothing serious, in either theme, on a wide screen and on a phone's; nothing is cut off."""
        for size, theme in (("wide", "light"), ("narrow", "dark")):
            self.resize(size)
            self.page.emulate_media(color_scheme=theme)
            found = self.page.evaluate(AXE_RUN, AXE.read_text())
            assert found == [], (self.page.url, size, theme, found)
            cut = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert cut <= 0, (self.page.url, size, f"{cut} px wider than the screen")
        self.resize(self._size)
        self.page.emulate_media(color_scheme="light")

    def picture(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png")


# Evaluated by the browser's debugger, which no content policy holds back.
AXE_RUN = """async (source) => {
    if (!window.axe) (0, eval)(source);
    const result = await axe.run(document, {resultTypes: ["violations"]});
    return result.violations.filter(v => ["serious", "critical"].includes(v.impact))
        .map(v => v.id + ": " + v.nodes.map(n => n.html.slice(0, 160)).join(" | "));
}"""
