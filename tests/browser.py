"""Pages as a user sees them: headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

DESKTOP = (1280, 900)
PHONE = (390, 844)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield opened
        opened.close()


@contextmanager
def visit(browser: Browser, path: Path, *, size: tuple[int, int] = DESKTOP, dark: bool = False) -> Iterator[Page]:
    """Open a page from the disk. In the end it must have asked for nothing else, and had no error and no dialog.

    Args:
        browser: the browser.
        path: of the page.
        size: of the window, width and height (CSS pixels).
        dark: whether the user prefers dark pages.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(path.resolve().as_uri())
    try:
        yield page
    finally:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.resolve().as_uri()]
