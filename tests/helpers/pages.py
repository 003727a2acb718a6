"""What the tests do with the gateway's page in a browser. Imports playwright, so import this where that is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect

from helpers.patient import PATIENCE

LOADED = "The model is loaded"
WAIT = 1000 * PATIENCE
"""Milliseconds for what a browser does: a guard, as a busy machine may take long."""
expect.set_options(timeout=WAIT)


@contextmanager
def opened(browser: Browser, url: str, refusals: int = 0, **context: Any) -> Iterator[tuple[Page, list[Any]]]:
    """The page and its requests so far; at the end, nothing went elsewhere and the console shows no other error.

    `refusals` is how many answers with an error status are expected, which browsers report there.
    """
    own = browser.new_context(**context)
    own.set_default_timeout(WAIT)
    page = own.new_page()
    requests: list[Any] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108  Playwright marks the function
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(url)
    yield page, requests
    own.close()
    elsewhere = [r.url for r in requests if not r.url.startswith((url, f"blob:{url}", "data:"))]
    assert not elsewhere
    refused = [error for error in errors if error.startswith("Failed to load resource")]
    assert len(refused) == refusals and len(errors) == refusals, errors


def answers(page: Page, count: int) -> dict[str, dict[str, float]]:
    """Probabilities by photo and label, once all are there."""
    expect(page.locator("#results h2")).to_have_count(count, timeout=WAIT)
    found = {}
    for card in page.locator("#results > li").all():
        name = (card.locator(".name").text_content() or "").split(" · ")[0]
        values = [float(value.get_attribute("value") or "nan") for value in card.locator("data").all()]
        found[name] = dict(zip(card.locator("dt").all_text_contents(), values, strict=True))
    return found


def choose_device(page: Page) -> None:
    page.get_by_label("On this device").check()
    expect(page.locator("#engine")).to_contain_text(LOADED, timeout=WAIT)
