"""What a message may do to its reader even if the server's sanitiser let everything through.

The answers of the server are changed on their way to the browser: the frame has to hold alone.
"""

from __future__ import annotations

import json
import uuid

import pytest
from playwright.sync_api import FrameLocator, Page, Route, expect

from tests.web.conftest import Demo, sign_in

HOSTILE = """
<p id="shown">A harmless sentence.</p>
<script>parent.document.title = 'taken'; top.document.body.remove()</script>
<img src="x" onerror="parent.document.title = 'taken'">
<svg onload="parent.document.title = 'taken'"></svg>
<a id="script" href="javascript:parent.document.title='taken'">click</a>
<a id="link" href="https://elsewhere.test/page">a link</a>
<form action="https://elsewhere.test/"><input name="a"><button id="submit">go</button></form>
<iframe src="https://elsewhere.test/frame"></iframe>
<object data="https://elsewhere.test/object"></object>
<base href="https://elsewhere.test/">
<meta http-equiv="refresh" content="0;url=https://elsewhere.test/refresh">
<link rel="stylesheet" href="https://elsewhere.test/style.css">
<img src="https://elsewhere.test/pixel.png" srcset="https://elsewhere.test/large.png 2x">
<div style="background: url(https://elsewhere.test/background.png)">text</div>
<style>@import url(https://elsewhere.test/import.css);
body { background: url(https://elsewhere.test/body.png) }</style>
</style></body></html><script>parent.document.title = 'taken'</script>
"""


# In the page itself: an answer that Playwright fetches for us is disposed of when the page that
# asked for it goes on meanwhile.
POISON = """
const fetched = window.fetch;
window.fetch = async (resource, options) => {
  const response = await fetched(resource, options);
  if (!String(resource.url ?? resource).endsWith('/jmap/api')) return response;
  const answer = await response.json();
  for (const [name, result] of answer.methodResponses ?? [])
    for (const email of name === 'Email/get' ? result.list ?? [] : [])
      if (email.bodyValues) email.safeHtml = { html: %s, blockedRemote: 0 };
  return new Response(JSON.stringify(answer), response);
};
"""


@pytest.fixture
def reached() -> list[str]:
    """Addresses of another host that the browser really asked for."""
    return []


@pytest.fixture
def frame(page: Page, demo: Demo, reached: list[str]) -> FrameLocator:
    """The frame of an open message whose HTML nobody has cleaned."""

    def note(route: Route) -> None:
        reached.append(route.request.url)
        route.abort()

    page.context.route("https://elsewhere.test/**", note)
    page.add_init_script(POISON % json.dumps(HOSTILE))
    page.reload()
    subject = f"Trojan horse {uuid.uuid4().hex[:8]}"
    demo.deliver(subject, "Text.")
    sign_in(page)
    page.get_by_text(subject).first.click()
    frame = page.frame_locator("iframe[title='Message text']")
    expect(frame.locator("#shown")).to_be_visible()
    return frame


def test_no_script_or_form_of_a_message_does_anything(page: Page, frame: FrameLocator) -> None:
    frame.locator("#script").click()
    frame.locator("#submit").click()
    page.wait_for_timeout(500)
    assert "taken" not in page.title()
    assert len(page.context.pages) == 1
    expect(page.get_by_role("toolbar", name="Conversation")).to_be_visible()


def test_reading_a_message_asks_no_other_host(
    page: Page, frame: FrameLocator, reached: list[str]
) -> None:
    expect(frame.locator("#link")).to_be_visible()
    page.wait_for_timeout(800)
    assert reached == []


def test_a_link_opens_a_page_that_knows_nothing_of_its_opener(
    page: Page, frame: FrameLocator, reached: list[str]
) -> None:
    with page.context.expect_page() as opened:
        frame.locator("#link").click()
    assert opened.value.evaluate("window.opener") is None
    assert reached == ["https://elsewhere.test/page"]


def test_the_frame_of_a_message_has_neither_scripts_nor_our_origin(
    page: Page, frame: FrameLocator
) -> None:
    expect(frame.locator("#shown")).to_be_visible()
    flags = (page.locator("iframe[title='Message text']").get_attribute("sandbox") or "").split()
    assert set(flags) == {"allow-popups", "allow-popups-to-escape-sandbox"}
    # What is measured in its place may be read by us, and can do nothing else.
    assert page.locator("iframe[inert]").get_attribute("sandbox") == "allow-same-origin"
