"""Links and pixels as they go into a mail."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.db import OperationalError
from django.template import engines
from django.test import Client, RequestFactory

from campaigns.rules import Refused
from tracking import keys, links
from tracking.links import link_url, pixel_url

pytestmark = pytest.mark.django_db
BASE = "https://track.example"


def test_an_address_starts_with_the_setting_else_with_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixel_url("tok") == "http://localhost:5000/track/pixel/tok"
    monkeypatch.setitem(settings.CONF.__dict__, "default_base_url", "https://t.example/mail")
    assert pixel_url("tok") == "https://t.example/mail/track/pixel/tok"
    assert pixel_url("tok", "https://other.example/") == "https://other.example/track/pixel/tok"
    assert link_url("tok", "https://example.com/").startswith("https://t.example/mail/track/redirect/tok?url=")


def test_a_link_holds_its_url_wholly_encoded_and_in_the_form_it_will_lead_to() -> None:
    link = link_url("tok", " http://münchen.example/a b?x=1&y=+#z ", BASE, position="3")
    query = parse_qs(urlsplit(link).query)
    assert query["url"] == ["http://xn--mnchen-3ya.example/a%20b?x=1&y=+#z"]
    assert query["n"] == ["3"]
    assert re.fullmatch(r"[a-z2-7]{26}", query["sig"][0])
    assert re.fullmatch(r"[!-~]+", link)
    assert "&n=" not in link_url("tok", "https://example.com/", BASE)


@pytest.mark.parametrize(
    ("token", "url", "position", "field"),
    [
        ("a b", "https://example.com/", "", "tracking_token"),
        ("x.gif", "https://example.com/", "", "tracking_token"),
        ("tok", "javascript:alert(1)", "", "url"),
        ("tok", "//example.com/", "", "url"),
        ("tok", "mailto:a@example.com", "", "url"),
        ("tok", "", "", "url"),
        ("tok", "https://example.com/", "a b", "position"),
        ("tok", "https://example.com/", "x" * 33, "position"),
    ],
)
def test_what_no_link_can_hold_is_refused_by_name(token: str, url: str, position: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        link_url(token, url, BASE, position)
    assert refused.value.field == field


def test_the_newest_key_signs() -> None:
    before = link_url("tok", "https://example.com/", BASE)
    assert link_url("tok", "https://example.com/", BASE) == before
    keys.rotate()
    assert link_url("tok", "https://example.com/", BASE) != before


def test_a_signed_link_may_carry_a_user_name_because_we_wrote_it() -> None:
    link = link_url("tok", "https://user:word@example.com/")
    assert Client().get(link[link.index("/track") :])["Location"] == "https://user:word@example.com/"


def render(source: str, **context: object) -> str:
    return engines["django"].from_string("{% load tracking_links %}" + source).render(context, context.pop("request", None))


def test_tags_write_addresses_of_the_host_that_was_asked() -> None:
    request = RequestFactory().get("/", HTTP_HOST="mail.example:8080")
    assert render("{% pixel_url token %}", token="tok", request=request) == "http://mail.example:8080/track/pixel/tok"
    page = render('<a href="{% link_url token url "2" %}">', token="tok", url="https://example.com/?a=1&b=2", request=request)
    assert "&amp;n=2&amp;sig=" in page
    href = unescape(page[len('<a href="') : -len('">')])
    assert href == link_url("tok", "https://example.com/?a=1&b=2", "http://mail.example:8080", "2")


def test_tags_prefer_the_setting_and_need_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert render("{% pixel_url token %}", token="tok") == "http://localhost:5000/track/pixel/tok"
    monkeypatch.setitem(settings.CONF.__dict__, "base_url", BASE)
    monkeypatch.setitem(settings.CONF.__dict__, "default_base_url", BASE)
    assert render("{% pixel_url token %}", token="tok", request=RequestFactory().get("/")) == f"{BASE}/track/pixel/tok"


def test_a_signed_link_asks_to_come_back_where_not_even_a_key_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    link = links.link_url("tok", "https://example.com/")

    def away() -> tuple[bytes, ...]:
        raise OperationalError("away")

    monkeypatch.setattr("tracking.views.signing_keys", away)
    answer = Client().get(link[link.index("/track") :])
    assert (answer.status_code, answer["Retry-After"], "Location" in answer) == (503, "10", False)
