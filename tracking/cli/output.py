"""How commands print: tables, JSON, notes, progress, and a question before what cannot be undone."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: What a terminal could take for an order, or a reader for other text: control characters, direction marks, lone surrogates.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
PROGRESS_SECONDS = 5.0
#: Characters of a long text that a table shows. A user agent has up to 1,024 and a target 8,000; one such cell makes every line as wide.
TEXT_SHOWN = 200
#: What stands where there is no value.
NOTHING = "-"


def clean(text: object) -> str:
    """A text on one line that a terminal shows and does not obey."""
    return _UNSAFE.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def say(text: str = "") -> None:
    """A line of the result."""
    print(text)


def note(text: str) -> None:
    """A line about the result, beside it: on stderr, so that a pipe carries the result alone."""
    print(clean(text), file=sys.stderr)


def error(text: str, program: str = "error: ") -> None:
    """The one line that says what went wrong."""
    print(program + clean(" ".join(text.split())), file=sys.stderr)


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(re.sub(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text))


def moment(value: dt.datetime | None) -> str:
    """A time as tables show it, UTC; a dash for none."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def short(text: str | None, most: int = TEXT_SHOWN) -> str | None:
    """A text as a table shows it, in a pipe too: the cut is marked, and `--json` has all of it."""
    return text if text is None or len(text) <= most else text[: most - 1] + "…"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), shorten: str = "") -> str:
    """Rows under heads, ruled. `right` names columns of numbers; the column `shorten` gives way where a terminal is too narrow."""
    import tabulate

    cells = [[NOTHING if value is None else clean(value) for value in row] for row in rows]
    if shorten:
        _fit(heads, cells, list(heads).index(shorten))
    tabulate.MIN_PADDING = 0  # heads as wide as they are
    text: str = tabulate.tabulate(
        cells,
        heads,
        tablefmt="fancy_grid" if _draws_lines() else "grid",
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=["right" if head in right else "left" for head in heads] if cells else None,
    )
    return text


def _draws_lines() -> bool:
    try:
        "╒│".encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def campaign_table(rows: Sequence[tuple[int, str, int, int, int, int, int, float, float, float]]) -> str:
    """Rows of id, name, total, sent, opened, clicked, bounced, and the rates of opens, clicks and bounces in per cent."""
    heads = ["ID", "Name", "Total", "Sent", "Opened", "Clicked", "Bounced", "Open % ", "Click", "Bounce"]
    cells = [
        (pk, pad(clean(name), 18), *counts, f"{open_rate:.1f}", f"{click_rate:.1f}", f"{bounce_rate:4.1f}")
        for pk, name, *counts, open_rate, click_rate, bounce_rate in rows
    ]
    return table(heads, cells, right=["ID", "Total", "Sent", "Opened", "Clicked", "Bounced"], shorten="Name")


def counted(number: int, thing: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def size(count: int) -> str:
    """Bytes as people read them: `999 bytes`, `1.0 kB`, `82.1 GB`; units of a thousand, as disks are sold."""
    if count < 1000:
        return counted(count, "byte")
    number, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if number < 999.95:  # else it would be written 1000.0
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}"


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Names and values, a line each."""
    wide = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name + ':':<{wide + 2}}{NOTHING if value is None else clean(value)}" for name, value in pairs)


def width(text: str) -> int:
    """Columns that a text takes: two for each wide character."""
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def pad(text: str, columns: int) -> str:
    return text + " " * max(0, columns - width(text))


def cut(text: str, columns: int) -> str:
    """A text in no more than so many columns, the cut marked."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def _fit(heads: Sequence[str], cells: list[list[str]], column: int) -> None:
    """Shorten one column until its table fits the terminal; whoever reads through a pipe gets it as it is."""
    if not cells or not sys.stdout.isatty():
        return
    others = sum(max(width(text) for text in (head, *(row[i] for row in cells))) for i, head in enumerate(heads) if i != column)
    room = max(shutil.get_terminal_size().columns - others - 3 * len(heads) - 1, 18)
    for row in cells:
        row[column] = cut(row[column].rstrip(), room) if width(row[column]) > room else row[column]


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told of each further step. A bar where stderr is a terminal, else a line every few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps: bar.advance(task, steps)
        return
    done, due = 0, time.monotonic() + PROGRESS_SECONDS

    def advance(steps: int) -> None:
        nonlocal done, due
        done += steps
        if time.monotonic() >= due:
            note(f"{label}: {done}" + (f" of {total}" if total is not None else ""))
            due = time.monotonic() + PROGRESS_SECONDS

    yield advance


def confirm(question: str) -> bool:
    """Ask on stderr and read the answer from stdin, terminal or not. The end of the input means no."""
    print(f"{clean(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin else ""
    if not (answer.endswith("\n") and sys.stdin.isatty()):  # no key press ended the line
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")
