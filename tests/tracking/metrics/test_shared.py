"""Numbers of many processes: none lost with its process, none counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.running import until
from tracking.conf import PROJECT_ROOT
from tracking.metrics import shared
from tracking.metrics.shared import Counters

#: Counts in a process of its own, as it is told on its standard input: `NAME N`; `NAME =N` holds.
COUNTING = """
import sys
from pathlib import Path
from tracking.metrics import shared
shared.SHARED_MEMORY = Path(sys.argv[2])
counters = shared.process_counters(Path(sys.argv[1]))
for line in sys.stdin:
    name, n = line.split()
    counters.hold(name, int(n[1:])) if n.startswith("=") else counters.add(name, int(n))
    print(name, flush=True)
"""


class Process:
    def __init__(self, spool: Path, memory: Path) -> None:
        command = [sys.executable, "-c", COUNTING, str(spool), str(memory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT)

    def count(self, name: str, n: int | str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{name} {n}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{name}\n"

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(10) == 0

    def kill(self) -> None:
        with self.process:  # closes its pipes
            self.process.kill()


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(shared, "SHARED_MEMORY", memory)
    return memory


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    return spool


@pytest.fixture
def counters(spool: Path, memory: Path) -> Iterator[Counters]:
    counters = Counters(spool)
    yield counters
    counters.close()


@pytest.fixture
def other(spool: Path, memory: Path) -> Iterator[Process]:
    other = Process(spool, memory)
    yield other
    other.kill()


def test_all_processes_are_added_up(counters: Counters, other: Process) -> None:
    counters.add("hits", 2)
    other.count("hits", 3)
    other.count("hits", 4)
    assert counters.read().totals == {"hits": 9}


@pytest.mark.parametrize("ending", ["end", "kill"])
def test_what_a_process_counted_outlives_it_and_leaves_no_page(counters: Counters, other: Process, memory: Path, ending: str) -> None:
    other.count("hits", 5)
    getattr(other, ending)()
    for _ in range(3):
        assert counters.read().totals == {"hits": 5}
    assert list(memory.iterdir()) == []


def test_a_death_does_not_put_away_what_the_living_count(counters: Counters, other: Process, memory: Path, spool: Path) -> None:
    counters.add("hits", 1)
    other.count("hits", 10)
    for n in range(1, 4):
        dead = Process(spool, memory)
        dead.count("hits", 100)
        dead.kill()
        for _ in range(2):
            assert counters.read().totals == {"hits": 11 + n * 100}
    other.count("hits", 10)
    assert counters.read().totals == {"hits": 321}


def test_totals_are_written_into_a_new_file_alone(counters: Counters, other: Process, spool: Path, tmp_path: Path) -> None:
    """Root asks too, in a folder that is another user's."""
    precious = tmp_path / "precious"
    precious.write_text("as before")
    (spool / f".{shared.TOTALS}.new").symlink_to(precious)
    other.count("hits", 5)
    other.kill()
    assert counters.read().totals == {"hits": 5}
    assert precious.read_text() == "as before"
    assert (spool / shared.TOTALS).stat().st_mode & 0o777 == 0o600


def test_a_process_that_ends_well_puts_its_page_away_itself(other: Process, memory: Path, spool: Path) -> None:
    other.count("hits", 5)
    assert len(list(memory.iterdir())) == 1
    other.end()
    assert list(memory.iterdir()) == []
    assert [path.name for path in spool.iterdir()] == [shared.TOTALS]


def test_what_holds_while_a_process_lives_goes_with_it(counters: Counters, other: Process) -> None:
    other.count("busy", "=1")
    counters.hold("busy", 1)
    assert sum(each.get("busy", 0) for each in counters.read().held) == 2
    other.kill()
    assert sum(each.get("busy", 0) for each in counters.read().held) == 1
    assert counters.read().totals == {}


def test_a_child_counts_for_itself(counters: Counters, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shared._counters, spool, counters)
    counters.add("hits", 1)
    child = os.fork()
    if child == 0:
        counters.add("hits", 10)
        os._exit(0)
    os.waitpid(child, 0)
    counters.add("hits", 100)
    assert counters.read().totals == {"hits": 111}


def test_the_death_of_a_parent_is_seen_though_its_child_lives(spool: Path, memory: Path, counters: Counters) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from tracking.metrics import shared
shared.SHARED_MEMORY = Path({str(memory)!r})
counters = shared.process_counters(Path({str(spool)!r}))
counters.hold("busy", 1)
child = os.fork()
if child == 0:
    time.sleep(60)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            parent.wait(10)
            until(lambda: not any(counters.read().held))  # the child gives its copy of the lock up as soon as it runs
        finally:
            os.kill(child, signal.SIGKILL)


def test_threads_lose_nothing(counters: Counters) -> None:
    def count() -> None:
        for _ in range(5_000):
            counters.add("hits")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.read().totals == {"hits": 20_000}


