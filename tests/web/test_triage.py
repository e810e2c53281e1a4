"""The list under the hands of someone in a hurry: keys, undo, a line that breaks."""

from __future__ import annotations

import uuid

from playwright.sync_api import Locator, Page, expect

from tests.web.conftest import Demo, sign_in


def read_rows(page: Page) -> Locator:
    """The conversations of the list, newest first."""
    return page.locator("li[aria-setsize]")


def deliver_and_wait(page: Page, demo: Demo, word: str) -> Locator:
    """The row of mail that has just come in; the demo's people write at the same time."""
    subject = f"{word} {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "Text.")
    row = read_rows(page).filter(has_text=subject)
    expect(row).to_be_visible()
    return row


def focus(row: Locator) -> None:
    """Take the keyboard to a row."""
    row.get_by_role("link").focus()


def test_keys_archive_and_take_it_back(page: Page, demo: Demo) -> None:
    sign_in(page)
    row = deliver_and_wait(page, demo, "Briefly here")
    focus(row)
    page.keyboard.press("e")
    expect(row).to_have_count(0)
    expect(page.get_by_text("Archived")).to_be_visible()
    page.keyboard.press("z")
    expect(row).to_be_visible()


def test_a_key_acts_on_the_mail_it_was_meant_for_although_newer_mail_came(
    page: Page, demo: Demo
) -> None:
    sign_in(page)
    older = deliver_and_wait(page, demo, "Older")
    focus(older)
    newer = deliver_and_wait(page, demo, "Newer")
    page.keyboard.press("s")
    expect(older.get_by_text("Starred")).to_have_count(1)
    expect(newer.get_by_text("Starred")).to_have_count(0)


def test_mail_that_came_while_the_network_was_down_appears_when_it_is_back(
    page: Page, demo: Demo
) -> None:
    sign_in(page)
    deliver_and_wait(page, demo, "Before")
    page.context.set_offline(True)
    subject = f"Meanwhile {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "Text.")
    page.wait_for_timeout(1_500)
    page.context.set_offline(False)
    expect(read_rows(page).filter(has_text=subject)).to_be_visible()


def test_an_act_without_network_is_taken_back_and_said(page: Page, demo: Demo) -> None:
    sign_in(page)
    row = deliver_and_wait(page, demo, "Stays")
    page.context.set_offline(True)
    focus(row)
    page.keyboard.press("e")
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    expect(row).to_be_visible()
    page.context.set_offline(False)


def test_several_are_moved_at_once(page: Page, demo: Demo) -> None:
    sign_in(page)
    rows = [deliver_and_wait(page, demo, word) for word in ("One of two", "Two of two")]
    for row in rows:
        focus(row)
        page.keyboard.press("x")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("v")
    page.keyboard.type("trav")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Moved to Travel")).to_be_visible()
    for row in rows:
        expect(row).to_have_count(0)
    page.get_by_role("navigation").get_by_role("link", name="Travel").click()
    for row in rows:
        expect(row).to_be_visible()


def test_a_long_list_is_loaded_where_it_is_looked_at(page: Page) -> None:
    sign_in(page)
    expect(read_rows(page).first).to_be_visible()
    total = int(read_rows(page).first.get_attribute("aria-setsize") or "0")
    assert total > 60, "the demo has more mail than one page"
    page.locator(".rows").evaluate("element => (element.scrollTop = element.scrollHeight)")
    expect(page.locator("li[aria-setsize] a").last).to_be_visible()
    expect(page.locator("li[aria-setsize] .skeleton")).to_have_count(0)
    assert read_rows(page).count() < 60


def test_the_address_leads_back_to_the_conversation(page: Page, demo: Demo) -> None:
    sign_in(page)
    row = deliver_and_wait(page, demo, "Bookmark")
    row.get_by_role("link").click()
    heading = page.get_by_role("heading", name="Bookmark")
    expect(heading).to_be_visible()
    page.reload()
    expect(heading).to_be_visible()
    page.go_back()
    expect(heading).not_to_be_visible()
