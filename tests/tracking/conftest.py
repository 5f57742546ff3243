"""Running the command line: `cli` in this process and its test database, `program` as a process of its own on a fresh file."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import missing
from tracking.cli import base
from tracking.management.commands.tracking import Command


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(db: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A line as it is typed; `answers` is what stdin holds."""
    monkeypatch.setattr(base, "prepare", lambda: None)

    def run(line: str, answers: str = "") -> Ran:
        program, *args = shlex.split(line.replace("\\\n", " "))
        assert program == base.PROGRAM
        monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
        capsys.readouterr()
        status = base.run(Command(), args, base.PROGRAM)
        return Ran(status, *capsys.readouterr())

    return run


@dataclass
class Program:
    """Programs of this installation, on a SQLite file of their own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        database = {"TRACKING_DB_PATH": str(self.folder / "tracking.db"), "TRACKING_DATABASE_URL": "", "TRACKING_DATA_DIR": ""}
        paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
        environment = {**os.environ, **database, **paths}
        del environment["DJANGO_SETTINGS_MODULE"]
        return environment

    def unusable(self) -> dict[str, str]:
        """The environment with a database that cannot be: its folder is a file."""
        (self.folder / "file").touch()
        return {**self.environment, "TRACKING_DB_PATH": str(self.folder / "file" / "tracking.db")}

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"env": self.environment, "cwd": self.folder, "text": True, **pipes, **options}
        return subprocess.Popen(command, **options)

    def run(self, *command: str, answers: str = "", **options: Any) -> Ran:
        process = self.start(*command, **options)
        out, err = process.communicate(answers, timeout=60)
        return Ran(process.returncode, out, err)

    def type(self, line: str, answers: str = "", **options: Any) -> Ran:
        """A line as it is typed."""
        return self.run(*shlex.split(line), answers=answers, **options)

    def python(self, script: str, **options: Any) -> Ran:
        return self.run(sys.executable, "-W", "error", "-c", script, **options)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    try:
        metadata.distribution("email-tracking-service")
    except metadata.PackageNotFoundError:
        missing("the installed package (pip install -e .)")
    return Program(tmp_path)
