"""The page of `vlpart serve` in a real Chromium, as a test drives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: How browsers are called that run the tests of the page.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WORDS = "person: head, nose, eye, torso"


class Studio:
    """The page, and what went wrong on it."""

    def __init__(self, browser: Any, address: str, options: dict[str, Any]) -> None:
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(address)
        self.until("vlpart.state.models.length > 0")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait for something to hold on the page, and for it to be drawn."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression}; errors: {self.errors}"
            self.page.wait_for_timeout(50)
        self.page.wait_for_timeout(100)

    def find(self, words: str, side: str = "A") -> None:
        """Look for words in the photos that are there."""
        self.page.fill("#vocabulary", words)
        self.page.press("#vocabulary", "Enter")
        run = f"p.runs.{side}"
        self.until(f"vlpart.state.photos.every((p) => {run}?.status === 'done' && {run}.key.includes('{words}'))")

    def sample(self, words: str = WORDS) -> None:
        """Begin with the sample."""
        self.page.fill("#vocabulary", words)
        self.page.get_by_role("button", name="Try the sample").click()
        self.until("vlpart.state.photos[0]?.runs.A?.status === 'done'")

    def rows(self) -> list[str]:
        """What the tree says."""
        self.page.wait_for_timeout(100)
        return [row.get_attribute("aria-label") for row in self.page.locator("[role=treeitem]").all()]

    def names(self) -> list[str]:
        """The names in the tree."""
        return [row.split(",")[0] for row in self.rows()]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_timeout(100)

    def download(self, *formats: str, path: Path, photos: str = "") -> Path:
        """Download what is shown."""
        self.page.click("#open-download")
        for box in self.page.locator("[name=format]").all():
            box.set_checked(box.get_attribute("value") in formats)
        if photos:
            self.page.check(photos)
        with self.page.expect_download() as waiting:
            self.page.click("#download-now")
        target = path / waiting.value.suggested_filename
        waiting.value.save_as(target)
        return target


#: Opens a page; its arguments are those of a browser context.
Open = Callable[..., Studio]
