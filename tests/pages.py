"""Web pages in a browser without a window, for tests of what they show."""

import contextlib
import html.parser
import pathlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_QUIET = [
    "--disable-gpu-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """An installed Chromium; skips where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is installed")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", *_WEBGL, *_QUIET]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


def show(page: Page, path: pathlib.Path) -> None:
    """Loads a page, and waits until it has shown its first step."""
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelector('output').textContent !== ''")


@contextlib.contextmanager
def opened(
    browser: Browser,
    path: pathlib.Path,
    width: int,
    height: int,
    excused: str,
    embedded: tuple[str, ...] = (),
) -> Iterator[Page]:
    """A page in a window; fails if it asks for another file, or says something.

    Args:
        browser: what `launched` gives.
        path: file of the page.
        width: of the window, pixels.
        height: of the window.
        excused: what is said with this text does not come from us.
        embedded: how addresses begin that are inside the page.
    """
    said, asked = [], []
    page = browser.new_page(viewport={"width": width, "height": height})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    show(page, path)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith(embedded)] == [path.as_uri()]
    assert [text for text in said if excused not in text] == []


class _Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def elements(path: pathlib.Path) -> list[tuple[str, dict[str, str | None]]]:
    """Returns the elements of a page, with their attributes."""
    parser = _Elements()
    parser.feed(path.read_text("utf-8"))
    return parser.found
