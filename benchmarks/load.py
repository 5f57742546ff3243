"""The load generator: wrk, one thread, 32 connections kept alive."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
_SCRIPT = Path(__file__).with_name("wrk.lua")


class CannotMeasure(RuntimeError):
    """Something is missing or broken: one line for people."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run got. `seconds` is how long it was, `p99` a latency in seconds."""

    answered: int
    seconds: float
    broken: int  # connections and time-outs
    refused: int  # statuses of 400 and more
    p99: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


def need(program: str, package: str) -> str:
    """The path of a program. Raises CannotMeasure, naming the Debian package that has it."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise CannotMeasure(f"{program} is needed: apt-get install {package}")
    return path


def load(url: str, seconds: float, *, paths: Path | None = None, waiting: float = 0.0, wait_ms: int = 1) -> Answers:
    """Ask for `url` as fast as it answers, for `seconds` (whole ones; at least 1).

    With `paths`, a file of paths, one a line, for those in turn. A share `waiting` of the requests waits `wait_ms` first.
    Raises CannotMeasure when anything but a good answer came: a run in which something failed measures nothing.
    """
    command = [need("wrk", "wrk"), "-t1", "--timeout", "10s", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(_SCRIPT), url]
    command += ["--", str(waiting), str(wait_ms), *([str(paths)] if paths else [])]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        raise CannotMeasure(f"wrk {url} failed: {(run.stderr or run.stdout).strip().splitlines()[-1:]}")
    answers = Answers(**json.loads(lines[0]))
    if answers.broken or answers.refused or not answers.answered:
        raise CannotMeasure(f"{url}: {answers.answered} answers, {answers.broken} broken connections, {answers.refused} refusals")
    return answers
