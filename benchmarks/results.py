"""What was measured: rows with their goals, as a table and as JSON."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tabulate import tabulate

RESULTS = Path(__file__).with_name("results.json")
MACHINE = Path(__file__).with_name("machine.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `name` says what was measured, against what and in which unit. `ratio` is what `goal` ("≥ 2.0", "≤ 56") is about: how many
    times better ours is, or, where nothing stands beside it (`peer` is None), the figure itself.
    """

    name: str
    ours: float
    peer: float | None
    ratio: float
    goal: str

    @property
    def met(self) -> bool:
        sign, _, bound = self.goal.partition(" ")
        return bool({"≥": operator.ge, "≤": operator.le}[sign](self.ratio, float(bound)))


def paired(name: str, ours: Sequence[float], peer: Sequence[float], goal: str) -> Row:
    """A row from paired rounds: medians of both, and the median of the rounds' ratios, ours by the peer's."""
    return Row(name, median(ours), median(peer), median(a / b for a, b in zip(ours, peer, strict=True)), goal)


def times_faster(name: str, ours: Sequence[float], peer: Sequence[float], goal: str) -> Row:
    """The same of durations: the ratio is the peer's by ours."""
    return Row(name, median(ours), median(peer), median(b / a for a, b in zip(ours, peer, strict=True)), goal)


def alone(name: str, value: float, goal: str) -> Row:
    """A row without a peer: the figure itself has a goal."""
    return Row(name, value, None, value, goal)


def shown(value: float | None) -> str:
    """Three digits that count, thousands apart."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def table(rows: Sequence[Row]) -> str:
    lines = [(row.name, shown(row.ours), shown(row.peer), shown(row.ratio), row.goal, "" if row.met else "missed") for row in rows]
    heads = ("what", "ours", "peer", "ratio", "goal", "")
    return str(tabulate(lines, heads, disable_numparse=True, colalign=("left", *["right"] * 4, "left")))


def write(rows: Sequence[Row], machine: dict[str, str], results: Path = RESULTS) -> None:
    """`results.json`, and beside it what machine that was."""
    text = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
    results.write_text(text + "\n")
    results.with_name(MACHINE.name).write_text(json.dumps(machine, indent=1, ensure_ascii=False) + "\n")


def read(results: Path = RESULTS) -> tuple[list[Row], dict[str, str]]:
    rows = [Row(**row) for row in json.loads(results.read_text())]
    return rows, json.loads(results.with_name(MACHINE.name).read_text())
