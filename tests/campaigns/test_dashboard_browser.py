"""The dashboard in a browser: what it keeps while it refreshes itself, and that nothing breaks its content policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.events import BounceType, EventKind, TrackingEvent, now_ms
from campaigns.models import Campaign
from tests.browsing import chromium, watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 812}
NO_WIDER = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
HIDE = "Object.defineProperty(document, 'visibilityState', {get: () => %r, configurable: true})"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as opened:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's event loop runs in this thread, where Django would not query
        yield opened


@pytest.fixture
def filled() -> Campaign:
    """40 campaigns, and one with messages to which everything happened."""
    for n in range(40):
        lifecycle.create_campaign(f"Campaign {n} with a name that is long enough to wrap on a phone")
    campaign = lifecycle.create_campaign("Summer sale", tags=["vip"], metadata={"owner": "Ann"})
    made = lifecycle.create_messages(
        [{"recipient_email": f"user{n}@{'long.' * 8}example.com", "campaign_id": campaign.pk} for n in range(60)]
    )
    now = now_ms()
    apply(
        [
            TrackingEvent(kind, now - message.pk % 7 * 3_600_000, "hit", message_id=message.pk, user_agent="Agent/" + "5" * 200, url=url)
            for message in made
            for kind in (EventKind.SENT, EventKind.OPENED, EventKind.CLICKED)
            for url in ["https://example.com/" + "x" * 300 if kind is EventKind.CLICKED else None]
        ]
        + [
            TrackingEvent(EventKind.BOUNCED, now, "sendgrid", message_id=made[0].pk, bounce_type=BounceType.PERMANENT, reason="y" * 300),
        ]
    )
    return campaign


def open_page(browser: Browser, address: str, **context: Any) -> Page:
    """A page whose clock stands still until it is told to run."""
    page = browser.new_context(viewport=DESKTOP, **context).new_page()
    page.clock.install()
    page.goto(address)
    return page


def refreshed(page: Page, seconds: int = 31) -> None:
    """Let time pass and wait for the refresh that it brings."""
    with page.expect_response(lambda response: response.request.headers.get("hx-request") == "true"):
        page.clock.run_for(seconds * 1000)
    page.wait_for_selector(".htmx-request, .htmx-swapping, .htmx-settling", state="detached")


def rows(page: Page, count: int) -> None:
    """Wait until the table of messages has so many rows."""
    page.wait_for_selector(f"#messages tbody tr:nth-child({count}):last-child")


def test_a_refresh_brings_new_numbers_and_keeps_place_focus_and_typing(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard?sort=-name")
    complaints = watch(page)
    page.focus("#sort-opened")
    page.evaluate("window.scrollTo(0, 300)")
    lifecycle.create_campaign("Zzz, the newest")
    refreshed(page)
    assert page.locator("tbody tr a").first.inner_text() == "Zzz, the newest"
    assert page.locator("#numbers dd").first.inner_text() == "42"
    assert page.evaluate("document.activeElement.id") == "sort-opened"
    assert page.evaluate("window.scrollY") == 300
    assert page.url.endswith("?sort=-name")

    search = page.locator("#search")
    search.focus()
    page.clock.run_for(1000)
    search.press_sequentially("summer")
    page.evaluate("document.getElementById('search').setSelectionRange(1, 3)")
    refreshed(page)
    assert search.input_value() == "summer"
    assert page.evaluate("[document.activeElement.id, document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [
        "search", 1, 3,
    ]  # fmt: skip
    assert complaints == []


def test_search_finds_while_typing_and_keeps_the_sort(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard?sort=-name")
    page.locator("#search").press_sequentially("summer")
    refreshed(page, 1)
    assert page.locator("tbody tr").count() == 1
    assert "q=summer" in page.url
    assert "sort=-name" in page.url
    refreshed(page)
    assert page.locator("tbody tr").count() == 1


def test_sorting_stays_on_the_page_and_the_way_back_works(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    page.evaluate("window.stays = true; window.scrollTo(0, 200)")
    page.click("#sort-name")
    page.wait_for_selector("[aria-sort=ascending] #sort-name")
    assert page.evaluate("[window.stays, window.scrollY, document.activeElement.id]") == [True, 200, "sort-name"]
    page.go_back()
    page.wait_for_selector("[aria-sort=descending] #sort-created_at")
    assert page.url.endswith("/dashboard")
    page.click("text=Summer sale")
    page.wait_for_selector("h1:has-text('Summer sale')")


def test_another_page_is_shown_from_its_top(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    page.click("#page-next")
    page.wait_for_selector("[aria-current=page]#page-2")
    assert "page=2" in page.url
    assert page.locator("#campaigns thead").evaluate("head => head.getBoundingClientRect().top >= 0")


def test_a_hidden_tab_asks_for_nothing_and_once_when_it_is_seen_again(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/dashboard" in request.url else None)
    page.evaluate(HIDE % "hidden")
    page.clock.run_for(600_000)
    assert asked == []
    page.evaluate(HIDE % "visible")
    with page.expect_response("**/dashboard"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert len(asked) == 1
    refreshed(page)
    assert len(asked) == 2


def test_a_failed_refresh_is_said_and_a_later_one_takes_it_back(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    assert not page.is_visible("#stale")
    page.route("**/dashboard", lambda route: route.fulfill(status=503))
    page.clock.run_for(31_000)
    page.wait_for_selector("#stale", state="visible")
    page.unroute("**/dashboard")
    page.clock.run_for(31_000)
    page.wait_for_selector("#stale", state="hidden")


def test_a_refresh_keeps_how_far_a_table_is_scrolled_and_what_is_open(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard/campaigns/{filled.pk}")
    page.set_viewport_size(PHONE)
    page.click("#events-table summary")
    page.evaluate("document.getElementById('messages').scrollLeft = 120")
    page.evaluate("document.getElementById('events-scroll').dataset.old = 1")
    refreshed(page)
    page.wait_for_selector("#events-scroll:not([data-old])")
    assert page.evaluate("document.getElementById('messages').scrollLeft") == 120
    assert page.evaluate("document.getElementById('events-table').open")


def test_messages_are_filtered_in_place(browser: Browser, live_server: Any, filled: Campaign) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard/campaigns/{filled.pk}")
    page.select_option("#status", "bounced")
    rows(page, 1)
    page.wait_for_url("**status=bounced*")
    page.fill("#search", "nobody")
    page.press("#search", "Enter")
    page.wait_for_selector("text=No message matches.")
    page.select_option("#status", "")
    page.fill("#search", "user1")
    page.click("button:has-text('Search')")
    rows(page, 11)
    page.reload()
    assert page.input_value("#search") == "user1"


def test_the_first_campaign_turns_the_start_into_the_dashboard(browser: Browser, live_server: Any) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    assert page.is_visible("text=Track your first mail")
    lifecycle.create_campaign("first")
    page.clock.run_for(31_000)
    page.wait_for_selector("#campaigns")
    assert page.is_visible("text=first")


def test_commands_are_copied(browser: Browser, live_server: Any) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard", permissions=["clipboard-read", "clipboard-write"])
    page.click("label:has-text('Python')")
    page.click("[data-copy=command-python]")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("from tracking import Database\n\ndb = Database()")
    page.clock.run_for(2500)
    assert page.inner_text("[data-copy=command-python]") == "Copy"


def test_commands_are_copied_without_https_too(browser: Browser, live_server: Any) -> None:
    page = open_page(browser, f"{live_server.url}/dashboard")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("[data-copy=command-mail]")
    page.wait_for_selector("text=Copied")


def test_pages_work_without_javascript(browser: Browser, live_server: Any) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{live_server.url}/dashboard")
    assert page.locator(".command button:visible").count() == 0
    page.click("label:has-text('Command line')")
    assert page.is_visible("text=email-tracking-cli campaign create")
    lifecycle.create_campaign("Alpha")
    lifecycle.create_campaign("Beta")
    page.goto(f"{live_server.url}/dashboard")
    page.fill("#search", "alp")
    with page.expect_navigation():
        page.click("button:has-text('Search')")
    assert page.locator("tbody tr").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_complains_or_is_wider_than_a_phone(browser: Browser, live_server: Any, scheme: Any, filled: Campaign) -> None:
    message = filled.messages.order_by("id").first()
    assert message is not None
    page = browser.new_context(viewport=PHONE, color_scheme=scheme).new_page()
    complaints = watch(page)
    for path in ("/dashboard", f"/dashboard/campaigns/{filled.pk}", f"/dashboard/messages/{message.pk}", "/dashboard?q=nothing"):
        for size in (PHONE, DESKTOP):
            page.set_viewport_size(size)
            page.goto(live_server.url + path)
            assert page.evaluate(NO_WIDER), (path, size)
            assert page.evaluate("document.documentElement.dataset.bsTheme") == scheme
    Campaign.objects.update(deleted_at=now_ms())
    page.set_viewport_size(PHONE)
    page.goto(f"{live_server.url}/dashboard")
    assert page.is_visible("text=Track your first mail")
    assert page.evaluate(NO_WIDER)
    assert complaints == []


CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    return {light: 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue), alpha};
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const {light, alpha} = parse(getComputedStyle(element).backgroundColor);
      if (alpha === 1) return light;
    }
    return 1;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility() || element.closest("svg, noscript, .disabled")) continue;
    const one = parse(getComputedStyle(element).color).light, other = behind(element);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${text.slice(0, 40)}`);
  }
  return [...new Set(poor)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser: Browser, live_server: Any, scheme: Any, filled: Campaign) -> None:
    message = filled.messages.order_by("id").first()
    assert message is not None
    lifecycle.update_campaign(filled, {"archived": True})
    page = browser.new_context(viewport=DESKTOP, color_scheme=scheme).new_page()
    for path in ("/dashboard?archived=1", f"/dashboard/campaigns/{filled.pk}", f"/dashboard/messages/{message.pk}"):
        page.goto(live_server.url + path)
        assert page.evaluate(CONTRAST) == [], path


def test_the_admin_works_under_the_content_policy(browser: Browser, live_server: Any, filled: Campaign, django_user_model: Any) -> None:
    django_user_model.objects.create_superuser("ann", "ann@example.com", "a-password")
    page = browser.new_context(viewport=DESKTOP).new_page()
    complaints = watch(page)
    page.goto(f"{live_server.url}/admin/")
    page.fill("#id_username", "ann")
    page.fill("#id_password", "a-password")
    page.click("[type=submit]")
    page.click("a:has-text('Messages')")
    page.click("#result_list a >> nth=0")
    page.click("text=View on site")
    page.wait_for_selector("#timeline-heading")
    page.goto(f"{live_server.url}/admin/campaigns/message/add/")
    with page.expect_popup() as popup:
        page.click("#lookup_id_campaign")
    popup.value.click("text=Summer sale")
    if not popup.value.is_closed():
        popup.value.wait_for_event("close")
    assert page.input_value("#id_campaign") == str(filled.pk)
    page.fill("#id_recipient_email", "new@example.com")
    page.click("[name=_save]")
    page.wait_for_selector(".success")
    page.goto(f"{live_server.url}/admin/campaigns/campaign/{filled.pk}/delete/")
    page.click("text=Yes, I’m sure")
    page.wait_for_selector(".success")
    assert not Campaign.objects.living().filter(pk=filled.pk).exists()
    assert complaints == []
