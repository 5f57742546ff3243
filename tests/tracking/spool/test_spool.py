from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from tests.tracking.running import until
from tracking.spool import reader, writer
from tracking.spool.writer import SpoolWriter


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def lines(folder: Path) -> list[bytes]:
    return [line.data for segment in reader.segments(folder) for line in reader.read_lines(segment.path, 0, segment.size, 10**6)]


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_what_is_appended_by_many_threads_is_there_line_by_line(spool: Path, fsync: str) -> None:
    one = SpoolWriter(spool, fsync)
    threads = [threading.Thread(target=lambda n=n: [one.append(b"%d-%d\n" % (n, i)) for i in range(50)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines(spool)) == sorted(b"%d-%d" % (n, i) for n in range(8) for i in range(50))
    assert len(reader.segments(spool)) == 1


def test_a_segment_has_a_writer_until_it_is_closed(spool: Path) -> None:
    one = SpoolWriter(spool)
    one.append(b"a\n")
    [segment] = reader.segments(spool)
    assert reader.has_writer(segment.path)
    one.close()
    assert not reader.has_writer(segment.path)
    one.append(b"b\n")
    assert len(reader.segments(spool)) == 2


def test_segments_are_rotated_by_size(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 100)
    one = SpoolWriter(spool)
    for number in range(30):
        one.append(b"%020d\n" % number)
    assert len(reader.segments(spool)) == 6
    assert sorted(lines(spool)) == [b"%020d" % number for number in range(30)]


def test_a_line_without_its_end_is_left_to_its_writer(spool: Path) -> None:
    spool.mkdir()
    path = spool / f"1{reader.SUFFIX}"
    path.write_bytes(b"whole\nhal")
    assert [line.data for line in reader.read_lines(path, 0, 9, 10)] == [b"whole"]
    assert reader.read_tail(path, 6, 100) == (b"hal", 9)


def test_a_full_disk_loses_hits_counts_them_and_says_so_when_there_is_room(spool: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    one = SpoolWriter(spool)
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    assert one.append(b"before\n")
    really = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not one.append(b"lost 1\n")
    assert not one.append_many([b"lost 2\n", b"lost 3\n"])
    monkeypatch.setattr(os, "write", really)
    assert one.append(b"after\n")
    assert one.lost == 0
    assert lines(spool) == [b"before", b'{"v":1,"k":"lost","n":3}', b"after"]
    assert sum("hits are answered but lost" in record.message for record in caplog.records) == 1


def test_a_short_write_leaves_no_half_line(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SpoolWriter(spool)
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    one.append(b"before\n")
    really = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really(descriptor, data[: len(data) // 2]))
    assert not one.append(b"this one is cut\n")
    monkeypatch.setattr(os, "write", really)
    one.append(b"after\n")
    assert lines(spool) == [b"before", b'{"v":1,"k":"lost","n":1}', b"after"]


def test_of_a_short_write_of_a_group_the_whole_lines_stay_and_the_others_are_counted(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SpoolWriter(spool)
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    really = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really(descriptor, data[: len(data) - 3]))
    assert not one.append_many([b"whole 1\n", b"whole 2\n", b"cut\n"])
    assert one.lost == 1
    assert not one.append_many([b"whole 3\n", b"cut again\n"])
    monkeypatch.setattr(os, "write", really)
    one.append(b"after\n")
    loss = b'{"v":1,"k":"lost","n":1}'
    assert sorted(lines(spool)) == sorted([b"whole 1", b"whole 2", loss, b"whole 3", loss, b"after"])


def test_a_segment_that_cannot_be_begun_leaves_nothing_behind(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SpoolWriter(spool)
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    one.counters.add("begun")  # what it holds open for its numbers
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(writer, "_sync_folder", lambda folder: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    for number in range(5):
        assert not one.append(b"x\n"), number
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(spool.iterdir()) == []
    assert one.lost == 5


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_a_disk_that_cannot_sync_ends_neither_the_writer_nor_its_thread(spool: Path, fsync: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SpoolWriter(spool, fsync)
    assert one.append(b"before\n")

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    assert one.append(b"unsafe\n") == (fsync == "interval")
    one.close()
    assert one._sync(one._written) is False
    monkeypatch.undo()
    assert one.append(b"after\n")
    assert one._sync(one._written) is True
    assert sorted(lines(spool)) == [b"after", b"before", b"unsafe"]


def test_a_disk_is_quick_while_its_last_sync_was_and_none_is_under_way(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, now, during = SpoolWriter(spool, "always"), 100.0, []
    monkeypatch.setattr(writer.time, "monotonic", lambda: now)
    assert not one.quick
    for seconds, expected in ((0.0001, True), (0.5, False), (0.0001, True)):

        def sync(descriptor: int, seconds: float = seconds) -> None:
            nonlocal now
            if threading.current_thread() is threading.main_thread():  # other tests have left writers that sync now and then
                during.append(one.quick)
                now += seconds

        monkeypatch.setattr(os, "fdatasync", sync)
        assert one.append(b"x\n")
        assert one.quick is expected
    assert during == [False] * 3
    one.close()


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_a_segment_that_somebody_removed_is_written_no_longer_than_until_the_next_sync(spool: Path, fsync: str) -> None:
    one = SpoolWriter(spool, fsync)
    assert one.append(b"1\n")
    shutil.rmtree(spool)
    assert one.append(b"2\n") is (fsync == "interval"), "who waits for the sync is told"
    until(lambda: one.append(b"3\n") and spool.exists())
    assert {b"3"} <= set(lines(spool)) <= {b"2", b"3"}


def test_who_shares_a_sync_of_a_segment_that_somebody_removed_is_told_so_too(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, really, waiting = SpoolWriter(spool, "always"), os.fdatasync, threading.Event()
    assert one.append(b"1\n")
    shutil.rmtree(spool)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: waiting.wait(10) and really(descriptor))
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(one.append(b"2\n"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: one._written == 4)
    waiting.set()
    for thread in threads:
        thread.join()
    assert told == [False] * 3


def test_what_is_spooled_is_its_owners_alone(spool: Path) -> None:
    SpoolWriter(spool).append(b"x\n")
    [segment] = reader.segments(spool)
    assert (segment.path.stat().st_mode & 0o077, spool.stat().st_mode & 0o077) == (0, 0)


def test_a_folder_that_cannot_be_made_loses_hits_but_never_raises(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    one = SpoolWriter(tmp_path / "spool")
    assert not one.append(b"x\n")
    assert one.lost == 1


def _append_for_ever(folder: Path, acknowledged: str) -> None:
    one, number = SpoolWriter(folder), 0
    with open(acknowledged, "wb", buffering=0) as known:
        while True:
            one.append(b"%d\n" % number)
            known.write(b"%d\n" % number)
            number += 1


def test_kill_9_of_a_writer_loses_nothing_it_acknowledged(spool: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_append_for_ever, args=(spool, str(tmp_path / "known")))
    process.start()
    while not (tmp_path / "known").exists() or (tmp_path / "known").stat().st_size < 5000:
        assert process.is_alive()
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    [segment] = reader.segments(spool)
    assert not reader.has_writer(segment.path)
    known = (tmp_path / "known").read_bytes().split()
    assert lines(spool)[: len(known)] == known


def test_a_child_after_fork_writes_a_segment_of_its_own(spool: Path) -> None:
    one = writer.process_writer(spool)
    one.append(b"parent\n")
    pid = os.fork()
    if pid == 0:
        one.append(b"child\n")
        one.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    one.append(b"parent again\n")
    found = sorted((reader.has_writer(segment.path), segment.path.read_bytes()) for segment in reader.segments(spool))
    assert found == [(False, b"child\n"), (True, b"parent\nparent again\n")]
    one.close()
