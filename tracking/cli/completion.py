"""The tree's own options: its version, and the shell's Tab key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from tracking.cli import base, output

SHELLS = ("bash", "zsh", "fish")


def show_version(ctx: Any, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from django.conf import settings

    output.say(f"{base.PROGRAM} {settings.SPECTACULAR_SETTINGS['VERSION']}")
    raise typer.Exit


def show_completion(ctx: Any, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from typer._completion_shared import get_completion_script

    output.say(get_completion_script(prog_name=base.PROGRAM, complete_var=base.COMPLETE_VARIABLE, shell=_shell()))
    raise typer.Exit


def install_completion(ctx: Any, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from typer._completion_shared import install

    shell, path = install(shell=_shell(), prog_name=base.PROGRAM, complete_var=base.COMPLETE_VARIABLE)
    output.say(f"Installed for {shell} in {path}; it works in the next shell you open")
    raise typer.Exit


def _shell() -> str:
    """The shell that called, else the user's own."""
    import shellingham  # type: ignore[import-untyped]  # typer brings it

    try:
        shell: str = shellingham.detect_shell()[0]
    except (shellingham.ShellDetectionFailure, OSError):
        shell = ""
    if shell not in SHELLS:
        shell = Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise base.Failed(f"which shell is this? Run it in {', '.join(SHELLS)}, or with SHELL=/bin/bash before it")
    return shell
