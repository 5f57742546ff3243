"""The reference of commands in `docs/cli.md`, made from the commands themselves.

    python -m tests.tracking.cli_reference

writes it again; a test fails while it is not current.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
MARK = "<!-- What follows is made from the commands: python -m tests.tracking.cli_reference -->"


def commands() -> Iterator[tuple[list[str], Any, Any]]:
    """Every group and command of the tree: its path, itself, its context."""
    from django_typer.management import Context, get_typer_command

    from tracking.cli.base import PROGRAM
    from tracking.management.commands.tracking import Command

    def walk(command: Any, path: list[str], parent: Any) -> Iterator[tuple[list[str], Any, Any]]:
        context = Context(command, info_name=path[-1], parent=parent, django_command=django_command, terminal_width=100)
        yield path, command, context
        for name, each in getattr(command, "commands", {}).items():
            yield from walk(each, [*path, name], context)

    django_command = Command()
    yield from walk(get_typer_command(Command.typer_app), [PROGRAM], None)


def page() -> str:
    """The page as it should be: what people wrote up to the mark, then every command's help."""
    head = PAGE.read_text().partition(MARK)[0]
    parts = [head + MARK]
    for path, command, context in commands():
        if hasattr(command, "commands"):
            parts.append(f"## {' '.join(path[1:])}\n\n{command.help}" if path[1:] else f"## Commands\n\n```\n{_help(context)}\n```")
        else:
            parts.append(f"### {' '.join(path[1:])}\n\n```\n{_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def _help(context: Any) -> str:
    return "\n".join(line.rstrip() for line in context.get_help().splitlines())


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    PAGE.write_text(page())
