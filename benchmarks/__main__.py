"""`make bench`: ours and what stands beside it, in alternating rounds, as a table of ratios."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import export, hits, ingest, reads, results, sustained, together, webhook
from benchmarks.bench import Bench, new_bench
from benchmarks.load import CannotMeasure

Piece = Callable[[Bench], list[results.Row]]

PIECES: dict[str, Piece] = {
    "pixel": hits.pixel,
    "fsync": hits.fsync,
    "redirect": hits.redirect,
    "proxied": hits.proxied,
    "nginx": hits.nginx_log,
    "sustained": sustained.sustained,
    "ingest": ingest.ingest,
    "storage": ingest.storage,
    "webhook": webhook.webhook,
    "reads": reads.reads,
    "export": export.export,
    "writes": together.writes,
    "readers": together.readers,
}
#: A load average above this, before the start, means that somebody else is at work: the run says nothing.
BUSY = 2.0


def machine(load_before: float) -> dict[str, str]:
    """What a reader must know to judge the figures."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{os.cpu_count()} × {cpu}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": f"{load_before:.2f}",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"all without: {' '.join(PIECES)}")
    parser.add_argument("--output", type=Path, default=results.RESULTS, help="where results go as JSON (%(default)s)")
    options = parser.parse_args(arguments)
    if unknown := set(options.pieces) - set(PIECES):
        parser.error(f"{min(unknown)} is no piece: {' '.join(PIECES)}")
    seconds, rounds, messages = (
        _number(parser, *setting) for setting in (("BENCH_SECONDS", 3), ("BENCH_ROUNDS", 5), ("BENCH_MESSAGES", 1_000_000))
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)

    load_before = os.getloadavg()[0]
    print(f"Load average before: {load_before:.2f}. {rounds} rounds, {seconds} s each.", flush=True)
    void = f"The load average was {load_before:.2f} before the start, above {BUSY}: this run is void." if load_before > BUSY else ""
    if void:
        print(void)
    rows: list[results.Row] = []
    failed = []
    try:
        for name in options.pieces or PIECES:
            began = time.monotonic()
            try:
                with new_bench(seconds, rounds, messages) as bench:
                    rows += PIECES[name](bench)
                print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
            except CannotMeasure as error:
                failed.append(f"{name}: {error}")
                print(f"  {failed[-1]}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    if rows:
        print(f"\n{results.table(rows)}\n")
        results.write(rows, machine(load_before), options.output)
        print(f"Written to {options.output}.")
    for line in (*failed, void):
        if line:
            print(line, file=sys.stderr)
    return 1 if failed else 0


def _number(parser: argparse.ArgumentParser, name: str, default: int) -> int:
    text = os.environ.get(name, "") or str(default)
    if not text.isdecimal() or int(text) < 1:
        parser.error(f"{name} must be a whole number from 1 on, not {text!r}")
    return int(text)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
