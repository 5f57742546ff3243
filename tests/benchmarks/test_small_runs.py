"""The benchmarks with next to nothing in them: that they run, and that both sides of each pair did the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from benchmarks import export, ingest, reads
from benchmarks.bench import children
from campaigns.models import Event
from tests.browsing import missing
from tests.tracking.running import is_running, until
from tracking.conf import PROJECT_ROOT


@pytest.fixture
def _wrk() -> None:
    if not shutil.which("wrk"):
        missing("wrk (apt-get install wrk)")


@pytest.mark.django_db(transaction=True)
def test_ingest_and_the_orm_take_in_as_many_hits() -> None:
    rates = ingest.measure(messages=50, hits=300, orm_hits=40, rounds=2)
    assert {name: len(measured) for name, measured in rates.items()} == {"ours": 2, "orm": 2}
    assert Event.objects.count() == 680


@pytest.mark.django_db(transaction=True)
def test_bytes_are_counted_of_the_table_and_each_of_its_indexes() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("measured on SQLite")
    sizes = ingest.measure_bytes(messages=500, hits=2000)
    assert set(sizes) == {"events", "idx_events_message_id", "idx_events_campaign_id"}
    assert 20 < sizes["events"] < 80


@pytest.mark.django_db(transaction=True)
def test_lists_and_series_are_the_same_from_counters_and_from_rows() -> None:
    taken = reads.measure(messages=1000, rounds=1)
    assert all(milliseconds > 0 for (milliseconds,) in taken.values())


@pytest.mark.django_db(transaction=True)
def test_the_export_and_a_loop_over_the_model_write_the_same_bytes() -> None:
    campaign = export.make(messages=300)
    assert all(rate > 0 for (rate,) in export.measure(campaign, rounds=1).values())


def bench(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    (tmp_path / "folder").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments, "--output", str(tmp_path / "results.json")],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "folder"), "BENCH_ROUNDS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.server
@pytest.mark.usefixtures("_wrk")
def test_a_pair_of_servers_is_measured_and_every_hit_recorded_once(tmp_path: Path) -> None:
    run = bench(tmp_path, "redirect", BENCH_SECONDS="1")
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert "each recorded once" in output
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row["name"] == "signed redirect / raw ASGI (hits/s)"
    assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.server
@pytest.mark.usefixtures("_wrk")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    run = bench(tmp_path, "redirect", BENCH_SECONDS="60")
    until(lambda: any(Path(f"/proc/{pid}/comm").read_text() == "wrk\n" for pid in children(run.pid) if is_running(pid)), 40)
    started = children(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=40)
    assert run.returncode == 130
    assert not [pid for pid in started if is_running(pid)]
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [(["fast"], {}, "fast is no piece"), ([], {"BENCH_ROUNDS": "0"}, "BENCH_ROUNDS must be a whole number")],
)
def test_what_cannot_be_measured_is_said_in_a_line(tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str) -> None:
    run = bench(tmp_path, *arguments, **environment)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 2
    assert said in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_what_stands_beside_us_is_no_dependency_of_ours() -> None:
    """The bench's own modules load without it; only the naive project, in processes of its own, needs it."""
    code = "import sys; sys.modules['anymail'] = None; import benchmarks.__main__"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
