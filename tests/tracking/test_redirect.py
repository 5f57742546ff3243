"""What the address of a tracked link says, without Django."""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.events import TrackingEvent
from tracking.hits.pixel import GIF, PIXEL, pixel_line
from tracking.hits.redirect import TrackedLink, click_line, is_signed, read_link, redirect_answer
from tracking.hits.request import HitRequest, hit_request
from tracking.signing import sign
from tracking.spool.lines import MAX_LINE, parse_line

KEY = bytes(range(32))


def request(**facts: Any) -> HitRequest:
    return hit_request(**{"method": "GET", "query": b"", "headers": {}, "peer": "203.0.113.5", "trusted": None, **facts})


def said(line: bytes | None) -> TrackingEvent:
    assert line is not None
    assert line.endswith(b"\n")
    event = parse_line(line)
    assert isinstance(event, TrackingEvent)
    return event


@pytest.mark.parametrize(
    ("query", "url", "position", "signature"),
    [
        (b"", None, "", None),
        (b"url=", None, "", None),
        (b"url=https%3A//e.example/a%3Fb%3D1%26c", "https://e.example/a?b=1&c", "", None),  # urllib.parse.quote
        (b"url=https%3A%2F%2Fe.example", "https://e.example", "", None),
        (b"url=https://e.example/?a=1", "https://e.example/?a=1", "", None),  # not encoded at all
        (b"url=https://e.example/?q=a+b%2Bc", "https://e.example/?q=a+b+c", "", None),  # a plus is a plus
        (b"url=a&url=b&n=1&n=2&sig=x&sig=y", "a", "1", "x"),  # the first counts
        (b"url=a&sig=", "a", "", ""),  # signed, and wrongly
        (b"url=a&amp;n=1&amp;sig=x", "a", "1", "x"),  # escaped twice on its way
        (b"utm=1&url=a;b&x", "a;b", "", None),
        (b"url=%FF%zz%", "\udcff%zz%", "", None),
    ],
)
def test_a_link_is_read(query: bytes, url: str | None, position: str, signature: str | None) -> None:
    assert read_link("tok", query) == TrackedLink("tok", url, position, signature)


@given(st.binary(max_size=200))
def test_any_query_is_read_and_none_is_signed(query: bytes) -> None:
    link = read_link("tok", query)
    assert not is_signed(link, [KEY])


@given(st.text(max_size=60), st.text(max_size=10))
def test_what_was_quoted_and_signed_is_read_and_verifies(url: str, position: str) -> None:
    url, position = (text.encode("utf-8", "replace").decode() for text in (url or "x", position))
    query = f"url={quote(url, safe='')}&n={quote(position, safe='')}&sig={sign(KEY, 'tok', url, position)}".encode()
    link = read_link("tok", query)
    assert (link.url, link.position) == (url, position)
    assert is_signed(link, [bytes(32), KEY])
    assert not is_signed(link._replace(token="other"), [KEY])
    assert not is_signed(link._replace(url=url + "x"), [KEY])
    assert not is_signed(link._replace(position=position + "1"), [KEY])
    assert not is_signed(link._replace(signature=None), [KEY])


def test_what_is_no_token_is_never_signed() -> None:
    signature = sign(KEY, "a/b", "https://e.example/")
    assert not is_signed(TrackedLink("a/b", "https://e.example/", "", signature), [KEY])


def test_a_click_is_written_with_its_url_and_position() -> None:
    link = TrackedLink("tok", "https://e.example/?a=1", "3", None)
    hit = request(method="HEAD", headers={"user-agent": "curl"})
    event = said(click_line(link, "https://e.example/?a=1", 1_700_000_000_000, hit.ip, hit.told))
    assert (event.kind, event.token, event.occurred_at) == ("clicked", "tok", 1_700_000_000_000)
    assert (event.url, event.position, event.method, event.user_agent, event.ip) == (link.url, "3", "HEAD", "curl", "203.0.113.5")


def test_an_answer_leads_on_and_says_what_was_done() -> None:
    answer = redirect_answer('https://e.example/"quoted"')
    assert (answer.status, dict(answer.headers)["Location"]) == (302, 'https://e.example/"quoted"')
    assert json.loads(answer.body) == {"redirect": 'https://e.example/"quoted"', "tracked": True}
    assert json.loads(redirect_answer("https://e.example/", tracked=False).body)["tracked"] is False


# -- pixel


def test_the_pixel_is_43_bytes_of_transparent_gif() -> None:
    assert (len(GIF), GIF[:6], GIF[6:10], GIF[-1:]) == (43, b"GIF89a", b"\x01\x00\x01\x00", b";")
    assert b"!\xf9\x04\x01" in GIF, "the graphic control that makes its one colour transparent"
    assert dict(PIXEL.headers)["Cache-Control"] == "no-store, no-cache, must-revalidate, private, max-age=0"


@pytest.mark.parametrize(
    ("path", "token"),
    [("tok", "tok"), ("tok.gif", "tok"), ("tok.GIF", "tok"), ("a.b~c_d-e", "a.b~c_d-e"), ("x" * 128 + ".gif", "x" * 128)],
)
def test_a_token_is_written_without_its_suffix(path: str, token: str) -> None:
    assert said(pixel_line(path, 1, None, b"")).token == token


@pytest.mark.parametrize("path", ["", ".gif", ".", "..", "...gif", "a.gif.gif", "a/b", "a b", "tök", "a\n", "x" * 129, "tok.gif/", '"'])
def test_what_can_be_no_token_is_not_written(path: str) -> None:
    assert pixel_line(path, 1, None, b"") is None


@given(
    st.dictionaries(st.sampled_from(["user-agent", "accept", "referer", "x-forwarded-for", "cookie", "x-real-ip"]), st.text(max_size=3000)),
    st.text(max_size=20),
    st.text(max_size=30),
)
def test_any_headers_make_one_line_that_is_read_again(headers: dict[str, str], peer: str, method: str) -> None:
    hit = request(headers=headers, peer=peer, method=method)
    line = pixel_line("tok", 1, hit.ip, hit.told)
    event = said(line)
    assert line is not None
    assert line.count(b"\n") == 1
    assert len(line) <= MAX_LINE
    assert set(event.headers) <= {"accept", "referer"}
    if event.ip:
        ipaddress.ip_address(event.ip)


def test_an_agent_of_64_kilobytes_is_cut() -> None:
    hit = request(headers={"user-agent": "A" * 65_536, "referer": "B" * 65_536})
    event = said(pixel_line("tok", 1, hit.ip, hit.told))
    assert len(event.user_agent or "") == 1024
    assert len(event.headers["referer"]) == 256
