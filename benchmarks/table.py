"""python -m benchmarks.table: writes the last results into README.md, between its two marks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks import results
from tracking.conf import PROJECT_ROOT

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def section(rows: list[results.Row], machine: dict[str, str]) -> str:
    """The table for people, with the day and the machine it is of."""
    lines = ["| what | ours | beside it | ratio |", "|---|--:|--:|--:|"]
    for row in rows:
        ratio = "" if row.peer is None else f"**{results.shown(row.ratio)}**"
        lines.append(f"| {row.name} | {results.shown(row.ours)} | {results.shown(row.peer) if row.peer is not None else ''} | {ratio} |")
    about = f"{machine['date']}, {machine['cpu']}, {machine['system']}, load average before: {machine['load before']}."
    return "\n".join([about, "", *lines])


def put_in(text: str, table: str) -> str:
    """The text with the table between its marks. Raises ValueError when it has none."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"there is no {BEGIN} … {END} in it")
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL)


def main(readme: Path) -> int:
    try:
        readme.write_text(put_in(readme.read_text(), section(*results.read())))
    except (OSError, ValueError) as error:
        print(f"{readme.name} stays as it is: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(PROJECT_ROOT / "README.md"))
