"""Everybody's first step: Django set up, the database there and as new as the code, the keys known.

    python -m tracking.prepare

does only that. An empty or missing SQLite database is made; an older one is copied and migrated, when no other process uses
it. PostgreSQL is never changed here: `python manage.py migrate` is the operator's to run.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import private
from tracking.conf import Conf

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("tracking.prepare")


class NotReady(RuntimeError):
    """The service cannot start, and why: one line for people, with the way out."""


class DatabaseAway(NotReady):
    """The database does not answer. What needs no database (pixels, signed links) can be served meanwhile."""


def start(migrate: bool = True) -> Conf:
    """Set Django up and make the database ready; with `migrate=False` only look whether it is. Raises NotReady.

    Costs one query when all is current.
    """
    conf = set_up()
    with _in_one_line(conf):
        if conf.database_url is None:
            _prepare_sqlite(conf.db_path, migrate)
            private.close_to_others(conf.db_path)  # a backup that was put in place may be open to everybody
        else:
            _check_postgresql()
        from tracking import keys

        keys.sync()
    return conf


def start_to_serve() -> Conf:
    """The same for a server, which starts without its database too, where it has the keys: pixels and signed links need no more."""
    from django.db import connections

    from tracking import keyfile

    try:
        conf = start()
    except DatabaseAway as error:
        conf = set_up()
        if not keyfile.read(conf.keys_file).link_keys:
            raise
        logger.warning("%s; pixels and signed links are served meanwhile", error)
    connections.close_all()  # a server may fork from here, and its threads have their own
    return conf


def set_up() -> Conf:
    """Set Django up, with our settings unless others are named. Raises NotReady for a setting that cannot be used."""
    import django
    from django.apps import apps
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
    try:
        django.setup()
        if not apps.is_installed("tracking"):
            raise NotReady(f"{os.environ['DJANGO_SETTINGS_MODULE']} lacks our apps: add 'campaigns' and 'tracking' to INSTALLED_APPS")
    except (ImproperlyConfigured, ValueError) as error:
        if "psycopg" in str(error):
            raise NotReady("PostgreSQL needs its driver: pip install 'psycopg[binary,pool]'") from None
        raise NotReady(_line(error)) from None
    conf: Conf = settings.CONF
    return conf


# -- where the schema stands


def _applied(connection: BaseDatabaseWrapper) -> list[tuple[str, str]]:
    """Applied migrations, in the order in which they were; empty where there is no such table."""
    from django.db import DatabaseError

    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT app, name FROM django_migrations ORDER BY id")
        except DatabaseError as error:
            if "no such table" in str(error) or getattr(error.__cause__, "sqlstate", "") == "42P01":  # undefined_table
                return []
            raise
        rows: list[tuple[str, str]] = cursor.fetchall()
        return rows


def _on_disk() -> set[tuple[str, str]]:
    """The migrations of the code, by file name: importing them all costs more than the rest of a command's start."""
    from django.apps import apps

    return {
        (app.label, file.stem)
        for app in apps.get_app_configs()
        for file in Path(app.path, "migrations").glob("*.py")
        if not file.stem.startswith("_")
    }


def _is_current(applied: list[tuple[str, str]]) -> bool:
    """Raises NotReady when the database was migrated by newer code."""
    code = _on_disk()
    latest: dict[str, str] = {}
    for app, name in code:
        latest[app] = max(name, latest.get(app, ""))
    for app, name in applied:
        if name > latest.get(app, name):
            raise NotReady(f"the database is of a newer version ({app}.{name}) than this program: update the program")
    return code <= set(applied)


# -- PostgreSQL


def _check_postgresql() -> None:
    from django.db import connection

    if not _is_current(_applied(connection)):
        raise NotReady("the PostgreSQL database is not migrated: run `python manage.py migrate`")


# -- SQLite


def _prepare_sqlite(path: Path, migrate: bool) -> None:
    from django.db import connection

    _check_writable(path)
    fresh = not path.exists() or path.stat().st_size == 0
    if not fresh and _is_current(_applied(connection)):
        return
    if not migrate:
        raise NotReady(f"{path} is not migrated: start the server, or run `python manage.py migrate`")
    connection.close()
    with connection.preparing():  # type: ignore[attr-defined]
        private.make_private_file(path)  # it holds the keys of links and sessions, and who was written to
        applied = _applied(connection)
        if applied and _is_current(applied):  # somebody else was faster
            return
        if applied:
            _migrate_older(connection, path)
        else:
            _refuse_foreign(connection, path)
            _migrate()


def _check_writable(path: Path) -> None:
    """SQLite's own words for these are hard to understand."""
    folder = path.parent
    try:
        private.make_folder(folder)
    except OSError as error:
        raise NotReady(f"TRACKING_DB_PATH: the folder {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotReady(f"the folder {folder} cannot be written: give this user the right to, or set TRACKING_DB_PATH")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise NotReady(f"{path} cannot be written: give this user the right to (chmod u+rw), or set TRACKING_DB_PATH")


def _refuse_foreign(connection: BaseDatabaseWrapper, path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' LIMIT 1")
        if row := cursor.fetchone():
            raise NotReady(f"{path} is the database of something else (it has a table {row[0]!r}): set TRACKING_DB_PATH to another file")


def _migrate_older(connection: BaseDatabaseWrapper, path: Path) -> None:
    connection.close()
    with connection.sole_user() as alone:  # type: ignore[attr-defined]
        if not alone:
            raise NotReady(f"{path} is of an older version and in use by another process: stop that, then start again")
        copy = _copy(connection, path)
        _migrate()
        logger.info("migrated %s; as it was before it is in %s", path, copy.name)
        connection.close()  # so that its next connection says again that it uses the database


def _copy(connection: BaseDatabaseWrapper, path: Path) -> Path:
    app, name = _applied(connection)[-1]
    target = path.with_name(f"{path.name}.before-{app}.{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    partial = target.with_name(f"{target.name}.part")
    try:
        private.make_private_file(partial)  # it holds addresses of people; the mode of the database comes when it is whole
        with closing(sqlite3.connect(partial)) as copy:
            connection.connection.backup(copy)
        shutil.copymode(path, partial)
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise NotReady(f"{path} is of an older version and could not be copied before its migration: {_line(error)}") from None
    return target


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


# -- what people read


@contextmanager
def _in_one_line(conf: Conf) -> Iterator[None]:
    """Turn what databases and files raise into one line."""
    from django.db import DatabaseError, InterfaceError, OperationalError

    database = "the PostgreSQL database" if conf.database_url else str(conf.db_path)
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        text = _line(error)
        refused = "FATAL:" in text and not re.search("starting up|shutting down|too many|remaining connection", text)
        if re.search("locked|locking protocol", text) or (conf.database_url and not refused):
            raise DatabaseAway(f"{database} does not answer: {text}") from None
        raise NotReady(f"{database} cannot be used: {text}") from None
    except DatabaseError as error:
        if "not a database" in str(error):
            raise NotReady(f"{database} is no SQLite database: set TRACKING_DB_PATH to another file, or move it away") from None
        raise NotReady(f"{database} cannot be used: {_line(error)}") from None
    except OSError as error:
        raise NotReady(f"{error.filename or conf.keys_file} cannot be used: {error.strerror or error}") from None
    except ValueError as error:  # the keys file
        raise NotReady(_line(error)) from None


def _line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()


def main(arguments: list[str]) -> int:
    try:
        if "--to-serve" in arguments:
            start_to_serve()
        else:
            start()
    except NotReady as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
