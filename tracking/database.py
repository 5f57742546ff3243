"""`Database`: campaigns and messages from Python, in a script, in a notebook and in threads and children of either.

    from tracking import Database

    db = Database()
    campaign_id = db.create_campaign("Weekly Newsletter")
    message_id = db.create_message(campaign_id=campaign_id, recipient_email="user@example.com")
    db.update_message_sent(message_id)

It works on the database itself, by the same settings as the server, and sets Django up on its first use. What is refused
raises `ValueError` (`campaigns.rules.Refused`) with a sentence and its HTTP status; a service that is not ready raises
`tracking.prepare.NotReady`, a `RuntimeError`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
When = dt.datetime | str | None

_starting = threading.Lock()
_started = False
#: Where calls are made for a thread that runs an event loop: Django refuses to wait for a database there.
_aside: ThreadPoolExecutor | None = None
#: Connections that a child inherited. They are its parent's: kept, so that nothing closes them.
_inherited: list[object] = []


def _call(method: Callable[Concatenate[Database, P], R]) -> Callable[Concatenate[Database, P], R]:
    """Let a method be called from anywhere, an event loop's own thread too (it waits there, as any other code does)."""

    @wraps(method)
    def call(self: Database, /, *args: P.args, **kwargs: P.kwargs) -> R:
        def work() -> R:
            from django.db import close_old_connections, connection

            if not connection.in_atomic_block:
                close_old_connections()  # one that the server has dropped is opened again
            return method(self, *args, **kwargs)

        return _beside_event_loop(work)

    return call


def _beside_event_loop(work: Callable[[], R]) -> R:
    global _aside
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with _starting:
        _aside = _aside or ThreadPoolExecutor(1, thread_name_prefix="tracking-database")
    return _aside.submit(work).result()