def test_numbers_never_go_back_while_processes_come_and_die(counters: Counters, spool: Path, memory: Path) -> None:
    """Two readers, each of which puts dead pages away, beside processes that are killed while they count."""
    script = COUNTING.partition("for line")[0] + "while True: counters.add('hits')"
    command = [sys.executable, "-c", script, str(spool), str(memory)]
    reading, seen, backwards = threading.Event(), [0, 0], []

    def read(number: int) -> None:
        reader = Counters(spool)
        while not reading.is_set():
            now = reader.read().totals["hits"]
            if now < seen[number]:
                backwards.append((seen[number], now))
            seen[number] = now

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(4):
            before = list(seen)
            each = subprocess.Popen(command, cwd=PROJECT_ROOT)
            until(lambda before=before: min(seen) > max(before))
            each.kill()
            each.wait()
    finally:
        reading.set()
        for reader in readers:
            reader.join()
    assert backwards == []
    assert counters.read().totals["hits"] >= max(seen)
    assert list(memory.iterdir()) == []


def test_on_a_full_disk_pages_stay_and_are_counted(
    counters: Counters, other: Process, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.count("hits", 5)
    other.kill()

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        for _ in range(2):
            assert counters.read().totals == {"hits": 5}
        assert len(list(memory.iterdir())) == 1
    assert counters.read().totals == {"hits": 5}
    assert list(memory.iterdir()) == []


def test_a_page_that_is_in_the_totals_and_could_not_be_removed_is_not_counted_twice(
    counters: Counters, other: Process, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.count("hits", 5)
    other.kill()

    def stays(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stays)
        for _ in range(2):
            assert counters.read().totals == {"hits": 5}
    assert len(list(memory.iterdir())) == 1
    for _ in range(2):
        assert counters.read().totals == {"hits": 5}
    assert list(memory.iterdir()) == []


def test_a_page_grows(counters: Counters, other: Process) -> None:
    names = [f"name-{number:04d}-{'x' * (number % 40)}" for number in range(600)]
    for name in names:
        other.count(name, 1)
    counters.add(names[0], 1)
    assert counters.read().totals == {**dict.fromkeys(names, 1), names[0]: 2}


def test_where_no_page_can_be_a_process_counts_for_itself(
    spool: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters(spool)
    really = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: really(descriptor, data[:100], at))
    for _ in range(3):
        counters.add("hits", 2)
        counters.hold("busy", 1)
    found = counters.read()
    assert (found.totals, found.held) == ({"hits": 6}, [{"busy": 1}])
    assert list(memory.iterdir()) == []
    assert len(caplog.records) == 1


def test_where_there_is_no_shared_memory_pages_are_in_the_spool(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARED_MEMORY", spool / "nowhere")
    one, two = Counters(spool), Counters(spool)
    one.add("hits", 1)
    assert two.read().totals == {"hits": 1}
    one.close()
    assert two.read().totals == {"hits": 1}
    assert [path.name for path in spool.iterdir()] == [shared.TOTALS]


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, b'{"totals": 7}', b'{"totals": {"hits": "many"}, "folded": []}', b"[1]"])
def test_totals_that_cannot_be_read_begin_again(counters: Counters, other: Process, spool: Path, content: bytes) -> None:
    (spool / shared.TOTALS).write_bytes(content)
    other.count("hits", 5)
    other.kill()
    for _ in range(2):
        assert counters.read().totals == {"hits": 5}


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0name", b"\xff\xff\xff\x7f" + bytes(60)])
def test_a_page_that_is_none_counts_nothing(counters: Counters, memory: Path, content: bytes) -> None:
    (memory / f"{counters._prefix()}1-aa").write_bytes(content)
    counters.add("hits", 1)
    assert counters.read().totals == {"hits": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_page_of_somebody_else_counts_nothing(counters: Counters, other: Process, memory: Path) -> None:
    other.count("hits", 5)
    [page] = memory.iterdir()
    os.chown(page, 12345, 12345)
    assert counters.read().totals == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_put_away_those_who_count_can_read(counters: Counters, other: Process, spool: Path) -> None:
    os.chown(spool, 12345, 12345)
    other.count("hits", 5)
    other.kill()
    assert counters.read().totals == {"hits": 5}
    assert (spool / shared.TOTALS).stat().st_uid == 12345


def test_a_folder_of_any_name_may_be_a_spool(tmp_path: Path, memory: Path) -> None:
    spool = tmp_path / os.fsdecode(b"sp\xff \xc3\xa4")
    spool.mkdir()
    counters = Counters(spool)
    counters.add("hits", 1)
    assert Counters(spool).read().totals == {"hits": 1}
    counters.close()


def test_a_reader_that_stopped_in_the_middle_stops_no_other(counters: Counters, other: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.05)
    other.count("hits", 5)
    with counters._alone() as alone:
        assert alone
        began = time.monotonic()
        assert Counters(counters.folder).read().totals == {"hits": 5}
        assert time.monotonic() - began < 2


def test_pages_of_spools_that_are_no_more_are_removed(counters: Counters, memory: Path, spool: Path, other: Process) -> None:
    gone = spool.with_name("gone")
    gone.mkdir()
    dead, living = Process(gone, memory), Process(gone, memory)
    try:
        dead.count("hits", 1)
        living.count("hits", 1)
        other.count("hits", 1)
        dead.kill()
        gone.rmdir()
        counters.add("hits", 1)
        assert len(list(memory.iterdir())) == 3, "of the living one, of the other process and of this one"
    finally:
        living.kill()


def test_claiming_takes_what_the_dead_left_once(counters: Counters, other: Process) -> None:
    counters.add("unsaid", 1)
    other.count("unsaid", 4)
    assert counters.claim("unsaid") == 0
    other.kill()
    assert [counters.claim("unsaid"), counters.claim("unsaid")] == [4, 0]
    assert counters.read().totals == {"unsaid": 1}
