from __future__ import annotations

import gzip
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.events import EventKind, TrackingEvent
from tests.tracking.nginx import line
from tracking.hits.client_ip import client_ip
from tracking.spool import seldom
from tracking.spool.lines import KEPT_HEADERS, MAX_LINE, BadLine, Lost, hit_line, parse_line, told
from tracking.spool.nginx_log import GONE_SECONDS, TORN_SECONDS, NginxLog, long_gone, nginx_logs, spool_line


def log(path: Path, *lines: bytes) -> NginxLog:
    path.write_bytes(b"".join(each + b"\n" for each in lines))
    return next(found for found in nginx_logs(path.parent) if found.path == path)


def event(data: bytes) -> TrackingEvent:
    said = parse_line(spool_line(data))
    assert isinstance(said, TrackingEvent)
    return said


sent = st.binary(max_size=40) | st.text(alphabet='"\\/\t\x01\x7fé,:{}', max_size=20).map(str.encode)


@given(
    at=st.integers(0, 4_000_000_000_000),
    agent=sent | st.binary(min_size=1000, max_size=1100),
    method=st.sampled_from([b"GET", b"HEAD"]),
    headers=st.dictionaries(st.sampled_from(sorted(KEPT_HEADERS)), sent | st.binary(min_size=250, max_size=300)),
    ip=st.sampled_from([b"192.0.2.1", b"2001:db8::1", b"::ffff:192.0.2.1", b"unix:"]),
)
def test_a_hit_in_the_log_is_the_event_that_our_own_server_would_have_written(at, agent, method, headers, ip) -> None:
    found = event(line(at=at, agent=agent, method=method, headers=headers, ip=ip))
    kept = {name: value.decode("latin-1") for name, value in headers.items() if value}
    ours = hit_line(
        EventKind.OPENED,
        "uuid-token",
        at,
        ip=client_ip(ip.decode(), "", "", None),
        told=told(method.decode(), agent.decode("latin-1"), kept),
    )
    assert found == parse_line(ours)


def test_the_format_that_we_ship_tells_of_every_header_that_is_kept() -> None:
    headers = {name: name.encode() for name in KEPT_HEADERS}
    assert event(line(headers=headers)).headers == {name: name for name in KEPT_HEADERS}


@given(st.binary(max_size=200) | st.integers(0, 400).map(lambda cut: line(agent=b"\xff\xfe")[:cut]))
def test_any_bytes_are_an_event_a_loss_or_a_bad_line(data: bytes) -> None:
    try:
        assert isinstance(parse_line(spool_line(data)), TrackingEvent | Lost)
    except BadLine:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 100, b"garbage", b"[]", b"{}", b"[" * 5000, b"[" + b"x" * 1_000_000,
        line().replace(b'"nginx":1', b'"nginx":2'), line(token=""), line(token="a/b"), line(token='a","at":1,"x":"'), line(token="x" * 129),
        line(token=".."), line(token="a.gif"), line().replace(b'"m":"GET",', b""),
        line().replace(b'"s":', b'"s":1e300,"z":'), line().replace(b'"s":', b'"s":null,"z":'), line().replace(b'"h":', b'"h":[],"z":'),
        line().replace(b'"ip":"192.0.2.1"', b'"ip":[]'), line().replace(b'"ua":""', b'"ua":"\xe9'), line() + line(), line()[:-1],
        line(agent=b"x" * MAX_LINE),
    ],
)  # fmt: skip
def test_what_is_no_line_of_nginx_is_left_as_it_is_and_says_nothing(data: bytes) -> None:
    assert spool_line(data) == data
    with pytest.raises(BadLine):
        parse_line(data)


# -- which logs there are


def test_a_log_keeps_its_name_when_the_file_is_renamed_and_grows(tmp_path: Path) -> None:
    first = log(tmp_path / "tracking.log", line())
    with first.path.open("ab") as file:
        file.write(line(at=1) + b"\n")
    first.path.rename(tmp_path / "tracking.log.1")
    other = log(tmp_path / "tracking.log", line(connection=2))
    [renamed] = [each for each in nginx_logs(tmp_path) if each.path.name == "tracking.log.1"]
    assert (renamed.name, renamed.size) == (first.name, first.size + len(line(at=1)) + 1)
    assert other.name != first.name
    assert len(other.name) <= 80


def test_a_file_begun_anew_under_its_name_is_another_log(tmp_path: Path) -> None:
    first = log(tmp_path / "tracking.log", line())
    assert log(tmp_path / "tracking.log", line(at=1_705_314_600_124)).name != first.name


def test_of_a_log_and_its_copy_the_longer_one_counts(tmp_path: Path) -> None:
    whole = log(tmp_path / "b.log", line(), line(at=1))
    for name in ("a.log", "c.log"):
        (tmp_path / name).write_bytes(line() + b"\n")
    assert nginx_logs(tmp_path) == [whole]


def test_logs_come_oldest_first(tmp_path: Path) -> None:
    for number, age in enumerate([5, 50, 20]):
        log(tmp_path / f"{number}.log", line(connection=number))
        os.utime(tmp_path / f"{number}.log", (time.time() - age,) * 2)
    assert [each.path.stem for each in nginx_logs(tmp_path)] == ["1", "2", "0"]


