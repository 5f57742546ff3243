"""What every command stands on: one tree for `email-tracking-cli` and `manage.py tracking`, its errors and exit statuses.

A group is a module that makes one with `new_group()` and adds commands to it; `tracking.management.commands.tracking` hangs
the groups of this room into the tree. A higher room adds a group of its own as a django-typer plugin: a package with a module
named `tracking` in it (`trackingsite/access/cli/tracking.py`),

    from tracking.cli.base import Json, new_group
    from tracking.management.commands.tracking import Command

    key = new_group("key", "API keys.")

    @key.command("list")
    def list_keys(as_json: Json = False) -> None:
        \"""What stands in the help.\"""

    Command.typer_app.add_typer(key)

which its AppConfig names, so that nothing of it is imported before the tree is built:

    def ready(self) -> None:
        from django_typer.utils import register_command_plugins
        from trackingsite.access import cli

        register_command_plugins(cli, ["tracking"])

Exit statuses: 0 done, 1 failed, 2 not understood, 130 interrupted. What went wrong is one line on stderr. A command raises
`Refused` or `Failed`; it prints with `tracking.cli.output`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django_typer.management import DTCommand, DTGroup, Typer, TyperCommand, get_typer_command
from typer._click.exceptions import ClickException, UsageError

from campaigns.rules import Refused
from tracking.cli import output

PROGRAM = "email-tracking-cli"
COMPLETE_VARIABLE = "_EMAIL_TRACKING_CLI_COMPLETE"
SIGPIPE_STATUS, INTERRUPTED_STATUS = 141, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")]
Offset = Annotated[int, typer.Option(min=0, max=1_000_000_000, help="Leave out so many first.")]
CampaignId = Annotated[int, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]
MessageId = Annotated[int, typer.Argument(metavar="MESSAGE", help="The message's id.")]


class Failed(Exception):
    """A command that cannot do what it is for. The text is one line for whoever called it."""


class Leaf(DTCommand):
    """A command. It is only called when its line was understood, so neither `--help` nor a slip touches the database."""

    #: Whether it sees every hit that was answered before it began.
    drains = True

    def invoke(self, ctx: Any) -> Any:
        prepare()
        if self.drains:
            drain()
        return super().invoke(ctx)


class Undrained(Leaf):
    """A command that shows nothing a hit could change, or has to do with the spool itself."""

    drains = False


class Root(DTGroup):
    """The tree's root, without Django's own options: see `split_options`."""

    def common_params(self) -> list[Any]:
        return []


class Group(Typer):
    """A group whose commands are leaves."""

    def command(  # type: ignore[override]
        self, name: str | None = None, *, cls: type[DTCommand] = Leaf, **settings: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return super().command(name, cls=cls, **settings)


def new_group(name: str, help: str) -> Group:  # noqa: A002
    """A group of commands. (Made in a function: a Typer made at the top of a module becomes a command of Django's.)"""
    return Group(name=name, help=help)


def prepare() -> None:
    """Make the database usable: an empty one is made, an older one migrated. Raises NotReady."""
    from tracking.prepare import start

    start()


def drain() -> None:
    """Apply what the spool holds, for a quarter of a second at most; say so when that was not enough."""
    from tracking.ingest.drain import READ_BUDGET
    from tracking.ingest.drain import drain as drain_spool

    if left := drain_spool(READ_BUDGET):
        output.note(f"{left} bytes of hits are not counted yet; `{PROGRAM} ingest drain` takes them in")


class TreeCommand(TyperCommand, rich_markup_mode=None):
    """A Django command that reads its line, and fails, as a program of its own."""

    requires_system_checks = []
    requires_migrations_checks = False
    #: Django's own options are manage.py's: they are taken off the line before the tree reads it, see `split_options`.
    suppressed_base_arguments = {
        "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks",
        "show_locals", "hide_locals",
    }  # fmt: skip

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        sys.exit(run(self, argv[2:], f"{os.path.basename(argv[0])} {argv[1]}"))  # noqa: PTH119


def split_options(args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Django's options, which may stand anywhere, and the rest of the line. Raises CommandError."""
    parser = CommandParser(add_help=False, allow_abbrev=False)
    for name in ("--settings", "--pythonpath"):
        parser.add_argument(name)
    parser.add_argument("-v", "--verbosity")
    for name in ("traceback", "no-color", "force-color", "skip-checks"):
        parser.add_argument(f"--{name}", action="store_true")
    end = args.index("--") if "--" in args else len(args)
    options, rest = parser.parse_known_args(args[:end])
    return options, rest + args[end:]


def run(command: TyperCommand, args: list[str], program: str) -> int:
    """Carry out a line. Returns the exit status; what went wrong is on stderr."""
    status = 1
    try:
        options, args = split_options(args)
        status = _run(command, args, program, show_traceback=options.traceback)
        sys.stdout.flush()
    except CommandError as error:  # of split_options
        output.error(f"{program}: {str(error).removeprefix('Error: ')}", program="")
        return 2
    except BrokenPipeError:
        status = _silence(SIGPIPE_STATUS)
    except OSError as error:  # of the flush: a full disk
        output.error(_reason(error))
        status = _silence(1)
    return status


def _run(command: TyperCommand, args: list[str], program: str, *, show_traceback: bool) -> int:
    tree = get_typer_command(command.typer_app)
    if COMPLETE_VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
        tree.main(args, prog_name=program, complete_var=COMPLETE_VARIABLE, django_command=command)
    try:
        with tree.make_context(program, list(args), django_command=command) as ctx:
            tree.invoke(ctx)
    except typer.Exit as exit_:
        return exit_.exit_code
    except UsageError as error:
        output.error(_usage(error), program="")
        return 2
    except (typer.Abort, EOFError):
        output.error("aborted")
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        raise
    except Exception as error:
        if show_traceback:
            raise
        output.error(_reason(error))
    else:
        return 0
    return 1


def _reason(error: Exception) -> str:
    """One line that says what went wrong."""
    from tracking.prepare import NotReady

    if isinstance(error, Failed | Refused | NotReady | CommandError | ImproperlyConfigured):
        return str(error)
    if isinstance(error, ClickException):
        return error.format_message()
    if isinstance(error, DatabaseError | InterfaceError):
        return f"the database cannot be used: {error}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    return f"this should not happen: {type(error).__name__}: {error} (--traceback shows where)"


def _usage(error: UsageError) -> str:
    where = error.ctx.command_path if error.ctx else PROGRAM
    if error.format_message() == "Missing command.":
        command = error.ctx.command if error.ctx else None
        known = ", ".join(name for name, each in getattr(command, "commands", {}).items() if not each.hidden)
        return f"{where}: which command? {known}"
    return f"{where}: {error.format_message()} (--help explains)"


def _silence(status: int) -> int:
    """Nobody reads our output any more: keep the interpreter's last flush from saying so."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2) if status == SIGPIPE_STATUS else (1,):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return status
