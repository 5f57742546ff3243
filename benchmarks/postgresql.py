"""A PostgreSQL of the bench's own, as Debian's package sets it up: nobody's server is loaded, and its settings are known."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.load import CannotMeasure


def programs() -> Path | None:
    """The folder of the newest PostgreSQL installed, None where there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    found = debian[-1] / "initdb" if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgreSQL:
    """One cluster; databases are made on demand."""

    def __init__(self, bench: Bench) -> None:
        folder = programs()
        if folder is None:
            raise CannotMeasure("PostgreSQL is needed: apt-get install postgresql")
        self._programs, self._port = folder, bench.port()
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        data = bench.folder / "postgresql"
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, user)
        made = subprocess.run(
            [folder / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8"],
            capture_output=True, text=True, user=user, cwd=data,
        )  # fmt: skip
        if made.returncode:
            raise CannotMeasure(f"initdb failed: {made.stderr.strip().splitlines()[-1:]}")
        command: list[str | Path] = [folder / "postgres", "-D", data, "-p", str(self._port), "-c", f"unix_socket_directories={data}"]
        bench.start(command, self._is_ready, user=user, cwd=data)

    def _is_ready(self) -> bool:
        return subprocess.run([self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]).returncode == 0

    def database(self, name: str) -> str:
        """A new database: its URL."""
        subprocess.run([self._programs / "createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", name], check=True)
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"
