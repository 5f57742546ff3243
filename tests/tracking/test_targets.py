from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.targets import BadTarget, has_userinfo, host_of, normalise_target

#: What a browser strips at both ends.
AROUND = "".join(map(chr, range(0x21)))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "\x01javascript:alert(1)", "data:text/html,x",
        " data:text/html,x", "file:///etc/passwd", "ftp://example.com/", "//evil.example", "///evil.example", "\\\\evil.example",
        "/\\evil.example", "https:evil.example", "https:/evil.example", "https:///evil.example", "https:\\\\evil.example", "http://",
        "http://?x", "http://[bad", "http://[::1", "http://]", "http://[1.2.3.4]/", "http://a:99999/", "http://a:port/",
        "http://good.example\\@evil.example/", "http://good.example%2Fevil", "http://a b/", "http://a\r\nSet-Cookie: x=1", "http://a/\nx",
        "http://a/\x00b", "http://a/\x7f", "http://a/\x85", "http://./", "http://...", "mailto:a@b.example", "example.com", "", " ",
        "http", "http:", "https://" + "a" * 8000, "https://a.example/" + "é" * 3000, "vbscript:x", "blob:https://a/", "about:blank",
        "http://exa<mple.example/", "http://a@b@c/", "http://\uff0fevil.example/", "http://a\u2044b\ud800/", "wss://a.example/",
        "http://\u2100/",
    ],
)  # fmt: skip
def test_what_a_browser_would_take_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(BadTarget):
        normalise_target(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM/Path", "HTTPS://Example.COM/Path"),
        ("  https://example.com/  ", "https://example.com/"),
        ("https://example.com/\r\n", "https://example.com/"),
        ("http://münchen.example/straße?q=ü#ö", "http://xn--mnchen-3ya.example/stra%C3%9Fe?q=%C3%BC#%C3%B6"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("https://example.com/a b?c d", "https://example.com/a%20b?c%20d"),
        ("https://example.com/%20%zz?a=1&amp;b=2#x", "https://example.com/%20%zz?a=1&amp;b=2#x"),
        ("http://127.0.0.1:5000/x", "http://127.0.0.1:5000/x"),
        ("http://[2001:db8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://user:pass@example.com/", "http://user:pass@example.com/"),
        ("http://example.com:/", "http://example.com:/"),
        ("https://example.com/?next=https://other.example//x", "https://example.com/?next=https://other.example//x"),
        ("https://a_b.example/", "https://a_b.example/"),
        ("https://i❤.example/", "https://xn--i-7iq.example/"),
        ("https://example.com?x", "https://example.com?x"),
        ("https://example.com/\udce9", "https://example.com/%E9"),
    ],
)
def test_a_target_is_left_as_it_is_but_for_what_no_header_can_hold(url: str, target: str) -> None:
    assert normalise_target(url) == target


schemes = st.sampled_from(["http://", "https://", "HTTP://", "https:", "//", "javascript:", "http:\\\\", " http://", ""])
pieces = st.text(alphabet="ab.:/\\?#@[]%&= \t\n\0éß❤\u2044\uff0f-_1", max_size=20)


@given(st.text(max_size=60) | st.builds("".join, st.tuples(schemes, pieces)))
def test_any_text_is_a_safe_target_or_a_bad_one(text: str) -> None:
    try:
        target = normalise_target(text)
    except BadTarget:
        return
    assert re.fullmatch(r"(?i)https?://[^/?#\\\s][!-~]*", target)
    assert normalise_target(target) == target
    assert len(target) <= 8000
    assert (urlsplit(target).hostname or "").rstrip(".") == host_of(target).strip("[]")


@given(st.text(max_size=60))
def test_a_path_survives_whatever_it_holds(path: str) -> None:
    try:
        target = normalise_target("https://example.com/" + path)
    except BadTarget:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udbff\ude00-\udfff]", path) or re.search(r"[\ud800-\udfff]", path)
        return
    assert host_of(target) == "example.com"
    assert target == "https://example.com/" + re.sub(
        r"[^!-~]+", lambda m: quote(m[0].encode("utf-8", "surrogateescape"), safe=""), path.rstrip(AROUND)
    )


@pytest.mark.parametrize(
    ("target", "is_trick"),
    [
        ("https://bank.example@evil.example/", True),
        ("https://example.com/@me", False),
        ("https://example.com?a@b", False),
        ("https://x#a@b", False),
    ],
)
def test_a_name_before_the_host_is_noticed(target: str, is_trick: bool) -> None:
    assert has_userinfo(target) == is_trick
