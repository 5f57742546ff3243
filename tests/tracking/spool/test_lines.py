from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.events import EventKind, TrackingEvent
from tracking.spool.lines import MAX_LINE, BadLine, Lost, hit_line, lost_line, parse_line, told

wild = st.text(max_size=60) | st.text(alphabet='"\\\0\n\r\ud800\udfff\u2028é', max_size=20)


@given(
    kind=st.sampled_from([EventKind.OPENED, EventKind.CLICKED]),
    at=st.integers(0, 4_000_000_000_000),
    agent=wild | st.none(),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    headers=st.dictionaries(wild, wild, max_size=4),
    url=wild | st.none(),
    position=wild | st.none(),
)
def test_a_hit_is_one_line_and_reads_back_whatever_its_texts_are(kind, at, agent, method, headers, url, position) -> None:
    line = hit_line(kind, "tok_1.~-", at, ip="192.0.2.1", told=told(method, agent, headers), url=url, position=position or "")
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    event = parse_line(line[:-1])
    assert isinstance(event, TrackingEvent)
    assert (event.kind, event.token, event.occurred_at, event.ip, event.method) == (kind, "tok_1.~-", at, "192.0.2.1", method)
    if agent and agent.isprintable():
        assert event.user_agent == agent
    if url is not None and url.isprintable():
        assert event.url == url


def test_no_line_of_ours_is_longer_than_the_reader_reads() -> None:
    longest = hit_line(
        EventKind.CLICKED,
        "t" * 128,
        1,
        told=told("GET", "\0" * 9000, {f"h{n}": "\0" * 9000 for n in range(13)}),
        url="\0" * 9000,
        position="1",
    )
    assert isinstance(parse_line(longest[:-1]) if len(longest) <= MAX_LINE else None, TrackingEvent)


def test_a_loss_reads_back() -> None:
    assert parse_line(lost_line(7)[:-1]) == Lost(7)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\0" * 100, b"garbage", b"[]", b"{}", b"[" * 5000, b'{"v":' + b"[" * 1010 + b"]" * 1010 + b"}",
        b'{"v":1}', b'{"v":2,"k":"opened","t":"a","at":1}',
        b'{"v":1,"k":"danced","t":"a","at":1}', b'{"v":1,"k":"opened","t":5,"at":1}', b'{"v":1,"k":"opened","t":"a","at":"1"}',
        b'{"v":1,"k":"opened","t":"a","at":true}', b'{"v":1,"k":"opened","t":"a","at":-1}', b'{"v":1,"k":"opened","t":"a","at":1,"ua":[]}',
        b'{"v":1,"k":"opened","t":"a","at":1,"h":{"a":1}}', b'{"v":1,"k":"lost"}', b'{"v":1,"k":["opened"],"t":"a","at":1}',
        b'{"v":1,"k":"opened","t":"\xff","at":1}', b'{"v":1,"k":"opened","t":"a","at":1' + b" " * MAX_LINE + b"}",
    ],
)  # fmt: skip
def test_what_says_nothing_is_a_bad_line(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse_line(line)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        lambda x: json.dumps(x).encode()
    )
)
def test_any_bytes_are_an_event_a_loss_or_a_bad_line(line: bytes) -> None:
    try:
        assert isinstance(parse_line(line), TrackingEvent | Lost)
    except BadLine:
        pass
