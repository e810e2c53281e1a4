"""The web client in a real browser, against a real server that mirrors a real provider."""

from __future__ import annotations

import uuid

from playwright.sync_api import Page, expect

from tests.web.conftest import LOGIN, Demo, keep_screenshot, sign_in


def open_inbox(page: Page) -> None:
    """Sign in and wait for the first conversation."""
    sign_in(page)
    expect(page.get_by_role("link", name="Inbox")).to_be_visible()


def test_a_wrong_password_is_said_in_words(page: Page) -> None:
    sign_in(page, "not the password")
    expect(page.get_by_role("alert")).not_to_be_empty()
    expect(page.get_by_label("Email address")).to_be_visible()


def test_mail_arrives_live_is_read_and_archived(page: Page, demo: Demo) -> None:
    open_inbox(page)
    subject = f"Lighthouse {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "The lamp is lit. Come and see.")
    row = page.get_by_text(subject).first
    expect(row).to_be_visible()
    keep_screenshot(page, "inbox")
    row.click()
    expect(page.get_by_role("heading", name=subject)).to_be_visible()
    expect(page.get_by_text("The lamp is lit.").last).to_be_visible()
    keep_screenshot(page, "conversation")

    def find() -> dict[str, object]:
        query = demo.call("Email/query", {"filter": {"subject": subject}})
        found = demo.call("Email/get", {"ids": query["ids"]})["list"]
        assert len(found) == 1
        return dict(found[0])

    page.wait_for_timeout(500)
    assert find()["keywords"] == {"$seen": True}
    page.get_by_role("toolbar", name="Conversation").get_by_role("button", name="Archive").click()
    expect(page.get_by_role("heading", name=subject)).not_to_be_visible()
    mailboxes = demo.call("Mailbox/get", {"ids": None})["list"]
    archive = next(m["id"] for m in mailboxes if m["role"] == "archive")
    page.wait_for_timeout(500)
    assert find()["mailboxIds"] == {archive: True}


def test_a_message_is_written_and_sent(page: Page, demo: Demo) -> None:
    open_inbox(page)
    subject = f"Tide table {uuid.uuid4().hex[:8]}"
    page.get_by_role("button", name="New message").click()
    panel = page.get_by_role("dialog", name="New message")
    panel.get_by_label("To", exact=True).fill(LOGIN)
    panel.get_by_label("To", exact=True).press("Enter")
    panel.get_by_placeholder("Subject").fill(subject)
    panel.get_by_role("textbox", name="Message").fill("High water at noon.")
    keep_screenshot(page, "compose")
    panel.get_by_role("button", name="Send").last.click()
    expect(panel).not_to_be_visible()
    # It went out through the provider's own server, and came back as new mail.
    expect(page.get_by_text(subject).first).to_be_visible()
    mailboxes = demo.call("Mailbox/get", {"ids": None})["list"]
    roles = {m["id"]: m["role"] for m in mailboxes}
    ids = demo.call("Email/query", {"filter": {"subject": subject}})["ids"]
    emails = demo.call("Email/get", {"ids": ids, "properties": ["mailboxIds"]})["list"]
    held = sorted(roles[id] for email in emails for id in email["mailboxIds"])
    assert held == ["inbox", "sent"]
    sent = demo.call("EmailSubmission/get", {"ids": None})["list"]
    [mine] = [submission for submission in sent if submission["emailId"] in ids]
    [status] = mine["deliveryStatus"].values()
    assert status["smtpReply"].startswith("250")


def test_search_finds_and_marks(page: Page, demo: Demo) -> None:
    open_inbox(page)
    word = f"kelp{uuid.uuid4().hex[:6]}"
    demo.deliver("What the sea left", f"There was {word} on every stone.")
    expect(page.get_by_text("What the sea left").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(word)
    page.keyboard.press("Enter")
    expect(page.get_by_text("What the sea left").first).to_be_visible()
    expect(page.locator("mark", has_text=word).first).to_be_visible()


def test_remote_images_are_blocked_until_asked_for(page: Page, demo: Demo) -> None:
    open_inbox(page)
    subject = f"Postcards {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "Look at this.", '<p>Look</p><img src="http://tracker.test/pixel.png">')
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.get_by_text(subject).first.click()
    frame = page.frame_locator("iframe").first
    expect(frame.get_by_text("Look")).to_be_visible()
    expect(page.get_by_role("button", name="Show images")).to_be_visible()
    assert not [url for url in requests if "tracker.test" in url]
    page.get_by_role("button", name="Show images").click()
    expect(page.get_by_role("button", name="Show images")).not_to_be_visible()


def test_a_phone_shows_one_pane_at_a_time(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page)
    row = page.locator("article, [role=listitem], li, a").filter(has_text="Re:").first
    expect(row).to_be_visible()
    keep_screenshot(page, "phone-list")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


def test_signing_out_forgets_the_token(page: Page) -> None:
    open_inbox(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Email address")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Email address")).to_be_visible()
