"""What is timed without a server runs in a process of its own, with Django on a database of its own.

    python -m benchmarks.child benchmarks.reads:measure '{"messages": 1000}'

is how the bench starts it: the function's answer as JSON on standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.load import CannotMeasure
from tracking.conf import PROJECT_ROOT


def run_python(module: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """`python -m module …` to its end: its standard output. Raises CannotMeasure with the last line of its errors."""
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=PROJECT_ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if run.returncode:
        raise CannotMeasure(f"{module} failed: {(run.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return run.stdout


def run_child(function: str, environment: Mapping[str, str], **arguments: Any) -> Any:
    """Call `module:function` with these arguments on the service's database; both ways as JSON."""
    return json.loads(run_python("benchmarks.child", function, json.dumps(arguments), environment=environment))


def main(function: str, arguments: str) -> None:
    from django.core.management import call_command

    from tracking.conf import Conf
    from tracking.prepare import set_up, start

    if Conf().database_url:
        set_up()
        call_command("migrate", verbosity=0)
    start()
    module, _, name = function.partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
