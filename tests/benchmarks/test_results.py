"""The table of the benchmarks, and what stands of it in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import results, table
from benchmarks.results import Row, alone, paired, times_faster


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    row = paired("a / b", [10, 20, 90], [10, 5, 30], "≥ 2")
    assert (row.ours, row.peer, row.ratio) == (20, 10, 3)


def test_of_durations_the_shorter_is_the_better() -> None:
    assert times_faster("a / b (ms)", [2, 2], [10, 10], "≥ 5").ratio == 5


@pytest.mark.parametrize(("ratio", "goal", "met"), [(2.0, "≥ 2.0", True), (1.9, "≥ 2.0", False), (56, "≤ 56", True), (1, "≤ 0", False)])
def test_a_goal_is_met_or_missed(ratio: float, goal: str, met: bool) -> None:
    assert alone("x", ratio, goal).met is met


def test_results_are_json_with_one_object_a_row(tmp_path: Path) -> None:
    rows = [Row("a / b", 4.0, 2.0, 2.0, "≥ 1.5"), alone("c (MB)", 3.0, "≤ 64")]
    results.write(rows, {"date": "2026-01-01"}, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "a / b", "ours": 4.0, "peer": 2.0, "ratio": 2.0, "goal": "≥ 1.5"},
        {"name": "c (MB)", "ours": 3.0, "peer": None, "ratio": 3.0, "goal": "≤ 64"},
    ]
    assert results.read(tmp_path / "results.json") == (rows, {"date": "2026-01-01"})


def test_the_table_says_which_goals_are_missed() -> None:
    lines = results.table([alone("kept", 1, "≥ 1"), alone("not kept", 0.5, "≥ 1")]).splitlines()
    assert "missed" not in lines[2]
    assert "missed" in lines[3]


def test_the_readmes_table_is_replaced_and_nothing_else() -> None:
    text = f"before\n{table.BEGIN}\nold \\1\n{table.END}\nafter"
    assert table.put_in(text, "new \\1") == f"before\n{table.BEGIN}\nnew \\1\n{table.END}\nafter"
    with pytest.raises(ValueError, match="there is no"):
        table.put_in("no marks", "new")


def test_the_readme_shows_the_results_that_are_kept_with_their_machine() -> None:
    readme = (results.RESULTS.parent.parent / "README.md").read_text()
    if not results.RESULTS.exists():
        pytest.skip("no results are kept")
    assert table.put_in(readme, table.section(*results.read())) == readme