def test_other_files_are_left_alone_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tracking.log.2.gz").write_bytes(gzip.compress(line() + b"\n"))
    (tmp_path / ".hidden").write_bytes(line() + b"\n")
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "gone.log").symlink_to(tmp_path / "nothing")
    (tmp_path / "empty.log").touch()
    (tmp_path / "begun.log").write_bytes(line()[:50])
    (tmp_path / "access.log").write_bytes(b'192.0.2.1 - - "GET / HTTP/1.1" 200\n')
    for _ in range(3):
        assert nginx_logs(tmp_path) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"TRACKING_NGINX_LOGS: {tmp_path}/access.log is no log in the format of deploy/nginx/tracking-pixel-log.conf and is left alone"
    ]


def test_what_cannot_be_read_is_named_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    one, two = log(tmp_path / "one.log", line(connection=1)), log(tmp_path / "two.log", line(connection=2))
    really = Path.open

    def closed(path: Path, *arguments: Any) -> Any:
        if path.name == "one.log":
            raise PermissionError(13, "Permission denied")
        return really(path, *arguments)

    monkeypatch.setattr(Path, "open", closed)
    assert nginx_logs(tmp_path) == [two]
    assert (one.read_lines(0, 10), one.read_torn(0)) == ([], None)
    assert nginx_logs(tmp_path / "nowhere") == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "one.log cannot be read: Permission denied" in caplog.text
    assert "nowhere cannot be read" in caplog.text


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"garbage\n", line()[:40], b"x" * 100_000 + b"\n"])
def test_garbage_before_the_first_line_hides_no_log(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "tracking.log").write_bytes(garbage + line() + b"\n" + line(at=1) + b"\n")
    [found] = nginx_logs(tmp_path)
    assert event(found.read_lines(0, 10)[-1].data).occurred_at == 1
    (tmp_path / "tracking.log").rename(tmp_path / "tracking.log.1")
    assert [each.name for each in nginx_logs(tmp_path)] == [found.name]


# -- reading


def test_lines_are_read_from_a_position_on_and_a_tail_is_left(tmp_path: Path) -> None:
    (tmp_path / "tracking.log").write_bytes(line(at=1) + b"\n" + line(at=2) + b"\n" + line(at=3)[:-5])
    [found] = nginx_logs(tmp_path)
    one, two = found.read_lines(0, 10)
    assert found.read_lines(0, 1) == [one]
    assert found.read_lines(one.end, 10) == [two]
    assert found.read_lines(two.end, 10) == []
    assert [event(each.data).occurred_at for each in (one, two)] == [1, 2]


def test_a_file_that_took_the_name_of_the_log_meanwhile_is_not_read_for_it(tmp_path: Path) -> None:
    found = log(tmp_path / "tracking.log", line(connection=1))
    (tmp_path / "tracking.log").rename(tmp_path / "tracking.log.1")
    assert (found.read_lines(0, 10), found.read_torn(0)) == ([], None)
    (tmp_path / "tracking.log").write_bytes(line(connection=2) + b"\n")
    assert (found.read_lines(0, 10), found.read_torn(0)) == ([], None)


def test_a_tail_is_torn_when_nothing_was_added_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "tracking.log"
    path.write_bytes(line() + b"\n" + line()[:30])
    [found] = nginx_logs(tmp_path)
    end = len(line()) + 1
    assert found.read_torn(end) is None, "perhaps it is being written"
    os.utime(path, (time.time() - TORN_SECONDS - 1,) * 2)
    torn = found.read_torn(end)
    assert torn is not None
    assert (torn.start, torn.end, torn.data) == (end, end + 30, line()[:30])
    with path.open("ab") as file:
        file.write(line()[30:] + b"\n")
    os.utime(path, (time.time() - TORN_SECONDS - 1,) * 2)
    assert found.read_torn(end) is None, "it was finished"
    assert nginx_logs(tmp_path)[0].read_torn(end) is None


def test_a_line_of_any_length_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "tracking.log").write_bytes(line() + b"\n" + b"\0" * 5_000_000 + b"\n" + line(at=2) + b"\n")
    [found] = nginx_logs(tmp_path)
    one, long, two = found.read_lines(0, 10)
    assert MAX_LINE < len(long.data) < MAX_LINE + 10
    assert (long.start, long.end, two.start) == (one.end, one.end + 5_000_001, long.end)
    with pytest.raises(BadLine):
        parse_line(long.data)


# -- logs that are gone


def test_a_log_is_long_gone_when_it_was_here_and_is_not_any_more_for_a_month(tmp_path: Path) -> None:
    seen = tmp_path / "spool" / "seen"
    assert long_gone(seen, ["nginx-a", "nginx-b"]) == []
    assert long_gone(seen, ["nginx-a"]) == []
    for name in ("nginx-a", "nginx-b"):
        os.utime(seen / name, (time.time() - GONE_SECONDS - 60,) * 2)
    assert long_gone(seen, ["nginx-a"]) == [seen / "nginx-b"]
    assert long_gone(seen, ["nginx-b"]) == [], "it came back"


@pytest.fixture(autouse=True)
def _nothing_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "_said", {})