class Database:
    """The service's database. Cheap to make; one serves all threads of a process, and those of its children."""

    def __init__(self, path: str | Path | None = None) -> None:
        """By the settings; or a SQLite file at `path`, as long as this process uses no other. Raises RuntimeError."""
        if path is not None and "://" in str(path):
            raise ValueError(f"{path} is no path of a file; a server elsewhere is reached by its HTTP API, see {path}/api/docs")
        _beside_event_loop(lambda: _start(path))

    # -- campaigns

    @_call
    def create_campaign(
        self, name: str, template_id: int | None = None, tags: list[str] | None = None, metadata: dict[str, Any] | None = None
    ) -> int:
        """Make a campaign; returns its id."""
        from campaigns import lifecycle

        return lifecycle.create_campaign(name, template_id, tags, metadata).pk

    @_call
    def get_campaign(self, campaign_id: int) -> dict[str, Any]:
        """A campaign with its metrics, as the API answers it."""
        from tracking import by_id

        _drain()
        return _campaigns([by_id.campaign(campaign_id)])[0]

    @_call
    def get_campaigns(self, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """Campaigns, newest first, archived ones too."""
        from campaigns import queries

        _drain()
        return _campaigns(list(queries.campaigns()[_slice(limit, offset)]))

    @_call
    def get_campaign_messages(self, campaign_id: int, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """Messages of a campaign, oldest first."""
        from campaigns import records
        from campaigns.models import Message
        from tracking import by_id

        _drain()
        found = Message.objects.of_campaign(by_id.campaign(campaign_id).pk).order_by("id")
        return [records.message_record(message) for message in found[_slice(limit, offset)]]

    @_call
    def delete_campaign(self, campaign_id: int) -> None:
        """Delete a campaign with its messages and events."""
        from campaigns import lifecycle
        from tracking import by_id

        lifecycle.delete_campaign(by_id.campaign(campaign_id))

    # -- messages

    @_call
    def create_message(
        self,
        campaign_id: int | None = None,
        recipient_email: str = "",
        tracking_token: str | None = None,
        template_id: int | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> int:
        """Make a message, before it is sent; returns its id. Without a campaign it goes to the one named `default`."""
        from campaigns import lifecycle

        return lifecycle.create_message(recipient_email, campaign_id, tracking_token, template_id, tags, metadata).pk

    @_call
    def create_messages(self, messages: Iterable[Mapping[str, Any]]) -> list[int]:
        """Make up to 10,000 messages, all or none, each with the arguments of `create_message`; returns their ids in that order."""
        from campaigns import lifecycle

        return [message.pk for message in lifecycle.create_messages(messages)]

    @_call
    def get_message(self, message_id: int) -> dict[str, Any]:
        """A message with its state, as the API answers it."""
        from campaigns import records
        from tracking import by_id

        _drain()
        return records.message_record(by_id.message(message_id))

    # -- marks: what happened to a message; `at` is now unless given, UTC unless it has a zone

    def update_message_sent(self, message_id: int, at: When = None) -> None:
        self._mark("sent", message_id, at)

    def update_message_delivered(self, message_id: int, at: When = None) -> None:
        self._mark("delivered", message_id, at)

    def update_message_opened(self, message_id: int, at: When = None) -> None:
        self._mark("opened", message_id, at)

    def update_message_clicked(self, message_id: int, at: When = None, url: str | None = None) -> None:
        self._mark("clicked", message_id, at, url=url)

    def update_message_bounced(
        self,
        message_id: int,
        reason: str | None = None,
        bounce_type: str = "permanent",
        bounce_subtype: str | None = None,
        diagnostic_code: str | None = None,
        at: When = None,
    ) -> None:
        """`bounce_type` is `permanent` or `temporary`; bounces are counted by their `reason`."""
        self._mark(
            "bounced", message_id, at,
            reason=reason, bounce_type=bounce_type, bounce_subtype=bounce_subtype, diagnostic_code=diagnostic_code,
        )  # fmt: skip

    @_call
    def _mark(self, kind: str, message_id: int, at: When, /, **details: str | None) -> None:
        from campaigns.events import EventKind
        from tracking import by_id

        by_id.mark("python", EventKind(kind), message_id, at, **details)

    # -- addresses for mails

    @_call
    def pixel_url(self, token: str) -> str:
        """The address of a message's pixel, for an `img` in its mail."""
        from tracking import links

        return links.pixel_url(token)

    @_call
    def link_url(self, token: str, url: str, position: str = "") -> str:
        """The signed address that counts a click and leads to `url`. `position` tells two links of a mail to one place apart."""
        from tracking import links

        return links.link_url(token, url, position=position)


def _start(path: str | Path | None) -> None:
    """Set Django up and the database ready, once a process. Raises RuntimeError (NotReady is one)."""
    global _started
    from django.apps import apps
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    from tracking import prepare

    with _starting:
        if path is not None and not settings.configured:
            os.environ["TRACKING_DB_PATH"] = str(Path(path).expanduser().absolute())
        if not _started:
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
            try:
                lacking = _lacking()
                if not (lacking or apps.ready):
                    settings.LOGGING_CONFIG = None  # the caller's logging is the caller's
            except ImproperlyConfigured as error:
                raise prepare.NotReady(str(error)) from None
            if lacking:
                raise RuntimeError(
                    f"this Django project ({settings.SETTINGS_MODULE if hasattr(settings, 'SETTINGS_MODULE') else 'settings.configure'})"
                    f" lacks what tracking needs: {'; '.join(lacking)}. The other way is the HTTP API of a tracking server"
                )
            prepare.start()
            _started = True
    if path is not None:
        _check_path(Path(path).expanduser().absolute().resolve())


def _lacking() -> list[str]:
    """What the settings of another Django project would have to have; nothing where they are ours."""
    from django.conf import settings

    apps = [name for name in ("campaigns", "tracking") if not any(app.split(".")[0] == name for app in settings.INSTALLED_APPS)]
    lacking = [f"{' and '.join(map(repr, apps))} in INSTALLED_APPS"] if apps else []
    if not hasattr(settings, "CONF"):
        lacking.append("CONF = tracking.conf.Conf()")
    if not hasattr(settings, "TRACKING_STORE_IP"):
        lacking.append("TRACKING_STORE_IP = CONF.store_ip")
    engines = ("trackingsite.sqlite", "trackingsite.postgresql", "django.db.backends.postgresql")
    if settings.DATABASES.get("default", {}).get("ENGINE") not in engines:
        lacking.append("'trackingsite.sqlite' or PostgreSQL as the database's ENGINE")
    return lacking


def _check_path(path: Path) -> None:
    from django.conf import settings

    if settings.CONF.database_url is not None:
        raise RuntimeError(f"TRACKING_DATABASE_URL is set and wins over {path}; unset it, or leave the path out")
    if settings.CONF.db_path != path:
        raise RuntimeError(f"this process works on {settings.CONF.db_path} and can on no other; for {path} start another")


def _drain() -> None:
    """Take in what was hit before this read."""
    from tracking.ingest.drain import READ_BUDGET, drain

    drain(READ_BUDGET)


def _campaigns(campaigns: list[Any]) -> list[dict[str, Any]]:
    from campaigns import queries, records

    numbers = queries.campaign_metrics(campaigns)
    return [records.campaign_record(campaign, numbers[campaign.pk]) for campaign in campaigns]


def _slice(limit: Any, offset: Any) -> slice:
    from campaigns.rules import Refused

    for name, value in (("limit", limit), ("offset", offset)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            raise Refused(f"{name} is a whole number from 0 on", field=name)
    return slice(offset, offset + limit)


def _after_fork() -> None:
    """A child opens connections of its own, and has none of its parent's threads."""
    global _aside, _starting
    _aside, _starting = None, threading.Lock()
    if _started:
        from django.db import connections

        for connection in connections.all(initialized_only=True):
            _inherited.append(connection.connection)
            connection.connection = None


os.register_at_fork(after_in_child=_after_fork)
