"""Drafts and sending: nothing written is lost, nothing is there twice."""

from __future__ import annotations

import uuid
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.web.conftest import LOGIN, Demo, keep_screenshot, sign_in


def find_by_subject(demo: Demo, subject: str) -> list[dict[str, Any]]:
    """All emails of this subject, wherever they lie."""
    found = demo.call("Email/query", {"filter": {"subject": subject}})
    return list(demo.call("Email/get", {"ids": found["ids"]})["list"])


def find_mailbox(demo: Demo, role: str) -> str:
    mailboxes = demo.call("Mailbox/get", {"ids": None})["list"]
    return next(str(mailbox["id"]) for mailbox in mailboxes if mailbox["role"] == role)


def write(page: Page, subject: str, text: str) -> Locator:
    """A new message to oneself, not sent yet."""
    page.get_by_role("button", name="New message").first.click()
    panel = page.get_by_role("dialog", name="New message")
    panel.get_by_label("To", exact=True).fill(f"{LOGIN},")
    panel.get_by_placeholder("Subject").fill(subject)
    panel.get_by_role("textbox", name="Message").click()
    page.keyboard.type(text)
    return panel


def test_a_draft_saved_many_times_is_one_draft_and_opens_as_it_was(page: Page, demo: Demo) -> None:
    sign_in(page)
    subject = f"Unfinished {uuid.uuid4().hex[:8]}"
    panel = write(page, subject, "One.")
    for word in ("Two.", "Three."):
        expect(panel.get_by_text("Draft saved")).to_be_visible()
        panel.get_by_role("textbox", name="Message").click()
        page.keyboard.press("End")
        page.keyboard.type(" " + word)
    page.keyboard.press("Escape")
    expect(panel).not_to_be_visible()
    [draft] = find_by_subject(demo, subject)
    assert draft["mailboxIds"] == {find_mailbox(demo, "drafts"): True}
    page.get_by_role("navigation").get_by_role("link", name="Drafts").click()
    page.get_by_text(subject).first.click()
    again = page.get_by_role("dialog", name="Draft")
    expect(again.get_by_role("textbox", name="Message")).to_have_text("One. Two. Three.")
    again.get_by_role("button", name="Delete this draft").click()
    expect(page.get_by_text("Draft deleted")).to_be_visible()
    assert find_by_subject(demo, subject) == []


def test_a_sent_message_can_be_called_back_with_its_words(page: Page, demo: Demo) -> None:
    sign_in(page)
    subject = f"Too soon {uuid.uuid4().hex[:8]}"
    write(page, subject, "I take this back.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Message sent")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    panel = page.get_by_role("dialog")
    expect(panel.get_by_role("textbox", name="Message")).to_have_text("I take this back.")
    [email] = find_by_subject(demo, subject)
    assert email["mailboxIds"] == {find_mailbox(demo, "drafts"): True}
    assert email["keywords"].get("$draft")
    panel.get_by_role("button", name="Delete this draft").click()


def test_an_answer_quotes_threads_and_marks_what_it_answers(page: Page, demo: Demo) -> None:
    sign_in(page)
    subject = f"Question {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "Is the tide in?")
    page.get_by_text(subject).first.click()
    expect(page.get_by_role("main").get_by_text("Is the tide in?").last).to_be_visible()
    page.keyboard.press("r")
    panel = page.get_by_role("dialog", name="Reply")
    expect(panel.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.type("It is.")
    keep_screenshot(page, "reply")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Message sent")).to_be_visible()
    frames = page.frame_locator("iframe[title='Message text']")
    expect(frames.get_by_text("It is.")).to_be_visible()
    emails = {email["from"][0]["email"]: email for email in find_by_subject(demo, subject)}
    question, answer = emails["nora@field.test"], emails[LOGIN]
    assert answer["threadId"] == question["threadId"]
    assert answer["inReplyTo"] == question["messageId"]
    assert answer["mailboxIds"] == {find_mailbox(demo, "sent"): True}
    assert "$draft" not in answer["keywords"]
    values = demo.call(
        "Email/get",
        {"ids": [answer["id"]], "properties": ["bodyValues"], "fetchTextBodyValues": True},
    )["list"][0]["bodyValues"]
    [text] = [value["value"] for value in values.values()]
    assert text.startswith("It is.")
    assert "> Is the tide in?" in text
    page.wait_for_timeout(500)
    [marked] = demo.call("Email/get", {"ids": [question["id"]]})["list"]
    assert marked["keywords"].get("$answered")


def test_a_file_goes_along(page: Page, demo: Demo) -> None:
    sign_in(page)
    subject = f"Enclosed {uuid.uuid4().hex[:8]}"
    panel = write(page, subject, "See the file.")
    file = FilePayload(name="Tideräkning.txt", mimeType="text/plain", buffer=b"high 12:04")
    panel.locator("input[type=file]").set_input_files([file])
    expect(panel.get_by_text("10 bytes")).to_be_visible()
    expect(panel.get_by_text("Draft saved")).to_be_visible()
    [draft] = find_by_subject(demo, subject)
    [part] = draft["attachments"]
    assert (part["name"], part["size"]) == ("Tideräkning.txt", 10)
    panel.get_by_role("button", name="Delete this draft").click()
