"""`manage.py tracking`: the same tree as `email-tracking-cli`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from django_typer.management import initialize

from tracking.cli import campaign, event, ingest, maintenance, message, report
from tracking.cli.base import Root, TreeCommand
from tracking.cli.completion import install_completion, show_completion, show_version


class Command(TreeCommand, rich_markup_mode=None):
    help = "Email tracking: what happened to every message."

    @initialize(cls=Root)
    def root(
        self,
        version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")] = False,
        install: Annotated[
            bool, typer.Option("--install-completion", callback=install_completion, is_eager=True, help="Set up the shell's Tab key.")
        ] = False,
        show: Annotated[
            bool,
            typer.Option("--show-completion", callback=show_completion, is_eager=True, help="Print what that would set up."),
        ] = False,
    ) -> Any:
        pass


for group in (campaign.group, message.group, report.group, event.group, ingest.group, maintenance.group):
    Command.typer_app.add_typer(group)
