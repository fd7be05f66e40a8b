"""A browser that is on this machine, and pages in it that may say nothing wrong and ask nobody for anything."""

from __future__ import annotations

import shutil

import pytest

from pytest_tokenbudget.report.html import render_html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    # No longer than a module of these tests: its driver keeps an event loop running in this thread, and tests of others
    # could run none.
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("needs Chromium or Chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Show a summary, or a file: ``show(summary, *other models, **how) -> the page``."""
    contexts, faults, asked, own = [], [], [], set()

    def show(report, *elsewhere, **how):
        path = report
        if not hasattr(report, "open"):
            path = tmp_path / f"report-{len(own)}.html"
            path.write_text(render_html(report, elsewhere), encoding="utf-8")
        own.add(path.as_uri())
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert faults == []
    assert set(asked) == own
